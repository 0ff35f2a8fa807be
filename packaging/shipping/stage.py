"""The tree of the Debian package: every file at the place that it has once it is installed."""

import gzip
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from shipping import ROOT, environment, licences, sources
from shipping.release import OLD_SYSTEMD, Release

PACKAGING: Final = ROOT / "packaging"
DOCS: Final = Path("usr/share/doc/steelyard")
CONFIGURATION: Final = Path("etc/steelyard/steelyard.toml")
_EXAMPLE: Final = ROOT / "examples" / "dns-ldap-mysql.toml"
_BY_HAND: Final = "/opt/steelyard/bin/steelyard"
"""What the unit names for those who install without a package."""
_HEAD: Final = """\
# The configuration of Steelyard: steelyard.toml(5).  Without a service there is nothing to run.  Below is an example; others
# are in /usr/share/doc/steelyard/examples, and `steelyard import` makes a file of one of keepalived, HAProxy or dnsdist.
#
#   steelyard check
#   systemctl enable --now steelyard

"""


def fill(stage: Path, packages: Path, release: Release, version: str, when: int) -> None:
    """Add everything but the environment, whose directory of packages is `packages`."""
    _link(stage / "usr/bin/steelyard", "../lib/steelyard/bin/steelyard")
    _write(stage / CONFIGURATION, example())
    _services(stage, release)
    _write(stage / "usr/lib/sysusers.d/steelyard.conf", _of("steelyard.sysusers"))
    _write(stage / "usr/lib/tmpfiles.d/steelyard.conf", _of("steelyard.tmpfiles"))
    _write(stage / "etc/logrotate.d/steelyard", _of("steelyard.logrotate"))
    _write(stage / "usr/share/lintian/overrides/steelyard", _of("lintian-overrides"))
    _documents(stage / DOCS)
    _write(stage / DOCS / "copyright", licences.copyright_file(licences.libraries(packages), apache()))
    environment.forget_pip(packages)
    _pages(stage, version, when)
    _strip(packages)


def example() -> str:
    """Return the file that is installed in /etc: an example, every line of which is a comment."""
    lines = _EXAMPLE.read_text().splitlines()
    return _HEAD + "".join(f"# {line}".rstrip() + "\n" for line in lines)


def apache() -> str:
    """Return the short form of the licence: the whole text is on every Debian host."""
    text = (ROOT / "LICENSE").read_text()
    start = text.index('Licensed under the Apache License, Version 2.0 (the "License")')
    words = " ".join(text[start:].split())
    return f"{words}\n\nOn Debian systems the text is in /usr/share/common-licenses/Apache-2.0."


def finish(stage: Path, when: int) -> None:
    """Give every file the mode that it has to have, and a time not after `when`: the same sources make the same package."""
    for path in sorted(stage.rglob("*"), reverse=True):
        if path.is_symlink():
            os.utime(path, (when, when), follow_symlinks=False)
            continue
        program = path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)
        path.chmod(0o755 if program and path.suffix not in {".so", ".py"} else 0o644)
        if path.stat().st_mtime > when:
            os.utime(path, (when, when))
    stage.chmod(0o755)


def units(release: Release) -> Path:
    """Return where units are: Debian 12's tools do not look below usr/, and in Debian 13 nothing is installed outside of it."""
    return Path("lib/systemd/system" if release.number in OLD_SYSTEMD else "usr/lib/systemd/system")


def _services(stage: Path, release: Release) -> None:
    place = stage / units(release)
    unit = (PACKAGING / "steelyard.service").read_text().replace(_BY_HAND, "/usr/bin/steelyard")
    _write(place / "steelyard.service", unit)
    if release.number in OLD_SYSTEMD:
        drop_in = (PACKAGING / "steelyard-252.conf").read_text().replace(_BY_HAND, "/usr/bin/steelyard")
        text = "\n".join(line for line in drop_in.splitlines() if not line.startswith("# "))
        _write(place / "steelyard.service.d" / "steelyard-252.conf", text.lstrip() + "\n")


def _documents(docs: Path) -> None:
    for page in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]):
        _write(docs / page.relative_to(ROOT), page.read_text())
    for path in sorted((ROOT / "examples").glob("*.toml")):
        _write(docs / "examples" / path.name, path.read_text())
    (docs / "changelog.gz").write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))


def _pages(stage: Path, version: str, when: int) -> None:
    """Write man pages and completions: the program that is packaged is asked for them."""
    python = environment.interpreter(stage)
    code = "import sys; from pathlib import Path; from shipping.pages import write; write(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))"
    command = [str(python), "-P", "-c", code, str(stage), version, str(when)]
    variables = os.environ | {"PYTHONPATH": str(PACKAGING), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, check=True, env=variables, cwd="/")


def _strip(packages: Path) -> None:
    """Take the symbols of our own modules away; those of others stay as their wheels have them."""
    found = [path for package in sources.PACKAGES for path in (packages / package).rglob("*.so")]
    subprocess.run(["strip", "--strip-unneeded", "--remove-section=.comment", *found], check=True)


def _of(name: str) -> str:
    return (PACKAGING / "debian" / name).read_text()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    shutil.copymode(ROOT / "LICENSE", path)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
