"""Which Debian package: its version, its release, its dependencies, and when it was made."""

import re
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shipping import ROOT

CODENAMES: Final = {"12": "bookworm", "13": "trixie"}
OLD_SYSTEMD: Final = ("12",)
"""The releases whose systemd has no Type=notify-reload."""


@dataclass(frozen=True)
class Release:
    """A Debian release, and the versions of what it has."""

    number: str
    """"12"."""
    python: tuple[int, int]
    architecture: str

    @classmethod
    def of(cls, python: str) -> "Release":
        """Return the release that this runs on; `python` is its interpreter.  Raises SystemExit on another system."""
        found = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
        if found.get("ID") != "debian" or found.get("VERSION_ID") not in CODENAMES:
            raise SystemExit(
                f"packages are made on Debian {' or '.join(CODENAMES)}, this is {found.get('PRETTY_NAME')}"
            )
        version = _output(python, "-c", "import sys; print(*sys.version_info[:2])").split()
        return cls(found["VERSION_ID"], (int(version[0]), int(version[1])), _output("dpkg", "--print-architecture"))

    @property
    def codename(self) -> str:
        """What the changelog calls it."""
        return CODENAMES[self.number]


def debian_version(version: str, release: Release) -> str:
    """Return the package's version: a pre-release sorts before its release, Debian 12's package before Debian 13's."""
    upstream = re.sub(r"[.]?(a|b|rc|dev)(?=[0-9])", r"~\g<1>", version)
    return f"{upstream}-1+deb{release.number}"


def version(root: Path = ROOT) -> str:
    """Return the version of the checkout."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def depends(stage: Path, release: Release) -> list[str]:
    """Return what the package depends on: its Python, who makes users and directories, and the libraries of native modules."""
    major, minor = release.python
    managers = [f"systemd | systemd-standalone-{one} | systemd-{one}" for one in ("sysusers", "tmpfiles")]
    python = [f"python3 (>= {major}.{minor}~)", f"python3 (<< {major}.{minor + 1})", f"python{major}.{minor}"]
    return [*_libraries(stage), *python, *managers]


def _libraries(stage: Path) -> list[str]:
    """Ask dpkg-shlibdeps.  Libraries that a wheel brings are in the stage itself."""
    objects = sorted(path for path in stage.rglob("*.so*") if path.is_file())
    own = sorted({f"-l{path.parent}" for path in objects if path.parent.name.endswith(".libs")})
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "debian").mkdir()
        Path(directory, "debian", "control").write_text("Source: steelyard\n\nPackage: steelyard\nArchitecture: any\n")
        command = [
            "dpkg-shlibdeps",
            "-O",
            "--ignore-missing-info",
            "--warnings=0",
            *own,
            *(f"-e{path}" for path in objects),
        ]
        found = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in found.splitlines() if line.startswith("shlibs:Depends=")]
    return sorted(line.partition("=")[2].split(", "))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
