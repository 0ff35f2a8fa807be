"""`make wheel`: what `pip install` takes, built in a fresh directory from the sources alone.

setuptools packs whatever lies in `build/lib`, also a module that was deleted since.  So the directory of the checkout is
never used.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shipping import ROOT, sources


def build(output: Path, root: Path = ROOT, *, python: str = sys.executable, built: Path | None = None) -> Path:
    """Build a wheel and return its path.  `python` has setuptools and Cython.

    `built` is a `build/` directory whose native modules are taken where they are newer than their sources, which saves the
    compiler's minutes.  Raises CalledProcessError.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="steelyard-wheel-") as directory:
        copy = Path(directory, "sources")
        sources.copy(copy, root)
        if built is not None:
            _seed(copy, built)
        made = Path(directory, "made")
        # Without isolation: the versions are those of the environment, and nothing is fetched.
        command = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([*command, "--wheel-dir", str(made), str(copy)], check=True)
        (wheel,) = made.glob("*.whl")
        return Path(shutil.move(wheel, output / wheel.name))


def _seed(copy: Path, built: Path) -> None:
    """Bring what was compiled, with its times, of sources that exist; setuptools compiles again what is older."""
    for source in sources.native(copy):
        stem = source.with_suffix("")
        for path in _compiled(built, stem):
            to = copy / "build" / path.relative_to(built)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)


def _compiled(built: Path, stem: Path) -> Iterator[Path]:
    yield from (path for path in built.glob(f"cython/{stem}.*") if path.is_file())
    yield from built.glob(f"lib.*/{stem}.*.so")
