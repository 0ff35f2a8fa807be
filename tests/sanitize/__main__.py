"""The native modules under AddressSanitizer and UndefinedBehaviorSanitizer (S10): `python -m tests.sanitize`.

They are built in a copy of the checkout.  There run the relay's unit tests, the trials in which each system call fails in
each way, and the fuzzers of datagrams and of streams.  The first finding ends its step; the steps after it run as well.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.sanitize import build, faults, hostile

TESTS = ["tests/proxy/relay", "tests/proxy/balance"]
INPUTS = 2_000_000  # datagrams
CONNECTIONS_PER_INPUT = 0.005
MEMORY = 10  # one part of so many is for the fuzzers' runs in which memory fails as well


def main() -> int:
    """Build and run all steps, or those that are named; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize", description=__doc__.split("\n")[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; all without")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="datagrams of the fuzzers; %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    if unknown := set(wanted.steps) - set(STEPS):
        parser.error(f"no step {', '.join(sorted(unknown))}")
    copy = build.instrumented()
    build.findings()
    failed = []
    for step in wanted.steps or STEPS:
        for command, preloaded in STEPS[step](wanted.inputs, wanted.seed):
            print(f"== {step}: {' '.join(command)}", flush=True)
            began = time.monotonic()
            env = build.environment(*preloaded)
            code = subprocess.run([sys.executable, "-m", *command], cwd=copy, env=env, check=False).returncode
            found = build.findings()
            said = "clean" if not code and not found else f"exit status {code}, {len(found)} findings"
            print("\n".join([*found, f"== {step}: {said}, {time.monotonic() - began:.0f} s"]), flush=True)
            if code or found:
                failed.append(step)
    print(f"found something: {', '.join(failed)}" if failed else "clean")
    return 1 if failed else 0


def _unit(inputs: int, seed: int) -> Iterator[tuple[list[str], list[Path]]]:
    workers = ["-n", "2", "--dist", "loadfile", "--reruns", "1", "--timeout", "300"]
    yield ["pytest", "-p", "no:cacheprovider", *workers, *TESTS], []


def _trials(inputs: int, seed: int) -> Iterator[tuple[list[str], list[Path]]]:
    yield ["tests.sanitize.trials", "--seed", str(seed)], [faults.compiled(build.COPY / "build")]


def _datagrams(inputs: int, seed: int) -> Iterator[tuple[list[str], list[Path]]]:
    library = hostile.compiled(build.COPY / "build")
    for part, more in ((inputs - inputs // MEMORY, []), (inputs // MEMORY, ["--memory"])):
        command = [
            "tests.sanitize.fuzz_datagrams",
            "--library",
            str(library),
            "--inputs",
            str(part),
            "--seed",
            str(seed),
        ]
        yield command + more, [faults.compiled(build.COPY / "build")]


def _streams(inputs: int, seed: int) -> Iterator[tuple[list[str], list[Path]]]:
    connections = int(inputs * CONNECTIONS_PER_INPUT)
    for part, more in ((connections - connections // MEMORY, []), (connections // MEMORY, ["--memory"])):
        command = ["tests.sanitize.fuzz_streams", "--connections", str(part), "--seed", str(seed)]
        yield command + more, [faults.compiled(build.COPY / "build")]


STEPS = {"tests": _unit, "trials": _trials, "datagrams": _datagrams, "streams": _streams}

if __name__ == "__main__":
    sys.exit(main())
