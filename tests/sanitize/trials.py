"""Let each system call of a relay fail in each way: `python -m tests.sanitize.trials dns udp tcp`, with faults.c preloaded."""

import argparse
import gc
import random
import sys
import time
from dataclasses import replace

from tests.sanitize.dns_trial import DnsTrial
from tests.sanitize.faults import Faults
from tests.sanitize.one_way_trial import OneWayTrial
from tests.sanitize.tcp_trial import TcpTrial
from tests.sanitize.trial import Trial, cases
from tests.sanitize.udp_trial import UdpTrial

TRIALS: dict[str, type[Trial]] = {one.protocol: one for one in (DnsTrial, UdpTrial, OneWayTrial, TcpTrial)}
AT_ONCE = 6  # calls that fail at once in a storm
STORM_CHANCE = 0.05


def main() -> int:
    """Run the trials; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL", help=f"of {', '.join(TRIALS)}; all without")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storms", type=int, default=20, help="times that several calls fail at once")
    parser.add_argument("--calls", default="", help="only these calls, separated by commas")
    parser.add_argument(
        "--brief", action="store_true", help="each way to fail once, some allocations, and nothing with a chance"
    )
    wanted = parser.parse_args()
    if unknown := set(wanted.protocols) - set(TRIALS):
        parser.error(f"no trial of {', '.join(sorted(unknown))}")
    faults = Faults()
    return 1 if sum(_tried(TRIALS[name], faults, wanted) for name in wanted.protocols or TRIALS) else 0


def _live(faults: Faults) -> int:
    """Return the number of blocks that native modules hold when all that can be freed is freed."""
    gc.collect()
    return faults.live


def _tried(kind: type[Trial], faults: Faults, wanted: argparse.Namespace) -> int:
    """Try one protocol's cases, each on a relay of its own; print what was wrong, and return how much that is."""
    began = time.monotonic()
    first = kind(faults)
    calls = [call for call in first.made() if not wanted.calls or call in wanted.calls.split(",")]
    first.close()
    single = cases(calls, brief=wanted.brief)
    chosen = random.Random(wanted.seed)
    storms = [
        [replace(one, chance=STORM_CHANCE, nth=0) for one in chosen.sample(single, min(AT_ONCE, len(single)))]
        for _ in range(wanted.storms)
    ]
    mistakes = unseen = 0
    before = _live(faults)
    for number, group in enumerate([*([one] for one in single), *storms]):
        trial = kind(faults, wanted.seed + number)
        failed = {one.call: faults.failed(one.call) for one in group}
        wrong = trial.attempt(group)
        unseen += all(faults.failed(call) == count for call, count in failed.items())
        for one in (wrong := wrong + trial.close()):
            print(f"{kind.protocol}: {', '.join(map(str, group))}: {one}", flush=True)
        mistakes += len(wrong)
        del trial
    # Each native module keeps a block of its own for the tracebacks of its first exceptions.
    if (left := _live(faults) - before) > faults.modules:
        print(f"{kind.protocol}: {left} blocks of memory were not freed", flush=True)
        mistakes += 1
    took = time.monotonic() - began
    print(
        f"{kind.protocol}: {len(calls)} calls ({', '.join(calls)}), {len(single)} cases, {unseen} of them unseen, {len(storms)} storms, {took:.1f} s",
        flush=True,
    )
    return mistakes


if __name__ == "__main__":
    sys.exit(main())
