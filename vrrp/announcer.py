"""Sends the announcements of all routers in slices of frames, so that adverts never wait for them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vrrp import arp
from vrrp.netlink import Link
from vrrp.packet import IPAddress
from vrrp.sockets import Frames

_SLICE = 32  # frames, then other work gets a turn
_PAUSE = 0.002  # s after each slice: more than 16,000 frames a second are lost in queues
_NO_ROOM = 0.02  # s until a frame is sent again for which the kernel had no room
_TRIES = 50


class Announced(Protocol):
    """A router whose addresses are announced."""

    counters: Counter[str]

    def announces_by(self) -> Link | None:
        """Return the interface that announcements leave by, None if the addresses are not held."""


@dataclass(slots=True)
class _Burst:
    """The announcements of one router that are still to be sent."""

    left: dict[IPAddress, int] = field(default_factory=dict)
    frames: dict[IPAddress, bytes] = field(default_factory=dict)


class Announcer:
    """Queues announcements: each address at most `count` times, however often `announce` is called."""

    def __init__(self, frames: Callable[[], Frames] = Frames) -> None:
        self._make = frames
        self._frames: Frames | None = None
        self._bursts: dict[Announced, _Burst] = {}
        self._task: asyncio.Task[None] | None = None
        self._sent = 0

    def announce(self, router: Announced, addresses: Sequence[IPAddress], count: int) -> None:
        """Announce each of these addresses `count` times, all of them once before any of them again."""
        burst = self._bursts.setdefault(router, _Burst())
        for one in addresses:
            burst.left[one] = max(count, burst.left.get(one, 0))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Announce no more."""
        self._bursts.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    async def _work(self) -> None:
        while self._bursts:
            for router, burst in list(self._bursts.items()):
                await self._round(router, burst)
                if not burst.left and self._bursts.get(router) is burst:
                    del self._bursts[router]

    async def _round(self, router: Announced, burst: _Burst) -> None:
        """Send each address of one router once."""
        for address in list(burst.left):
            link = router.announces_by()
            if link is None or not await self._send(router, link, burst, address):
                burst.left.clear()
                return
            burst.left[address] -= 1
            if burst.left[address] <= 0:
                del burst.left[address]

    async def _send(self, router: Announced, link: Link, burst: _Burst, address: IPAddress) -> bool:
        """Send one frame, and pause after each slice; return False if the interface takes no frames."""
        frame = burst.frames.get(address)
        if frame is None:
            frame = burst.frames[address] = _frame(address, link.mac)
        for _ in range(_TRIES):
            why = self._try(link.name, frame)
            if why != "send_no_room":
                break
            await asyncio.sleep(_NO_ROOM)
        router.counters[why or "announced"] += 1
        self._sent += 1
        if not self._sent % _SLICE:
            await asyncio.sleep(_PAUSE)
        return why != "send_failed"

    def _try(self, interface: str, frame: bytes) -> str:
        try:
            self._frames = self._frames or self._make()
        except OSError:
            return "send_failed"
        return self._frames.send(interface, frame)


def _frame(address: IPAddress, mac: bytes) -> bytes:
    if address.version == 4:  # noqa: PLR2004 - the version of IP
        return arp.build(arp.GratuitousArp(address, mac))
    return arp.build(arp.NeighbourAdvertisement(address, mac))
