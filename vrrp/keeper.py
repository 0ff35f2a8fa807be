"""Refreshes the leases of all routers in time and in slices, with many addresses in one message to the kernel.

Only adverts go before a refresh: they get a turn after each slice.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from vrrp.kernel import SLICE, Kernel
from vrrp.netlink import Request

TOGETHER = 0.25
"""s before it is due that a lease may be refreshed together with others."""

SHARE = 0.05
"""The share of all time that refreshes may take: if they take longer they come less often, down to `SLOWEST`."""
SLOWEST = 1.0
"""s between two refreshes at most: half of a lease."""

Key = tuple[int, str, int]
"""The kernel's key of an address: interface, address, prefix length."""

_log = logging.getLogger("steelyard.vrrp")


class Kept(Protocol):
    """A lease, as the keeper sees it."""

    due: float

    def begin(self) -> bool:
        """Begin a refresh; return False if there is nothing to refresh."""

    def orders(self) -> "Iterator[Order]":
        """Yield the orders for the kernel."""

    def done(self, order: "Order", code: int) -> None:
        """Note the error number of an order, 0 for success."""

    def end(self) -> None:
        """End a refresh."""


@dataclass(frozen=True, slots=True)
class Order:
    """One address to install or to refresh."""

    lease: Kept
    configured: str
    key: Key
    request: Request


class Keeper:
    """Refreshes leases from `add` to `drop`, each when it is due."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._leases: dict[Kept, None] = {}
        self._wake = asyncio.Event()
        self._took = 0.0  # s that the last round of refreshes took
        self._task: asyncio.Task[None] | None = None
        self.turn = asyncio.Lock()
        """Held for one slice and a turn of the loop by code that changes addresses; a refresh that is due does not wait."""

    def add(self, lease: Kept) -> None:
        """Refresh a lease from now on."""
        self._leases[lease] = None
        self.hurry()
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def drop(self, lease: Kept) -> None:
        """Refresh a lease no more."""
        self._leases.pop(lease, None)

    def hurry(self) -> None:
        """Check again when the leases are due."""
        self._wake.set()

    def interval(self, wanted: float) -> float:
        """Return the seconds until the next refresh of a lease that wants one after `wanted` seconds.

        The kernel looks at all IPv6 addresses of the host for each one that is refreshed.
        """
        return max(wanted, min(self._took / SHARE, SLOWEST))

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def carry_out(self, lease: Kept) -> None:
        """Refresh (or install) one lease now."""
        async with self.turn:
            await self._refresh([lease])

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            at = min((lease.due for lease in self._leases), default=math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(at) else max(0.0, at - time.monotonic())):
                    await self._wake.wait()
            now = time.monotonic()
            if any(lease.due <= now for lease in self._leases):
                self._took = await self._refresh([lease for lease in self._leases if lease.due <= now + TOGETHER])

    async def _refresh(self, leases: list[Kept]) -> float:
        """Refresh leases, a slice at a time; return the seconds that this took, without the turns of others."""
        took = 0.0
        orders: list[Order] = []
        complete: list[Kept] = []
        for lease in leases:
            if not self._guarded(lease.begin):
                continue
            for order in lease.orders():
                orders.append(order)
                if len(orders) == SLICE:
                    took += self._give(orders, complete)
                    orders, complete = [], []
                    await asyncio.sleep(0)
            complete.append(lease)
        took += self._give(orders, complete)
        await asyncio.sleep(0)
        return took

    def _give(self, orders: list[Order], complete: list[Kept]) -> float:
        """Give one slice of orders to the kernel; `complete` are the leases whose last ones are among them."""
        began = time.monotonic()
        for order, code in zip(orders, self._kernel.order([one.request for one in orders]), strict=True):
            order.lease.done(order, code)
        for lease in complete:
            self._guarded(lease.end)
        return time.monotonic() - began

    def _guarded(self, step: Callable[[], bool | None]) -> bool:
        try:
            return bool(step())
        except Exception:
            _log.exception("a lease could not be refreshed")
            return False
