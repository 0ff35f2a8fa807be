"""Break each behaviour in turn and see its tests turn red: `python -m tests.breakages [ID ...]`, or `make breakages`.

The code is broken in a copy of the checkout, which the tests and all processes that they start import.  `killed` is a change
that a test has failed over; one that SURVIVED shows a hole in the tests.  What fails otherwise (no test ran, or none came
as far as its own lines) proves nothing, and is an error, and so are tests that fail unbroken.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.breakages.table import ROOT, Breakage, rows

LONGEST = 120.0  # seconds that the tests of one row may take
UNBROKEN = 900.0  # seconds that all of them may take before anything is broken
A_TEST = "--timeout=60"  # seconds after which a test that hangs has failed
SHOWN = 4000  # characters of what pytest said at last, where nothing is proven
MEANS = {"failed": "killed", "passed": "SURVIVED", "error": "error"}
"""What the tests did, and what that says of a change."""
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
SUMMARY = re.compile(r"^\d+ [a-z]+.* in \d+\.\d+s", re.MULTILINE)  # "1 failed, 2 passed in 0.12s"
WHOSE = "import proxy, health, vrrp; print(proxy.__file__, health.__file__, vrrp.__file__)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows of the behaviours asked for, or all; 0 if every change was killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.breakages", description=__doc__.split("\n")[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help="a behaviour: T4, U20; all without")
    wanted = parser.parse_args(arguments).ids
    chosen = [row for row in rows() if not wanted or row.id in wanted]
    if unknown := set(wanted) - {row.id for row in chosen}:
        parser.error(f"no breakage of {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="steelyard-breakages-") as directory:
        Path(directory).chmod(0o755)  # workers are other users
        copy = Path(directory, "checkout")
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT, symlinks=True)
        _prepare(copy)
        return _run(copy, chosen)


def _run(copy: Path, chosen: Sequence[Breakage]) -> int:
    # As in `make test` a second chance; with something broken there is none.
    verdict, said = _tested(copy, ["--reruns=1", *sorted({test for row in chosen for test in row.tests})], UNBROKEN)
    if verdict != "passed":
        print(f"{said[-SHOWN:]}\nThe tests do not all pass before anything is broken.")
        return 1
    results = []
    for row in chosen:
        began = time.monotonic()
        path = copy / row.file
        source = path.read_text()
        path.write_text(row.broken(source))
        try:
            _build(copy, path)
            verdict, said = _tested(copy, row.tests, LONGEST)
        finally:
            path.write_text(source)
            _build(copy, path)
        results.append(MEANS[verdict])
        if verdict == "error":
            print(said[-SHOWN:])
        print(f"{results[-1]:8} {row.id:3} {row.what} ({time.monotonic() - began:.1f} s)", flush=True)
    print(", ".join(f"{results.count(kind)} {kind}" for kind in MEANS.values()))
    return 0 if set(results) == {"killed"} else 1


def _tested(copy: Path, tests: Sequence[str], longest: float) -> tuple[str, str]:
    """Run tests of the copy, given to pytest; "passed", "failed" or "error", and what pytest said."""
    # `-q` is in pyproject.toml; twice would leave out the summary.
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", A_TEST, *tests]
    process = subprocess.Popen(
        command, cwd=copy, env=_environment(copy), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=longest)
    except BaseException as error:  # whatever it is, nothing is left of them: what they start dies with who started it
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return "error", f"{said}\nno end within {longest:g} s"
    return judged(process.returncode, said), said


def judged(code: int, said: str) -> str:
    """Return "passed", "failed" or "error" for pytest's exit status and output."""
    summary = (SUMMARY.findall(said) or [""])[-1]
    if code == 0 and "passed" in summary and "skipped" not in summary:
        return "passed"
    # What fails in a fixture is an "error" of pytest's, and no test has looked at what is broken.
    return "failed" if code == 1 and "failed" in summary else "error"


def _prepare(copy: Path) -> None:
    """Compile the copy, by what is in its files and not when it was written; see that it is what processes import."""
    quiet = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "proxy", "health", "vrrp"]
    subprocess.run(quiet, cwd=copy, check=True)
    command = [sys.executable, "-P", "-c", WHOSE]
    done = subprocess.run(command, cwd="/", env=_environment(copy), check=True, capture_output=True, text=True)
    if any(not Path(path).is_relative_to(copy) for path in done.stdout.split()):
        raise SystemExit(f"processes would import another checkout: {done.stdout}")


def _build(copy: Path, path: Path) -> None:
    """Compile a native module again after its source has changed; nothing to do for others."""
    if path.suffix == ".pyx" or path.with_suffix(".pxd").exists():
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"]
        subprocess.run(command, cwd=copy, check=True, stdout=subprocess.DEVNULL)


def _environment(copy: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "CI"}  # there what is skipped has failed
    return kept | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(main())
