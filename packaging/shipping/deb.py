"""`make deb`: the package for the Debian release that this runs on."""

import email.utils
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from shipping import ROOT, environment, release, stage, wheel
from shipping.release import Release

SCRIPTS: Final = ("postinst", "prerm", "postrm")
_MAINTAINER: Final = "Steelyard maintainers <maintainers@steelyard.invalid>"
_DESCRIPTION: Final = """\
redundant load balancer for DNS, LDAP, MySQL and mail
 Steelyard relays each UDP query and each TCP connection to a healthy real
 server, and stops using a server as soon as a probe, which speaks the protocol,
 reports that it is broken. On a pair of hosts it moves its address by VRRP. It
 is one daemon with one file.
 .
 The program is in a Python environment of its own, /usr/lib/steelyard."""


def build(
    output: Path, *, python: str, built: Path | None = None, wheels: Path | None = None, fast: bool = False
) -> Path:
    """Build the package and return its path.

    `python` is the interpreter of the release.  `wheels` keeps the wheels of the lock file for the next time.  `built`: as of
    shipping.wheel, whose modules must be those of this interpreter's version, and the environment that runs this then builds
    the wheel.  `fast` compresses little.  Raises CalledProcessError.
    """
    output.mkdir(parents=True, exist_ok=True)
    to = Release.of(python)
    when = time_of_sources()
    with tempfile.TemporaryDirectory(prefix="steelyard-deb-") as directory:
        tree, fetched = Path(directory, "tree"), wheels or Path(directory, "wheels")
        pip = environment.tools(Path(directory, "tools"), python, build=built is None)
        environment.download(pip, fetched)
        made = Path(directory, "wheel")
        own = wheel.build(made, python=pip) if built is None else wheel.build(made, built=built)
        packages = environment.make(tree, pip, python, own, fetched)
        stage.fill(tree, packages, to, release.version(), when)
        environment.compile_all(tree, packages)
        environment.release_interpreter(tree)
        version = release.debian_version(release.version(), to)
        _changelog(tree / stage.DOCS / "changelog.Debian.gz", version, to, when)
        return pack(tree, output, version, to, when, fast=fast)


def pack(tree: Path, output: Path, version: str, to: Release, when: int, *, fast: bool = False) -> Path:
    """Make a package of a tree."""
    control = tree / "DEBIAN"
    depends = release.depends(tree, to)
    control.mkdir()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum((path.stat().st_size + 1023) // 1024 for path in files)
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
    )
    (control / "md5sums").write_text("".join(sums))
    kept = (path.relative_to(tree) for path in files if path.relative_to(tree).parts[0] == "etc")
    (control / "conffiles").write_text("".join(f"/{path}\n" for path in kept))
    (control / "control").write_text(_control(version, to, depends, size))
    for name in SCRIPTS:
        shutil.copyfile(stage.PACKAGING / "debian" / name, control / name)
        (control / name).chmod(0o755)
    stage.finish(tree, when)
    path = output / f"steelyard_{version}_{to.architecture}.deb"
    # xz at the level that dpkg-deb takes by itself: half of what zstd, which Debian 12 cannot read from others, would be.
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", f"-z{0 if fast else 6}", "--build", str(tree), str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"SOURCE_DATE_EPOCH": str(when)})
    return path


def _control(version: str, to: Release, depends: list[str], size: int) -> str:
    return f"""\
Package: steelyard
Version: {version}
Architecture: {to.architecture}
Maintainer: {_maintainer()}
Installed-Size: {size}
Depends: {", ".join(depends)}
Suggests: bash-completion, logrotate
Section: net
Priority: optional
Description: {_DESCRIPTION}
"""


def _maintainer() -> str:
    """Return who makes the package: as for other tools of Debian, DEBFULLNAME and DEBEMAIL say so."""
    name, address = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    return f"{name} <{address}>" if name and address else _MAINTAINER


def _changelog(path: Path, version: str, to: Release, when: int) -> None:
    date = email.utils.formatdate(when, localtime=False).replace("-0000", "+0000")
    text = f"steelyard ({version}) {to.codename}; urgency=medium\n\n  * changelog.gz says what is new.\n\n -- {_maintainer()}  {date}\n"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def time_of_sources() -> int:
    """Return the time of the sources: SOURCE_DATE_EPOCH, or that of the last commit, or of the changelog."""
    if (given := os.environ.get("SOURCE_DATE_EPOCH", "")).isdigit():
        return int(given)
    done = subprocess.run(
        ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False
    )
    found = re.fullmatch(r"(\d+)\n", done.stdout)
    return int(found[1]) if found else int((ROOT / "CHANGELOG.md").stat().st_mtime)
