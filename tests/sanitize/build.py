"""The checkout's native modules under AddressSanitizer and UndefinedBehaviorSanitizer, in a copy in build/sanitize."""

import os
import subprocess
from pathlib import Path

from tests import copies

COPY = copies.ROOT / "build/sanitize"
SANITIZERS = "-fsanitize=address,undefined"
FLAGS = {
    # A frame of its own for each function, and the first finding ends the process.
    "NATIVE_CFLAGS": f"-O1 -g -Wall -fno-omit-frame-pointer -fno-sanitize-recover=all {SANITIZERS}",
    "LDFLAGS": SANITIZERS,
}
# CPython never frees what it made at its start, so leaks are not looked for here.
ADDRESS = "detect_leaks=0:abort_on_error=1:halt_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1"
UNDEFINED = "abort_on_error=1:halt_on_error=1:print_stacktrace=1"


def instrumented() -> Path:
    """Bring the instrumented copy up to date and return it."""
    copies.bring(COPY)
    copies.build(COPY, FLAGS)
    copies.check(COPY, environment())
    return COPY


def environment(*preloaded: Path) -> dict[str, str]:
    """Return the environment of an instrumented process that loads these libraries as well.

    The sanitizer is the first library, and so sees each call before a fault does.  Objects of Python are allocated by
    `malloc` of the sanitizer, one by one.
    """
    libraries = [_library("libasan.so"), *preloaded]
    return copies.environment(COPY) | {
        "LD_PRELOAD": " ".join(map(str, libraries)),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": ADDRESS,
        "UBSAN_OPTIONS": UNDEFINED,
    }


def _library(name: str) -> Path:
    compiler = os.environ.get("CC", "gcc")
    said = subprocess.run([compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout
    return Path(said.strip()).resolve()
