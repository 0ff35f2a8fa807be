"""The start of a daemon in the place of another one: what it begins with, and the moments at which it may go on."""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from proxy.backends.effective import Running
from proxy.config.model import BackendKey, Config
from proxy.stats.columns import Columns
from proxy.stats.layout import Layout
from proxy.stats.slots import Slots
from proxy.succession.document import State
from proxy.succession.former_workers import HOLDER
from proxy.workers.provision import Remembered

LOOK = 0.02  # s between two looks whether the workers are ready
YIELDING = 5.0  # s that a starting daemon leaves the processors to the one that serves
POLL = 5.0  # s that workers may take to poll what they were given

Key = TypeVar("Key", bound=Hashable)
Take = Callable[[str], int]
"""Returns a predecessor's descriptor by its name, -1 if there is none."""


def layout(wanted: Layout, state: State | None) -> Layout:
    """Return a layout with room for a predecessor's slots: services and backends keep theirs."""
    if state is None:
        return wanted
    shape = state.shape
    return Layout(
        max(wanted.services, shape.services), max(wanted.backends, shape.backends), max(wanted.clients, shape.clients)
    )


def slots(where: Layout, state: State | None) -> tuple[Slots[str], Slots[BackendKey]]:
    """Return the slots of services and backends, as a predecessor had them."""
    services: Slots[str] = Slots(where.services)
    backends: Slots[BackendKey] = Slots(where.backends)
    if state is not None:
        services.restore(state.services, HOLDER)
        backends.restore(state.backends, HOLDER)
    return services, backends


def remembered(state: State | None, take: Take) -> Remembered | None:
    """Return what workers go on with."""
    return None if state is None else Remembered(state.generation, state.salt, take("store"), take("rates"))


def forget_new(state: State, running: Running, columns: Columns) -> None:
    """Let the counters of services and backends that the predecessor did not have begin with zero."""
    services, backends = running.slots
    for slot in _new(services, ((key, slot) for key, slot, _ in state.services)):
        columns.forget_service(slot)
    for slot in _new(backends, ((key, slot) for key, slot, _ in state.backends)):
        columns.forget_backend(slot)


def _new(now: Slots[Key], before: Iterable[tuple[Key, int]]) -> list[int]:
    known = set(before)
    return [slot for key, slot, assigned in now.rows() if assigned and (key, slot) not in known]


def is_same_directory(state: State | None, config: Config) -> bool:
    """Returns True if a predecessor has the same state directory."""
    return state is not None and state.state_dir == config.node.state_dir


async def until(condition: Callable[[], bool], patience: float) -> bool:
    """Wait until a condition holds, at most `patience` seconds; returns whether it does."""
    try:
        async with asyncio.timeout(patience):
            while not condition():  # noqa: ASYNC110 - shared memory announces no change
                await asyncio.sleep(LOOK)
    except TimeoutError:
        return False
    return True
