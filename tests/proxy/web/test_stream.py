"""Tests of the lines of a stream; tests/proxy/web/test_server.py reads whole ones."""

import json

from proxy.web.stream import _lines
from proxy.web.view import View


async def test_lines():
    """Each event is one line of JSON, whatever its text holds, and a snapshot is told once."""
    view = View(lambda: None)
    view.tell([{"text": "a\n\nevent: status\ndata: 9"}])
    view.take(b"{}")
    text, told, number = _lines(view, 0, -1)
    event, shown = text.split("\n\n")[:2]
    assert json.loads(event.partition("data: ")[2]) == {"text": "a\n\nevent: status\ndata: 9"}
    assert shown == "event: status\ndata: 0"
    assert _lines(view, told, number)[0] == ""
