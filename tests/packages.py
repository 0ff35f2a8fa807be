"""See that the programs which the tests run are installed: `python tests/packages.py LIST...`.

Each list is a text file with lines `package program...`; `#` starts a comment; a program may be the
path of a file instead. What is missing is installed when this runs as root on Debian; otherwise it is named, and the
tests that need it are skipped. Standard library only.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
POLICY = Path("/usr/sbin/policy-rc.d")
# invoke-rc.d(8): 101 is "action forbidden by policy", so that installing a server does not start it.
FORBID = "#!/bin/sh\nexit 101\n"


def wanted(text: str) -> dict[str, list[str]]:
    """Return package -> programs of the lines in `text`."""
    rows = (line.split("#", 1)[0].split() for line in text.splitlines())
    return {row[0]: row[1:] for row in rows if row}


def missing(packages: dict[str, list[str]], search: str = SEARCH) -> list[str]:
    """Return the packages of which a program cannot be found in `search`, a PATH."""

    def found(program: str) -> bool:
        return Path(program).exists() if program.startswith("/") else shutil.which(program, path=search) is not None

    return [name for name, programs in packages.items() if not all(found(program) for program in programs)]


def install(packages: Iterable[str]) -> None:
    """Install Debian packages without starting what they bring. Raises CalledProcessError."""
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    own_policy = not POLICY.exists()
    if own_policy:
        POLICY.write_text(FORBID)
        POLICY.chmod(0o755)
    try:
        # A broken mirror of something else must not stop us: what counts is whether the installation works.
        subprocess.run([*apt, "update"], env=environment, check=False)
        subprocess.run([*apt, "install", "--no-install-recommends", *packages], env=environment, check=True)
    finally:
        if own_policy:
            POLICY.unlink()


def main(lists: list[str]) -> int:
    """Install what is missing where that is possible, name it otherwise; return the exit code."""
    packages: dict[str, list[str]] = {}
    for path in lists:
        packages |= wanted(Path(path).read_text())
    lacking = missing(packages)
    if lacking and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing for the tests: {' '.join(lacking)}", flush=True)
        try:
            install(lacking)
        except subprocess.CalledProcessError as error:
            print(f"apt-get failed with exit status {error.returncode}", file=sys.stderr)
        lacking = missing(packages)
    if lacking:
        print(f"not installed: {' '.join(lacking)}. The tests that need them are skipped.", file=sys.stderr)
        print("To have them, as root on Debian:", file=sys.stderr)
        print(f"    apt-get install --no-install-recommends {' '.join(lacking)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
