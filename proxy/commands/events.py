"""The command `events`: the timeline, and what happens from then on."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from proxy.commands.arguments import flag, moment, number, text
from proxy.control.server import Handler, Request
from proxy.control.wire import BAD_REQUEST, BUSY, ControlError
from proxy.records.timeline import LOST, Event, Timeline, Wanted

CHUNK: Final = 200
"""Events a line, so that a long history blocks the master for less than a millisecond at a time."""


def events_handler(timeline: Timeline) -> Handler:
    """Return the handler of `events`: `since` and `until` in Unix seconds, `service`, `kind`, and `last`, a number.

    `follow` goes on with new events.
    """

    async def answer(request: Request) -> AsyncIterator[Mapping[str, Any]]:
        wanted = Wanted(
            moment(request, "since"), moment(request, "until"), text(request, "service"), text(request, "kind")
        )
        last, follow = number(request, "last"), flag(request, "follow")
        if follow and wanted.until is not None:
            raise ControlError("follow has no end: omit until", BAD_REQUEST)
        try:
            # Before the history, so that no event is missed in between.
            follower = timeline.follow() if follow else None
        except RuntimeError as error:
            raise ControlError(str(error), BUSY) from None
        try:
            past = deque((event for event in timeline.between() if event in wanted), maxlen=last)
            while len(past) > CHUNK:
                yield _line([past.popleft() for _ in range(CHUNK)], more=True)
                await asyncio.sleep(0)
            yield _line(list(past), more=follow)
            if follower is not None:
                async for event in follower:
                    if event in wanted or event.kind == LOST:
                        yield _line([event], more=True)
                yield _line([], more=False)
        finally:
            if follower is not None:
                follower.close()

    return answer


def _line(events: list[Event], *, more: bool) -> dict[str, Any]:
    return {"events": [event.as_dict() for event in events], "more": more}
