"""The sources of the distribution: what a wheel is built from, and nothing that was built before."""

import fnmatch
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shipping import ROOT

PACKAGES: Final = ("proxy", "health", "vrrp")
FILES: Final = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
MADE: Final = (".*", "__pycache__", "*.egg-info", "*.so", "*.pyc", "*.swp", "*~")


def sources(root: Path = ROOT) -> list[Path]:
    """Return the files of the import packages, relative to the checkout."""
    return sorted(path.relative_to(root) for package in PACKAGES for path in _below(root / package))


def copy(to: Path, root: Path = ROOT) -> None:
    """Copy what a build needs to an empty directory, with the times of the files."""
    for name in (*sources(root), *map(Path, FILES)):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, to / name)


def native(root: Path = ROOT) -> list[Path]:
    """Return the sources of native modules: each `.pyx`, and each `.py` with a `.pxd` of the same name (setup.py)."""
    found = sources(root)
    typed = {path.with_suffix("") for path in found if path.suffix == ".pxd"}
    return [path for path in found if path.suffix == ".pyx" or (path.suffix == ".py" and path.with_suffix("") in typed)]


def _below(package: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(package):
        folders[:] = [name for name in folders if not _made(name)]
        yield from (Path(folder, name) for name in files if not _made(name))


def _made(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in MADE)
