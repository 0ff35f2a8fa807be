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


def build(lower: Path, output: Path, wheels: Path) -> None:
    """Build the package of the release in the directory `lower`; root alone can.  Raises CalledProcessError."""
    for directory in (output, wheels):
        directory.mkdir(parents=True, exist_ok=True)
    places = [ROOT, output.resolve(), wheels.resolve(), *binds()]
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
    subprocess.run(tree.command(lower, places, *words), check=True, env=kept | path | variables)


def binds() -> list[Path]:
    """Return what pip of this host needs to reach its registry: its files, and the directories in which it looks."""
    words = [word.removeprefix("file://") for word in os.environ.get("PIP_FIND_LINKS", "").split()]
    found = [*map(Path, _OF_PIP), *(Path(word) for word in words if word.startswith("/"))]
    return [path for path in found if path.exists()]


def _time() -> str:
    from shipping.deb import time_of_sources

    return str(time_of_sources())
