"""Break each behaviour in turn and see its tests turn red: `python -m tests.breakages [ID ...]`, or `make breakages`.

The code is broken in a copy of the checkout, which the tests and all processes that they start import.  A compiled module is
built again there.  `killed` is a change that a test has failed over; one that SURVIVED shows a hole in the tests.  What fails
otherwise (it cannot be built, no test ran, or none came as far as its own lines) proves nothing, and is an error, and so are
tests that fail unbroken.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import copies
from tests.breakages.table import ROOT, Breakage, rows

LONGEST = 120.0  # seconds that the tests of one row may take
UNBROKEN = 900.0  # seconds that all of them may take before anything is broken
FAST = {"NATIVE_CFLAGS": "-O0 -g0"}
"""Of the compiler for what is broken: it is to be wrong soon, not fast."""
A_TEST = "--timeout=60"  # seconds after which a test that hangs has failed
SHOWN = 4000  # characters of what pytest said at last, where nothing is proven
MEANS = {"failed": "killed", "passed": "SURVIVED", "error": "error"}
"""What the tests did, and what that says of a change."""
SUMMARY = re.compile(r"^\d+ [a-z]+.* in \d+\.\d+s", re.MULTILINE)  # "1 failed, 2 passed in 0.12s"


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
        copies.bring(copy)
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
        with broken(copy, row) as said:
            verdict, said = ("error", said) if said else _tested(copy, row.tests, LONGEST)
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


@contextlib.contextmanager
def broken(copy: Path, row: Breakage) -> Iterator[str]:
    """Make a row's change in the copy, and undo it at the end; what the compiler said if it cannot be built, else ""."""
    path = copy / row.file
    before, status = path.read_text(), path.stat()
    built = {one: one.stat().st_mtime_ns for one in copies.built(copy)} if copies.is_native(path) else {}
    with tempfile.TemporaryDirectory(prefix="steelyard-built-") as directory:
        for number, one in enumerate(built):
            shutil.copy2(one, Path(directory, str(number)))
        try:
            path.write_text(row.broken(before))
            yield _build(copy) if built else ""
        finally:
            path.write_text(before)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            # The next row's build must not see that these were made of something else.
            for number, (one, when) in enumerate(built.items()):
                if not one.exists() or one.stat().st_mtime_ns != when:
                    shutil.copy2(Path(directory, str(number)), one)


def _build(copy: Path) -> str:
    """Build what has changed; return what the compiler said if that fails."""
    try:
        copies.build(copy, FAST, capture_output=True)
    except subprocess.CalledProcessError as error:
        return f"{error.stdout}{error.stderr}\nit cannot be built"
    return ""


def _prepare(copy: Path) -> None:
    """Compile the copy, by what is in its files and not when it was written; see that it is what processes import."""
    # What the checkout has built is not built again, where it is of the same sources.
    for path in copies.built(ROOT):
        to = copy / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    copies.build(copy)
    quiet = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", *copies.PACKAGES]
    subprocess.run(quiet, cwd=copy, check=True)
    copies.check(copy, _environment(copy))


def _environment(copy: Path) -> dict[str, str]:
    return {
        name: value for name, value in copies.environment(copy).items() if name != "CI"
    }  # there what is skipped has failed


if __name__ == "__main__":
    sys.exit(main())
