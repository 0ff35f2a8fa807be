"""The regular work of a worker: what it shows the master without being asked."""

import contextlib
import os
import socket
import time
from pathlib import Path

from proxy.stats import layout
from tests.proxy.relay.conftest import Relay, eventually


def client(where: tuple[str, int]) -> socket.socket:
    """Return a client of a service over UDP."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(where)
    return sock


def backend() -> socket.socket:
    """Return a backend that says nothing."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def test_the_heartbeat_is_written_every_100_ms(relay: Relay) -> None:
    """R10: the heartbeat is never older than a fraction of the second after which a worker counts as stalled."""
    with backend() as server:
        where = relay.service([server.getsockname()], transports=("udp",))
        relay.start()
        beats: set[int] = set()
        oldest = 0
        until = time.monotonic() + 0.8
        with client(where) as sock:
            while time.monotonic() < until:
                sock.send(b"load")
                beat = relay.table.cells[layout.HEARTBEAT]
                oldest = max(oldest, time.monotonic_ns() - beat)
                beats.add(beat)
                time.sleep(0.0005)
    assert 3 <= len(beats) <= 10
    assert oldest < 0.6e9


def test_it_tells_what_is_open(relay: Relay) -> None:
    """Within about a second the header has the worker's numbers of sessions, members and descriptors."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(backend())
        where = relay.service([server.getsockname()], transports=("udp", "tcp"))
        relay.start()
        for _ in range(3):
            stack.enter_context(client(where)).send(b"x")
        cells = relay.table.cells
        eventually(lambda: cells[layout.SESSIONS] == 3)
        assert cells[layout.MEMBERS] == 2
        assert cells[layout.PID] == os.getpid()
        assert cells[layout.GENERATION] == 1
        assert cells[layout.LOOP_WAKEUPS] > 0
        assert cells[layout.LOOP_EVENTS] > 0
        assert cells[layout.INTERNAL_ERRORS] == 0
        # The size of the directory tells it since Linux 6.2 only.
        if Path("/proc/self/fd").stat().st_size:
            assert 0 < cells[layout.OPEN_FILES] < cells[layout.OPEN_FILES_LIMIT]
