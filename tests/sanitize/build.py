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
    "NATIVE_LDFLAGS": SANITIZERS,
}
# CPython never frees what it made at its start, so leaks are not looked for here.
ADDRESS = "detect_leaks=0:abort_on_error=1:halt_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1"
UNDEFINED = "abort_on_error=1:halt_on_error=1:print_stacktrace=1"
FINDINGS = COPY / "build/findings"
"""Where reports go: pytest would keep what a process that ends so has written."""


def instrumented() -> Path:
    """Bring the instrumented copy up to date and return it."""
    copies.bring(COPY)
    copies.build(COPY, FLAGS)
    copies.check(COPY, environment())
    if plain := [path.name for path in copies.native(COPY) if b"__asan_report" not in path.read_bytes()]:
        raise SystemExit(f"built without sanitizers: {', '.join(plain)}")
    return COPY


def findings() -> list[str]:
    """Return the reports of processes that have ended since this was asked last."""
    FINDINGS.mkdir(parents=True, exist_ok=True)
    found = [(path, path.read_text(errors="replace")) for path in sorted(FINDINGS.iterdir())]
    for path, _ in found:
        path.unlink()
    return [text for _, text in found if text]


def environment(*preloaded: Path) -> dict[str, str]:
    """Return the environment of an instrumented process that loads these libraries as well.

    The sanitizer is the first library, and so sees each call before a fault does.  Objects of Python are allocated by
    `malloc` of the sanitizer, one by one.
    """
    libraries = [_library("libasan.so"), *preloaded]
    return copies.environment(COPY) | {
        "LD_PRELOAD": " ".join(map(str, libraries)),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": f"{ADDRESS}:log_path={FINDINGS / 'address'}",
        "UBSAN_OPTIONS": f"{UNDEFINED}:log_path={FINDINGS / 'undefined'}",
    }


def _library(name: str) -> Path:
    compiler = os.environ.get("CC", "gcc")
    said = subprocess.run([compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout
    return Path(said.strip()).resolve()
