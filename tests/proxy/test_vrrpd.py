"""Tests of the vrrp child's side of the channel; tests/e2e has the rest."""

import asyncio
import socket

from proxy import vrrpd
from proxy.processes import codec
from proxy.processes.messages import common as messages


async def test_another_level(monkeypatch):
    """R3: vrrp logs at the level, and in the format, that the master names, before its routers start too."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    changed = asyncio.Queue()
    monkeypatch.setattr(vrrpd.log, "change", lambda *to: changed.put_nowait(to))
    child = vrrpd.Vrrp(theirs, [])
    ours.send(b"J" + codec.encode(messages.Level("debug", "json")))
    async with asyncio.timeout(5):
        assert await changed.get() == ("debug", "json")
    await child.end(hand_over=False)
    ours.close()
