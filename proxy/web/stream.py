"""`/events`: server-sent events for the page.

    event: status    data: the number of a new snapshot: the page gets /status.json then
    event: event     data: an event of the timeline, as JSON

A browser that reads too slowly is cut, and connects anew.
"""

import asyncio
import json
from typing import Final

from aiohttp import web

from proxy.web.view import View

WRITE_TIME: Final = 10.0
"""Seconds that a client may take to read what was sent."""
QUIET: Final = 10.0
"""Seconds without news after which the stream says so, so that both sides see that the other one lives."""
PAST: Final = 100
"""Events that a new stream begins with."""


async def streamed(view: View, request: web.Request) -> web.StreamResponse:
    """Answer with a stream that lasts until the client leaves or is too slow."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    answer.force_close()
    await answer.prepare(request)
    told = max(0, view.told - PAST)
    number = -1
    try:
        while True:
            view.ask()
            lines, told, number = _lines(view, told, number)
            await _write(answer, lines or ": nothing new\n\n")
            await view.change(told, number, QUIET)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    return answer


async def _write(answer: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_TIME):
        await answer.write(text.encode())


def _lines(view: View, told: int, number: int) -> tuple[str, int, int]:
    """Return what is new, and up to where it has been told."""
    lines = [f"event: event\ndata: {json.dumps(event)}\n\n" for event in view.since(told)]
    if view.number > number:
        lines.append(f"event: status\ndata: {view.number}\n\n")
    return "".join(lines), view.told, max(view.number, number)
