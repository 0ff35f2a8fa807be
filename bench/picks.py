"""Measures what a pick of each scheduler costs, in this process: no sockets, no peers."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from random import Random

from proxy.balance.backend import Backend
from proxy.balance.hashing import hash_key
from proxy.balance.least_latency import observe
from proxy.balance.names import ALIASES, SCHEDULERS
from proxy.balance.selector import build

COUNTS = (1, 10, 100, 1000)
PICKS = 20_000
CLIENTS = 2000  # different keys
HELD = 2  # connections open at a time, for each backend
WEIGHTS = (1, 2, 3, 4)
Pick = Callable[[int], Backend | None]


def backends(count: int) -> tuple[Backend, ...]:
    """Return backends of several weights that are up and answer within 1 to 2 ms."""
    found = tuple(Backend(f"10.0.0.{place}", place, WEIGHTS[place % 4], "up") for place in range(count))
    for backend in found:
        observe(backend, 0.001 + 0.001 * backend.index / count, 1.0)
    return found


def serve(pick: Pick, changed: Callable[[Backend], None] | None, held: deque[Backend], keys: Iterable[int]) -> float:
    """For each key pick, count and end the oldest, as the relay does; return the seconds of processor time."""
    start = time.thread_time()
    for key in keys:
        backend = pick(key)
        if backend is not None:
            backend.active += 1
            if changed is not None:
                changed(backend)
            held.append(backend)
        over = held.popleft()
        over.active -= 1
        if changed is not None:
            changed(over)
    return time.thread_time() - start


def measure(scheduler: str, count: int) -> float:
    """Return the nanoseconds of `pick` and of the calls of `changed` that the scheduler needs, without the loop.

    The time of the same loop with a dictionary look-up instead of the pick is subtracted.
    """
    members = backends(count)
    selector = build(scheduler, members, Random(1))
    keys = [hash_key(client.to_bytes(4, "big")) for client in range(CLIENTS)]
    held: deque[Backend] = deque()
    for key in islice(cycle(keys), HELD * count):
        backend = selector.pick(key)
        if backend is not None:
            backend.active += 1
            if selector.needs_changes:
                selector.changed(backend)
            held.append(backend)
    changed = selector.changed if selector.needs_changes else None
    serve(selector.pick, changed, held, islice(cycle(keys), count))
    took = serve(selector.pick, changed, held, islice(cycle(keys), PICKS))
    alone = serve(dict.fromkeys(keys, members[0]).get, None, held, islice(cycle(keys), PICKS))
    return (took - alone) / PICKS * 1e9


def report(rounds: int) -> str:
    """Return the table: medians over `rounds`; in each round every scheduler runs with each number of backends."""
    found: dict[tuple[str, int], list[float]] = {(name, count): [] for name in SCHEDULERS for count in COUNTS}
    for _ in range(rounds):
        for (name, count), times in found.items():
            times.append(measure(name, count))
    short = {name: alias for alias, name in reversed([*ALIASES.items()])}
    lines = [f"{'ns a pick':34}{'':6}" + "".join(f"{f'{count:,} backends':>16}" for count in COUNTS)]
    for name in SCHEDULERS:
        cells = "".join(f"{statistics.median(found[name, count]):16,.0f}" for count in COUNTS)
        lines.append(f"{name:34}{short.get(name, ''):6}{cells}")
    lines.append(f"{'hashing a client, where needed':40}{_hashing():16,.0f}{'the same':>16}")
    return "\n".join(lines)


def _hashing() -> float:
    address = b"192.0.2.1"
    start = time.thread_time()
    for _ in range(PICKS):
        hash_key(address)
    return (time.thread_time() - start) / PICKS * 1e9
