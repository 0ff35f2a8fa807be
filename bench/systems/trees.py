"""Programs of another Debian release, run out of a directory tree of it (debootstrap), without entering it.

The tree's own loader starts the program with the tree's own libraries, so files of this machine (the configuration)
keep their paths, and nothing is written to the tree.
"""

import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.e2e.process import MissingError, program


@dataclass(frozen=True)
class Tree:
    """Where programs come from; without `root`, from this machine."""

    root: Path | None = None

    def command(self, name: str) -> list[str]:
        """Return how the program `name` is started. Raises MissingError."""
        if self.root is None:
            return [program(name)]
        places = [self.root / where / name for where in ("usr/sbin", "usr/bin", "usr/local/sbin", "usr/local/bin")]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise MissingError(f"{name} is not installed in {self.root}")
        libraries = self.root / "usr/lib" / f"{platform.machine()}-linux-gnu"
        loader = next(iter(sorted(libraries.glob("ld-linux*.so.*"))), None)
        if loader is None:
            raise MissingError(f"{self.root} has no loader of programs in {libraries}")
        return [str(loader), "--library-path", str(libraries), str(found)]

    def version(self, name: str, *, ask: str = "-v") -> str:
        """Return the version of a program, as "1.9.16". Raises MissingError."""
        return _version((*self.command(name), ask))


HERE = Tree()


@cache
def _version(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "?"
