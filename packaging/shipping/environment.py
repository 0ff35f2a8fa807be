"""The virtual environment of the Debian package, made at another place than its final one.

Everything in it comes from wheels: the dependencies from those that the lock file names, with their hashes.  What pip leaves
behind for itself is removed, because dpkg is who installs, and so are the programs of dependencies.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from shipping.lock import LOCK

HOME: Final = Path("/usr/lib/steelyard")
"""Where the environment is when the package is installed."""
_OF_PIP: Final = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


def tools(directory: Path, python: str, *, build: bool) -> str:
    """Make an environment that has pip, and what builds a wheel if `build`; return its interpreter."""
    subprocess.run([python, "-m", "venv", str(directory)], check=True)
    inside = f"{directory}/bin/python"
    if build:
        wanted = ["setuptools>=77", "Cython>=3.1,<4"]
        subprocess.run([inside, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return inside


def download(pip: str, wheels: Path, lock: Path = LOCK) -> None:
    """Fetch the wheels that the lock file names, and no other; a file with another hash is refused (CalledProcessError)."""
    command = [pip, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", f"--dest={wheels}", f"--requirement={lock}"]
    kept = [*command, "--no-index", f"--find-links={wheels}"]
    if not wheels.exists() or subprocess.run(kept, check=False, capture_output=True).returncode:
        subprocess.run(command, check=True)


def make(stage: Path, pip: str, python: str, wheel: Path, wheels: Path) -> Path:
    """Make the environment below `stage`, as it is to be below /; return its directory of packages."""
    home = stage / HOME.relative_to("/")
    home.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "venv", "--without-pip", str(home)], check=True)
    install = [pip, "-m", "pip", f"--python={home}/bin/python3", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--no-deps", "--no-index", "--no-compile", f"--find-links={wheels}"]
    subprocess.run([*install, "--require-hashes", f"--requirement={LOCK}"], check=True)
    subprocess.run([*install, str(wheel)], check=True)
    (packages,) = home.glob("lib/python3.*/site-packages")
    _settle(home, python)
    return packages


def forget_pip(packages: Path) -> None:
    """Remove what only pip wants, and leftovers of their authors' version control."""
    for ignored in packages.rglob(".gitignore"):
        ignored.unlink()
    for record in packages.glob("*.dist-info"):
        for name in _OF_PIP:
            (record / name).unlink(missing_ok=True)


def compile_all(stage: Path, packages: Path) -> None:
    """Compile the modules to bytecode that names their final place, and is valid whatever their times are.

    The package has it, because nothing may be written where it is installed, and because an upgrade would otherwise have half
    a minute in which files of the new version lie beneath the old daemon.
    """
    python = interpreter(stage)
    # By force: what ran in the environment meanwhile has left bytecode of its own, with names and times of here.
    command = [str(python), "-m", "compileall", "-q", "-f", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, "-s", str(stage), "-p", "/", str(packages)], check=True)
    made = len({path.name.partition(".")[0] + str(path.parent.parent) for path in packages.rglob("*.pyc")})
    if made != len(list(packages.rglob("*.py"))):
        raise RuntimeError("not every module has its bytecode")


def interpreter(stage: Path) -> Path:
    """Return the interpreter of the environment."""
    return stage / HOME.relative_to("/") / "bin" / "python3"


def release_interpreter(stage: Path) -> None:
    """Make its link a relative one, as Debian wants it: from then on it works at its final place alone."""
    link = interpreter(stage)
    target = link.readlink()
    link.unlink()
    link.symlink_to(Path("../../..") / target.relative_to("/usr"))


def _settle(home: Path, python: str) -> None:
    """Make the environment one that was made at its final place."""
    script = (home / "bin" / "steelyard").read_text()
    for path in (home / "bin").iterdir():
        path.unlink()
    interpreter = Path(python).resolve().name  # python3.11: not the default of another release
    (home / "bin" / "python3").symlink_to(f"/usr/bin/{interpreter}")
    (home / "bin" / "steelyard").write_text(re.sub("^#!.*", f"#!{HOME}/bin/python3", script))
    (home / "bin" / "steelyard").chmod(0o755)
    for name in ("include", "lib64", "share", ".gitignore"):
        path = home / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    settings = home / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if line.partition(" = ")[0] in _KEPT]
    settings.write_text("\n".join(lines) + "\n")


_KEPT: Final = ("home", "include-system-site-packages", "version")
