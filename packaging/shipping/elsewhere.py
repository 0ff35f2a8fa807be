"""Makes the package of another Debian release, in a directory tree of it (CONTRIBUTING.md, "The other Debian release").

The tree is not changed: what happens in it happens in an overlay.  It has the network of this host, for pip.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

from shipping import ROOT, tree

_BUILD: Final = "cd / && exec python3 -m shipping deb --output /mnt/output --wheels /mnt/wheels"
_OF_PIP: Final = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl")
"""What pip of this host needs to reach its registry."""


def build(lower: Path, output: Path, wheels: Path) -> None:
    """Build the package of the release in the directory `lower`; root alone can.  Raises CalledProcessError."""
    for directory in (output, wheels):
        directory.mkdir(parents=True, exist_ok=True)
    here = [ROOT, output.resolve(), wheels.resolve(), *(Path(name) for name in _OF_PIP), *_directories()]
    binds = [path for path in here if path.exists()]
    words = [
        "sh",
        "-c",
        _BUILD.replace("/mnt/output", str(output.resolve())).replace("/mnt/wheels", str(wheels.resolve())),
    ]
    variables = {"PYTHONPATH": str(ROOT / "packaging"), "PYTHONDONTWRITEBYTECODE": "1", "SOURCE_DATE_EPOCH": _time()}
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "DEB", "http", "HTTP"))
    }
    subprocess.run(tree.command(lower, binds, *words), check=True, env=kept | path | variables)


def _directories() -> list[Path]:
    """Return the directories in which pip of this host looks for files."""
    words = [word.removeprefix("file://") for word in os.environ.get("PIP_FIND_LINKS", "").split()]
    return [Path(word) for word in words if word.startswith("/")]


def _time() -> str:
    from shipping.deb import time_of_sources

    return str(time_of_sources())
