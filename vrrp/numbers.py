"""Keeps the numbers of signed adverts over restarts: recorded adverts do not count again, and our numbers only grow.

A thread writes the numbers, as a file may take long.  After a crash the file is a little old.  `Numbers.next_sent`
allows for the adverts that this host may have sent since.  An advert that it received since can count once more, until
the sender's next advert.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Protocol, Self

from vrrp.auth import number_after
from vrrp.background import start_thread
from vrrp.packet import IPAddress

PERIOD: Final = 10.0
"""s between two writes; a number that jumps ahead is written at once."""
_REBOOT: Final = 2 * PERIOD  # s that our numbers skip after a crash and a reboot
_JUMP: Final = int(PERIOD) << 32
_LOOK = 1.0  # s between two checks of the numbers
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Store(Protocol):
    """A document that outlives the process.  Both methods may block, and raise OSError or ValueError with a reason."""

    def load(self) -> Any:
        """Return the document that was saved last, None if there is none."""

    def save(self, document: Any) -> None:
        """Replace the whole document."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The highest number of our own adverts, and of each sender by router ("eth0/51/4")."""

    sent: int = 0
    seen: Mapping[str, Mapping[IPAddress, int]] = field(default_factory=dict)
    at: float = 0.0
    """Seconds since the boot `boot` when they were noted; `boot` is "" if nothing was sent afterwards."""
    boot: str = ""

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """Read a document.  Raises ValueError if it is not one of `to_document`."""
        try:
            seen = {
                str(router): {ip_address(sender): _number(number) for sender, number in senders.items()}
                for router, senders in document["seen"].items()
            }
            at = float(document["at"])
            if not math.isfinite(at):
                raise ValueError(at)  # noqa: TRY301 - as all else that is wrong
            return cls(_number(document["sent"]), seen, at, str(document["boot"]))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError("the file does not hold the numbers of adverts") from error

    def to_document(self) -> dict[str, Any]:
        """Return what `from_document` reads."""
        seen = {router: {str(sender): one for sender, one in senders.items()} for router, senders in self.seen.items()}
        return {"sent": self.sent, "seen": seen, "at": self.at, "boot": self.boot}

    def next_sent(self, boot: str, at: float) -> int:
        """Return a number that no advert of this host exceeded; `at` are seconds since the boot `boot`.

        Numbers grow with time, so after a crash in the same boot this one is not ahead of a correct clock.
        """
        if not self.sent or not self.boot:
            return self.sent
        return number_after(self.sent, max(at - self.at, 0.0) if boot == self.boot else _REBOOT)


class Keeper:
    """Loads and saves the numbers in a thread, which ends with the process.  `on_problem` gets messages for people."""

    def __init__(self, store: Store, on_problem: Callable[[str], None]) -> None:
        self._store = store
        self._on_problem = on_problem
        self._loop = asyncio.get_running_loop()
        self._boot = _boot_id()
        self._condition = threading.Condition()
        self._next: Numbers | None = None
        self._ending = False
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._written = Numbers()
        self._present: Callable[[], Numbers] = Numbers
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._loaded: asyncio.Future[Numbers] = self._loop.create_future()
        start_thread("vrrp numbers", self._work)

    async def load(self, patience: float) -> Numbers:
        """Return the stored numbers, with `sent` from `next_sent`; empty ones if the file takes over `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                found = await asyncio.shield(self._loaded)
        except TimeoutError:
            self._on_problem(f"the numbers of signed adverts could not be read within {patience:g} s")
            found = Numbers()
        return Numbers(found.next_sent(self._boot, _since_boot()), found.seen)

    def follow(self, present: Callable[[], Numbers]) -> None:
        """Write what `present()` returns from now on, whenever a write is due."""
        self._present = present
        self._look()

    async def close(self, patience: float) -> None:
        """Write the last numbers, and wait for at most `patience` seconds."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._write(self._present(), ending=True)
        await asyncio.wait([self._done], timeout=patience)

    def _look(self) -> None:
        self._timer = self._loop.call_later(_LOOK, self._look)
        now, before = self._present(), self._written
        if (now.sent, now.seen) == (before.sent, before.seen):
            return
        at = _since_boot()
        if at - before.at >= PERIOD or now.sent - before.sent >= _JUMP:
            self._write(Numbers(now.sent, now.seen, at, self._boot))

    def _write(self, numbers: Numbers, *, ending: bool = False) -> None:
        self._written = numbers
        with self._condition:
            self._next, self._ending = numbers, ending  # replaces numbers that were not written yet
            self._condition.notify()

    def _work(self) -> None:
        found = Numbers()
        try:
            if (document := self._store.load()) is not None:
                found = Numbers.from_document(document)
        except (OSError, ValueError) as error:
            self._say(self._on_problem, f"the numbers of signed adverts could not be read: {error}")
        self._say(self._set, self._loaded, found)
        ending = False
        while not ending:
            with self._condition:
                self._condition.wait_for(lambda: self._next is not None)
                numbers, self._next, ending = self._next, None, self._ending
            try:
                self._store.save(numbers.to_document() if numbers else None)
                self._failing = False
            except (OSError, ValueError) as error:
                if not self._failing:
                    self._say(
                        self._on_problem,
                        f"the numbers of signed adverts cannot be saved, so a restart will not know them: {error}",
                    )
                self._failing = True
        self._say(self._set, self._done, None)

    def _say(self, call: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    @staticmethod
    def _set(future: asyncio.Future[Any], result: Any) -> None:
        if not future.done():
            future.set_result(result)


def _number(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 1 << 64:
        raise ValueError(number)
    return number


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
