"""The service manager that started the daemon: systemd's half of sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

Without a service manager every method does nothing.  No method blocks or raises: a manager that does not read must never
delay the master.  What changes the manager's view of the daemon (READY, MAINPID, descriptors to keep) waits, bounded, until
the manager reads again; STATUS and WATCHDOG are dropped, as newer ones follow.
"""

import fcntl
import os
import socket
import time
from array import array
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final, NamedTuple, Self

FIRST: Final = 3
"""The number of the first descriptor that a service manager passes."""
MOST_KEPT: Final = 4096
"""Descriptors of a store at most: their names are one environment variable, which the kernel limits to 128 KiB."""
BATCH: Final = 128
"""Descriptors in one message; the kernel takes 253 (SCM_MAX_FD)."""
WAITING: Final = 256
"""Messages that may wait for the manager to read."""
FOREVER: Final = 1e9
"""Seconds that "never" means to the manager."""
LONGEST_STATUS: Final = 400
"""Characters of a status."""
_NAME: Final = 24  # characters of the name of a kept descriptor: MOST_KEPT of them fit the environment variable

_OURS: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "FDSTORE",
)
_PASSED: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "FDSTORE")  # what a successor of this process may have


class _Message(NamedTuple):
    data: bytes
    fds: tuple[int, ...]


