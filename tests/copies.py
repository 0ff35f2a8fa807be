"""Copies of the checkout with native modules of their own: what is built or broken there leaves the checkout alone."""

import fnmatch
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "*.so")
MADE = ("build/cython", "build/lib.*", "build/temp.*")
PACKAGES = ("proxy", "health", "vrrp")
BUILD = ["setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"]
# Prints the files of the modules that are named to it.
WHOSE = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"


def bring(copy: Path, root: Path = ROOT) -> None:
    """Make `copy` a copy of the checkout's sources, with their times: what has not changed is not built again."""
    wanted = {path.relative_to(root): path for path in _sources(root)}
    for path in _sources(copy):
        if path.relative_to(copy) not in wanted:
            path.unlink()
    for name, path in wanted.items():
        to = copy / name
        if not to.exists() or _state(to) != _state(path):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)


def build(copy: Path, flags: dict[str, str] | None = None, *, capture_output: bool = False) -> None:
    """Build the copy's native modules where their sources have changed.  Raises CalledProcessError."""
    env = environment(copy) | (flags or {})
    subprocess.run([sys.executable, *BUILD], cwd=copy, env=env, check=True, text=True, capture_output=capture_output)


def is_native(path: Path) -> bool:
    """Return True if a source is compiled, or others are compiled with it."""
    return path.suffix in {".pyx", ".pxd", ".h"} or path.with_suffix(".pxd").exists()


def environment(copy: Path) -> dict[str, str]:
    """Return the environment of processes that import the copy."""
    return os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


def built(root: Path) -> list[Path]:
    """Return all that building has made below a checkout: modules, and what is kept to build them faster again."""
    kept = (path for folder in MADE for path in root.glob(f"{folder}/**/*") if path.is_file())
    return [*native(root), *kept]


def native(copy: Path) -> list[Path]:
    """Return the native modules that are built in the copy."""
    return sorted(copy.glob("proxy/**/*.so"))


def check(copy: Path, env: Mapping[str, str]) -> None:
    """Raise SystemExit if processes would import the packages or a native module of another checkout."""
    modules = [".".join(path.relative_to(copy).with_name(path.name.partition(".")[0]).parts) for path in native(copy)]
    command = [sys.executable, "-P", "-c", WHOSE, *PACKAGES, *modules]
    found = subprocess.run(command, cwd="/", env=env, check=True, capture_output=True, text=True).stdout.split()
    if not modules or any(not Path(path).is_relative_to(copy) for path in found):
        raise SystemExit(f"processes would import another checkout: {found}")
    if missing := [path for path in found[len(PACKAGES) :] if not path.endswith(".so")]:
        raise SystemExit(f"processes would import what is not native: {missing}")


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = _kept(folders)
        yield from (Path(folder, name) for name in _kept(files))


def _kept(names: list[str]) -> list[str]:
    return [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in LEFT_OUT)]


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
