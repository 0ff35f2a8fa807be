"""The controls of hostile.c: threads that send what nobody should send, as clients and as backends of datagrams."""

import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.sanitize.faults import FLAGS

SOURCE = Path(__file__).with_name("hostile.c")
TURN = 0.2  # s after which a backend looks whether it is to end


class _Shared(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("stop", "sent", "received", "bad")]


def compiled(folder: Path) -> Path:
    """Compile the library in a folder, unless it is there already; return its path."""
    library = folder / "hostile.so"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([os.environ.get("CC", "gcc"), *FLAGS, "-o", str(library), str(SOURCE)], check=True)
    return library


class Hostile:
    """What all hostile threads of a process share."""

    def __init__(self, library: Path, taken: int, window: int = 4000) -> None:
        """`taken` is the address of the number of datagrams that have been received; `window` are under way at most."""
        self._library = ctypes.CDLL(str(library))
        self._shared = _Shared()
        self._taken = ctypes.c_void_p(taken)
        self._window = window
        self._threads: list[threading.Thread] = []

    @property
    def sent(self) -> int:
        """Datagrams that clients and backends have sent."""
        return int(self._shared.sent)

    @property
    def received(self) -> int:
        """Answers that clients have received."""
        return int(self._shared.received)

    @property
    def bad(self) -> int:
        """Answers that are no DNS answers, although DNS was asked."""
        return int(self._shared.bad)

    def backend(self, sock: socket.socket, *, dns: bool, seed: int) -> None:
        """Answer what arrives at a bound socket, until `stop`."""
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(TURN * 1e6)))
        self._start(self._library.hostile_backend, sock.fileno(), int(dns), ctypes.c_uint64(seed), self._at)

    def clients(
        self, socks: Sequence[socket.socket], corpus: Sequence[bytes], *, dns: bool, seed: int, count: int
    ) -> threading.Thread:
        """Send `count` datagrams over connected sockets, made of a corpus of valid ones; the thread that does."""
        numbers = (ctypes.c_int * len(socks))(*(sock.fileno() for sock in socks))
        ends = (ctypes.c_uint32 * len(corpus))(*(sum(map(len, corpus[: at + 1])) for at in range(len(corpus))))
        return self._start(
            self._library.hostile_clients, numbers, len(socks), b"".join(corpus), ends, len(corpus), int(dns),
            ctypes.c_uint64(seed), ctypes.c_long(count), self._at, self._taken, ctypes.c_long(self._window),
        )  # fmt: skip

    @property
    def stopped(self) -> bool:
        """Return True if the threads are to end."""
        return bool(self._shared.stop)

    def stop(self) -> None:
        """End all threads."""
        self._shared.stop = 1
        for thread in self._threads:
            thread.join(10)

    @property
    def _at(self) -> object:
        return ctypes.byref(self._shared)

    def _start(self, function: "ctypes._FuncPointer", *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self._threads = [one for one in self._threads if one.is_alive()]
        self._threads.append(thread)
        return thread