class ServiceManager:
    """The link to the service manager, for the life of the master."""

    def __init__(
        self, address: str = "", *, watchdog: float | None = None, kept: int = 0,
        restored: Mapping[str, list[int]] | None = None,
    ) -> None:  # fmt: skip
        """Prepare; `address` is that of NOTIFY_SOCKET, "" without a manager, `watchdog` the seconds of its patience.

        `kept` is how many descriptors the manager would keep, `restored` those that it kept.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._patience = watchdog
        self._kept = kept
        self.restored = dict(restored or {})
        """The descriptors that the manager kept from an earlier life, or opened for this one, by name."""
        self._waiting: deque[_Message] = deque()
        self._alive = float("-inf")
        self._status = ""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """Return the manager of these variables, and remove them: no child may speak to it, or take its descriptors.

        Variables that are not for this process are ignored, as sd_listen_fds(3) and sd_watchdog_enabled(3) demand.
        """
        found = {name: environ.pop(name, "") for name in _OURS}
        address = found["NOTIFY_SOCKET"]
        return cls(
            address if address[:1] in {"/", "@"} and len(address) > 1 else "",
            watchdog=_watchdog(found),
            kept=min(_number(found["FDSTORE"]), MOST_KEPT),
            restored=_restored(found),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables with which a successor of this process finds the same manager."""
        values = {
            "NOTIFY_SOCKET": "@" + self._address[1:] if self._address.startswith("\0") else self._address,
            "WATCHDOG_USEC": "" if self._patience is None else str(round(self._patience * 1e6)),
            "FDSTORE": str(self._kept) if self._kept else "",
        }
        return {name: values[name] for name in _PASSED if values[name]}

    @property
    def present(self) -> bool:
        """True if there is a service manager to notify."""
        return bool(self._address)

    @property
    def keeps_descriptors(self) -> bool:
        """True if the manager keeps descriptors for the next life.

        systemd 254 and later say so with FDSTORE; for earlier ones the unit sets the variable itself.
        """
        return self.present and self._kept > 0

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two signs of life: half of the manager's patience; None if it expects none."""
        return None if self._patience is None else self._patience / 2

    # -- what the daemon reports

    def notify(
        self,
        *,
        ready: bool = False,
        reloading: int | None = None,
        stopping: bool = False,
        mainpid: int | None = None,
        extend: float | None = None,
        status: str | None = None,
    ) -> None:
        """Send these changes in one message; `reloading` is the time of CLOCK_MONOTONIC in microseconds.

        `extend` asks for so many seconds more for the present start, reload or stop.
        """
        lines = []
        if mainpid is not None:
            lines.append(f"MAINPID={mainpid}")
        if reloading is not None:
            lines += ["RELOADING=1", f"MONOTONIC_USEC={reloading}"]
        if stopping:
            lines.append("STOPPING=1")
        if ready:
            lines.append("READY=1")
        if extend is not None:
            lines.append(f"EXTEND_TIMEOUT_USEC={round(min(extend, FOREVER) * 1e6)}")
        if status is not None:
            self._status = _line(status)
            lines.append(f"STATUS={self._status}")
        if lines:
            self._post(_Message("\n".join(lines).encode(), ()))

    def reloading(self) -> None:
        """Report that a reload has begun: `ready` ends it, whatever its outcome is."""
        self.notify(reloading=time.monotonic_ns() // 1000)

    def ready(self, status: str | None = None) -> None:
        """Report that the daemon serves: its start, or a reload, is done."""
        self.notify(ready=True, status=status)

    def say(self, status: str) -> None:
        """Show a status, in words, if it is another one than before."""
        line = _line(status)
        if line != self._status and self._send(_Message(f"STATUS={line}".encode(), ())):
            self._status = line

    def pulse(self, now: float) -> None:
        """Send a sign of life if one is due; to be called several times in each `watchdog_interval`."""
        self._flush()
        interval = self.watchdog_interval
        if interval is not None and now - self._alive >= interval and self._send(_Message(b"WATCHDOG=1", ())):
            self._alive = now

    # -- descriptors that outlive the daemon

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Let the manager keep these under a name, beside those that it has; a descriptor that it has is not doubled.

        They come back in the order of the sends.  Raises ValueError for a name that the manager could not give back.
        """
        if not _is_name(name):
            raise ValueError(f"{name!r} cannot name descriptors")
        if not self.keeps_descriptors:
            return
        for at in range(0, len(fds), BATCH):
            # FDPOLL=0: systemd would let go of a listening socket as soon as it has an error to report.
            self._post(_Message(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode(), tuple(fds[at : at + BATCH])))

    def unstore(self, name: str) -> None:
        """Let the manager close all that it keeps under a name."""
        if self.keeps_descriptors and _is_name(name):
            self._post(_Message(f"FDSTOREREMOVE=1\nFDNAME={name}".encode(), ()))

    def close(self) -> None:
        """Let go of the socket, and of what still waits."""
        self._flush()
        while self._waiting:
            _release(self._waiting.popleft())
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- sending

    def _post(self, message: _Message) -> None:
        """Send a message after those that wait, or let it wait with copies of its descriptors."""
        self._flush()
        if not self._waiting and self._send(message):
            return
        if not self.present or len(self._waiting) >= WAITING:
            return
        copies: list[int] = []
        try:
            for fd in message.fds:
                copies.append(os.dup(fd))  # noqa: PERF401 - those made before an error must be closed
        except OSError:
            _release(_Message(b"", tuple(copies)))
            return
        self._waiting.append(message._replace(fds=tuple(copies)))

    def _flush(self) -> None:
        while self._waiting and self._send(self._waiting[0]):
            _release(self._waiting.popleft())

    def _send(self, message: _Message) -> bool:
        """Return False if the manager cannot take the message now; True if it has it, or never will."""
        if not self.present:
            return True
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            # Not with `socket.send_fds`, which ignores the address.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", message.fds))] if message.fds else []
            self._socket.sendmsg([message.data], rights, 0, self._address)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def _line(status: str) -> str:
    """Return a status as one line: a line break would begin another assignment."""
    text = "".join(one if one.isprintable() else " " for one in status)
    return text[:LONGEST_STATUS]


def _release(message: _Message) -> None:
    for fd in message.fds:
        os.close(fd)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME and all("!" <= one <= "~" and one != ":" for one in name)


def _number(text: str) -> int:
    """Return a positive decimal number, 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0  # noqa: PLR2004 - 64 bits


def _is_for_us(pid: str) -> bool:
    return _number(pid) == os.getpid()


def _watchdog(found: Mapping[str, str]) -> float | None:
    patience = _number(found["WATCHDOG_USEC"])
    for_us = not found["WATCHDOG_PID"] or _is_for_us(found["WATCHDOG_PID"])
    return patience / 1e6 if patience and found["NOTIFY_SOCKET"] and for_us else None


def _restored(found: Mapping[str, str]) -> dict[str, list[int]]:
    """Return the descriptors by name, none of which a child inherits; without names all are "unknown"."""
    count = _number(found["LISTEN_FDS"])
    if not _is_for_us(found["LISTEN_PID"]) or count > MOST_KEPT:
        return {}
    names = found["LISTEN_FDNAMES"].split(":")
    if len(names) != count:
        names = ["unknown"] * count
    kept: dict[str, list[int]] = {}
    for fd, name in enumerate(names, FIRST):
        try:
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        except OSError:
            continue  # not open: a variable from elsewhere
        kept.setdefault(name, []).append(fd)
    return kept
