"""The commands whose answer is made here: `events` and `probe`. The others are one-liners of the master's."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.effective import written
from proxy.commands.find import find_backends, find_service
from proxy.control.server import Handler, Request
from proxy.control.wire import BAD_REQUEST, BUSY, ControlError
from proxy.records.timeline import Event, Timeline

if TYPE_CHECKING:
    from proxy.backends.effective import Running

Run = Callable[[list[str], float], Awaitable[list[dict[str, Any]] | None]]
"""`Prober.run`: targets' keys and seconds -> rows, None if it could not be done."""

CHUNK: Final = 200
"""Events a line: so that a long history holds the master up for less than a millisecond at a time."""


def events_handler(timeline: Timeline) -> Handler:
    """Return the handler of `events`: `since` and `until` in Unix seconds, `follow` to go on with what happens."""

    async def answer(request: Request) -> AsyncIterator[Mapping[str, Any]]:
        since = _moment(request, "since")
        until = _moment(request, "until")
        follow = request.arguments.get("follow", False)
        if not isinstance(follow, bool):
            raise ControlError("follow is true or false", BAD_REQUEST)
        if follow and until is not None:
            raise ControlError("follow has no end: leave until out", BAD_REQUEST)
        try:
            follower = timeline.follow() if follow else None  # before the history is read: nothing falls in between
        except RuntimeError as error:
            raise ControlError(str(error), BUSY) from None
        try:
            chunk: list[Event] = []
            for event in timeline.between(since, until):
                chunk.append(event)
                if len(chunk) == CHUNK:
                    yield _line(chunk, more=True)
                    chunk = []
                    await asyncio.sleep(0)
            yield _line(chunk, more=follow)
            if follower is not None:
                async for event in follower:
                    yield _line([event], more=True)
                yield _line([], more=False)
        finally:
            if follower is not None:
                follower.close()

    return answer


def probe_handler(running: "Running", run: Run) -> Handler:
    """Return the handler of `probe`: the probes of a `service`'s backends, or of one `backend`, run once, now.

    A first line says how many seconds it may take.
    """

    async def answer(request: Request) -> AsyncIterator[Mapping[str, Any]]:
        service = find_service(running.services, request.arguments.get("service"))
        wanted = request.arguments.get("backend")
        backends = service.backends if wanted is None else find_backends(service, wanted)
        names = {written((service.name, one.name)): one.name for one in backends}
        patience = max((probe.timeout for one in backends for probe in one.probes), default=0.0)
        yield {"timeout": patience, "more": True}
        rows = await run(list(names), patience)
        if rows is None:
            raise ControlError("the health process is starting, or has too much to do: try again", BUSY)
        if not rows:
            known = ", ".join(list(names.values())[:10])
            raise ControlError(f"{known}: in maintenance, which is not probed: drain it instead, or make it ready")
        told = [{"service": service.name, "backend": names[row["key"]], **row} for row in rows]
        for row in told:
            del row["key"]
        yield {"probes": told, "more": False}

    return answer


def _moment(request: Request, name: str) -> float | None:
    value = request.arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ControlError(f"{name} is a time in Unix seconds", BAD_REQUEST)
    return float(value)


def _line(events: list[Event], *, more: bool) -> dict[str, Any]:
    return {"events": [event.as_dict() for event in events], "more": more}
