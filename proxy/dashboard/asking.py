"""Asks the daemon in a thread of its own, so that a slow or silent one never stops the picture."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from proxy.dashboard.detail import CONNECTIONS, Extra
from proxy.dashboard.source import Source
from proxy.status.schema import Status

T = TypeVar("T")

EVENTS: Final = 200
"""Events that are kept."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look brought: a snapshot or why there is none, and the events that are new or why there are none."""

    status: Status | None
    events: list[dict[str, Any]]
    away: str = ""
    events_away: str = ""
    spent: float = 0.0
    """Seconds of processor that it cost here."""


async def in_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns.  Its thread does not keep the process alive: who quits does not wait for a daemon."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(set_: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            set_(value)

    def run() -> None:
        try:
            set_, value = done.set_result, work()
        except Exception as error:
            set_, value = done.set_exception, error  # type: ignore[assignment]
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, set_, value)

    threading.Thread(target=run, name="asking", daemon=True).start()
    return await done


def look(source: Source, since: float | None) -> Look:
    """Ask for the snapshot, and for the events from `since` on."""
    began = time.thread_time()
    try:
        status = source.status()
    except Exception as error:
        return Look(None, [], away=str(error) or type(error).__name__)
    try:
        events = source.events(EVENTS, since)
    except Exception as error:
        return Look(status, [], events_away=str(error) or type(error).__name__, spent=time.thread_time() - began)
    return Look(status, events, spent=time.thread_time() - began)


def merged(known: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last events, each once: some of the known ones are sent again."""
    seen = set(map(_same, known))
    return [*known, *(event for event in new if _same(event) not in seen)][-EVENTS:]


def _same(event: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(event.get(key)) for key in ("at", "kind", "subject", "text"))


def extra(source: Source, service: str, backend: str) -> Extra:
    """Ask for what only one backend's page shows."""
    if not source.writable:
        return Extra(why="who is connected, and the histogram, are known over the control socket only")
    try:
        cells = next(iter(source.stream("latency", service=service, backend=backend)))["cells"]
        rows: list[dict[str, Any]] = []
        for answer in source.stream("connections", service=service, backend=backend):
            rows += answer["connections"]
            if len(rows) > CONNECTIONS:
                break
        return Extra(list(islice(rows, CONNECTIONS)), more=len(rows) > CONNECTIONS, cells=cells)
    except Exception as error:
        return Extra(why=str(error) or type(error).__name__)
