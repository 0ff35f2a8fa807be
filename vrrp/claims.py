"""Decides which process of this host acts for a virtual router: the process that claimed it last.

A vrrp process can outlive its daemon, running or stopped.  When a new daemon starts another one, two processes of the
same host would advertise one router, reset its clients, and remove each other's addresses.  So every process binds a
datagram socket to an abstract name, which belongs to the network namespace, and sends its claims to all other such
sockets.  Each process reads its socket before each act.  Once another process has claimed a router, it does nothing
more for that router: it sends nothing, and it leaves the addresses alone.  A process that was stopped finds the message
when it wakes.

A process finds the other sockets in /proc/net/unix.  Every user of the host may bind such a name, and send to our
socket: a message counts only if it comes from root or from the user of this process (SCM_CREDENTIALS in unix(7)).
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from vrrp.settings import Key

PREFIX = "steelyard-vrrp/"
"""The start of the abstract names; the rest names the process, for people."""
AGAIN = 0.1
"""s until a message is sent again to a process whose socket is full."""
LOOK = 1.0
"""s between two checks whether the process that claimed a router after us still lives."""

_SOCKETS = Path("/proc/thread-self/net/unix")  # of the thread's network namespace
_AT_ONCE = 1024  # messages: more than a socket can hold (net.unix.max_dgram_qlen)
_MESSAGE = 1 << 16  # octets
_IN_ONE = 512  # routers in a message
_CREDENTIALS = struct.Struct("=iii")  # process, user, group

_Number = tuple[int, int]
"""Orders claims: nanoseconds of the monotonic clock, which all processes of a host share, and a random number."""
_NEVER: _Number = (0, 0)


class Claims:
    """The claims of one process.

    `on_lost(key, pid)`: process `pid` has claimed a router after us (0: a process that we cannot see).
    `on_regained(key)`: that process is gone, and we have claimed the router again.
    `on_taken(keys, pid)`: process `pid` was one of these routers, and has let them go.
    All three are called from the loop, not from within `held`.
    """

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        on_lost: Callable[[Key, int], None],
        on_regained: Callable[[Key], None],
        on_taken: Callable[[Collection[Key], int], None],
    ) -> None:
        self._claimed = dict.fromkeys(keys, _NEVER)  # -> the number of our claim
        self._on_lost = on_lost
        self._on_regained = on_regained
        self._on_taken = on_taken
        self._loop = asyncio.get_running_loop()
        self._lost: dict[Key, bytes] = {}  # -> the socket's name of the process that has it
        self._socket: socket.socket | None = None
        self._buffer = bytearray(_MESSAGE)
        self._timers: set[asyncio.TimerHandle] = set()
        self.ignored = 0
        """How many messages did not count: of other users, or not readable."""

    def take(self) -> None:
        """Claim all routers.  Raises OSError if no socket can be bound."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            made.bind(f"\0{PREFIX}{os.getpid()}-{secrets.randbits(32):08x}")
            self._loop.add_reader(made, self._read)
        except BaseException:
            made.close()
            raise
        self._socket = made
        self._claim(self._claimed)

    def change(self, keys: Collection[Key]) -> None:
        """Have claims of these routers only: claim those that are new, and give up the others."""
        news = [key for key in keys if key not in self._claimed]
        for key in self._claimed.keys() - set(keys):
            del self._claimed[key]
            self._lost.pop(key, None)
        self._claim(news)

    def held(self, key: Key) -> bool:
        """Return True if no other process has claimed the router after us, by all messages up to now."""
        self._read()
        return key not in self._lost

    @property
    def all_lost(self) -> bool:
        """Whether other processes have claimed every router."""
        return bool(self._lost) and len(self._lost) == len(self._claimed)

    def close(self) -> None:
        """Give up all claims."""
        for timer in self._timers:
            timer.cancel()
        if self._socket is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have gone first
                self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    # Messages to other processes

    def _claim(self, keys: Collection[Key]) -> None:
        number = time.monotonic_ns(), secrets.randbits(32)
        self._claimed |= dict.fromkeys(keys, number)
        if self._socket is None:
            return
        whole = sorted(keys)
        parts = [whole[start : start + _IN_ONE] for start in range(0, len(whole), _IN_ONE)]
        for name in _others(self._name):
            for part in parts:
                self._send(name, {"number": number, "claims": part})

    @property
    def _name(self) -> bytes:
        return self._socket.getsockname() if self._socket is not None else b""

    def _send(self, name: bytes, message: dict[str, Any]) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(json.dumps(message).encode(), name)
        except BlockingIOError:  # it is stopped, or flooded; it must get the message all the same
            self._later(AGAIN, lambda: self._send(name, message))
        except OSError:
            pass  # it is gone

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = self._loop.call_later(delay, run)
        self._timers.add(timer)

    # Messages from other processes

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                size, ancillary, flags, name = self._socket.recvmsg_into([self._buffer], 256)
            except OSError:
                return
            sender = _credentials(ancillary)
            if sender is None or sender[1] not in {0, os.geteuid()} or flags & socket.MSG_TRUNC or not name:
                self.ignored += 1
                continue
            try:
                self._take_in(json.loads(self._buffer[:size]), sender[0], name)
            except (ValueError, TypeError, KeyError):
                self.ignored += 1

    def _take_in(self, message: dict[str, Any], pid: int, name: bytes) -> None:
        if "released" in message:
            keys = self._claimed.keys() & _keys(message["released"])
            if keys:
                self._loop.call_soon(self._on_taken, keys, pid)
            return
        time_, random = message["number"]
        # A process that claimed before us learns that from our own message.
        mine = {one for one in _keys(message["claims"]) if (time_, random) > self._claimed.get(one, (time_, random))}
        news = mine - self._lost.keys()
        waiting = bool(self._lost)
        self._lost |= dict.fromkeys(mine, name)
        for key in sorted(news):
            self._loop.call_soon(self._on_lost, key, pid)
        if news:
            self._send(name, {"released": sorted(news)})  # one message can hold it: the claims came in one
            if not waiting:
                self._later(LOOK, self._look)

    def _look(self) -> None:
        """Claim the routers again whose process has ended."""
        if self._lost:
            there = set(_others(self._name))
            free = {key for key, name in self._lost.items() if name not in there}
            if free:
                for key in sorted(free):
                    del self._lost[key]
                    self._loop.call_soon(self._on_regained, key)
                self._claim(free)
        if self._lost:
            self._later(LOOK, self._look)


def _others(own: bytes) -> list[bytes]:
    """Return the names of all such sockets but our own."""
    start = b"@" + PREFIX.encode()
    try:
        lines = _SOCKETS.read_bytes().splitlines()
    except OSError:
        return []
    found = [line.split(None, 7)[-1] for line in lines if start in line]
    names = [b"\0" + one[1:] for one in found if one.startswith(start)]
    return [name for name in names if name != own]


def _credentials(ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, int, int] | None:
    """Return process, user and group of the sender, from the kernel."""
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid, uid, gid = _CREDENTIALS.unpack_from(value)
            return pid, uid, gid
    return None


def _keys(values: Any) -> set[Key]:
    return {(str(interface), int(vrid), int(family)) for interface, vrid, family in values}
