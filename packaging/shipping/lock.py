"""`make lock`: pins every dependency at run time to a version and the hashes of its files (packaging/requirements.lock).

Made with the interpreter of the oldest release that is supported, because pip-compile leaves out what the running
interpreter does not need, and an older one needs more: Debian 12 has Python 3.11.2, and asyncio.timeout of redis and asyncpg
is wanted from 3.11.3 on.  tests/packaging/test_lock.py checks that newer ones need nothing else.
"""

import os
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from shipping import ROOT

LOCK: Final = ROOT / "packaging" / "requirements.lock"
EXTRAS: Final = ("yaml",)  # `steelyard import dnsdist` of files in YAML


def write(python: str, *, upgrade: bool = False) -> None:
    """Write the lock file; versions stay as they are unless `upgrade`.  Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="steelyard-lock-") as directory:
        subprocess.run([python, "-m", "venv", directory], check=True)
        pip = [f"{directory}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "pip-tools"], check=True)
        # From a list, not from pyproject.toml: for that pip-compile would run setup.py, and Cython.
        wanted = Path(directory, "requirements.in")
        wanted.write_text("\n".join(requirements()) + "\n")
        command = [f"{directory}/bin/pip-compile", "--quiet", "--generate-hashes", "--strip-extras"]
        command += [
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--no-emit-options",
            *(["--upgrade"] if upgrade else []),
        ]
        command += [f"--output-file={LOCK}", str(wanted)]
        subprocess.run(command, check=True, env=os.environ | {"CUSTOM_COMPILE_COMMAND": "make lock"})
        # Paths of this machine are nobody else's business.
        text = LOCK.read_text().replace(f"-r {directory}/requirements.in", "pyproject.toml").splitlines(keepends=True)
        LOCK.write_text("".join(line for line in text if not line.startswith(("--extra-index-url", "--find-links"))))


def requirements(root: Path = ROOT) -> list[str]:
    """Return what pyproject.toml asks for at run time, with the extras that the package includes."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]


def pins(lock: Path = LOCK) -> dict[str, str]:
    """Return name -> version of everything in a lock file."""
    lines = (line.split() for line in lock.read_text().splitlines() if line[:1].isalnum())
    return dict(words[0].split("==", 1) for words in lines if "==" in words[0])
