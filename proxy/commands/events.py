"""The commands whose answer is made here: `events` and `probe`. The others are one-liners of the master's."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from proxy.commands.arguments import moment
from proxy.control.server import Handler, Request
from proxy.control.wire import BAD_REQUEST, BUSY, ControlError
from proxy.records.timeline import Event, Timeline

CHUNK: Final = 200
"""Events a line: so that a long history holds the master up for less than a millisecond at a time."""


def events_handler(timeline: Timeline) -> Handler:
    """Return the handler of `events`: `since` and `until` in Unix seconds, `follow` to go on with what happens."""

    async def answer(request: Request) -> AsyncIterator[Mapping[str, Any]]:
        since = moment(request, "since")
        until = moment(request, "until")
        follow = request.arguments.get("follow", False)
        if not isinstance(follow, bool):
            raise ControlError("follow must be true or false", BAD_REQUEST)
        if follow and until is not None:
            raise ControlError("follow has no end: omit until", BAD_REQUEST)
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


def _line(events: list[Event], *, more: bool) -> dict[str, Any]:
    return {"events": [event.as_dict() for event in events], "more": more}
