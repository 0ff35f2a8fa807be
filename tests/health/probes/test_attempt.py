"""One run of a probe: the limits of reading, and nothing left open."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from health.probes import attempt as attempts
from health.probes.attempt import Attempt, drain
from health.probes.words import Failed


async def test_reading_is_bounded() -> None:
    """H4: one run reads at most 64 KiB, and tiny reads count for more than they bring."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        there.setblocking(False)

        async def read(piece: int) -> int:
            """Read until it is too much; returns how many bytes that was."""
            attempt, count = Attempt("192.0.2.1", 1, 1.0), 0
            with contextlib.suppress(Failed):
                while count <= 1 << 20:
                    there.send(b"x" * piece)
                    count += len(await attempt.receive(here, piece))
            return count

        assert 65536 - 4096 <= await read(4096) <= 65536
        assert await read(1) <= 1024
        attempt = Attempt("192.0.2.1", 1, 1.0)
        attempt.unread = 0
        there.send(b"x")
        with pytest.raises(Failed, match="sends data without end: 64 KiB read"):
            await attempt.receive(here, 1)


async def test_reading_gives_way_to_others() -> None:
    """H5: a server that always has something to say does not keep the loop from anybody else."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        there.send(b"x" * 1000)
        attempt = Attempt("192.0.2.1", 1, 1.0)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        for _ in range(100):
            await attempt.receive(here, 1)
        task.cancel()
        assert turns >= 100


async def test_close_closes_all(leftovers) -> None:
    """H4: whatever an attempt opened is closed with it."""
    attempt = Attempt("127.0.0.1", 9, 1.0)
    for _ in range(5):
        attempt.connect_udp()
    attempt.close()
    await leftovers.check()


async def test_meeting_ourselves_is_refused() -> None:
    """A socket whose local port is the probed port connects to itself: that counts as a refused connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    class Bound(Attempt):
        def _open(self, kind: socket.SocketKind) -> tuple[socket.socket, tuple[str, int]]:
            opened, name = super()._open(kind)
            opened.bind(name)
            return opened, name

    attempt = Bound("127.0.0.1", port, 1.0)
    try:
        with pytest.raises(Failed, match="connection refused"):
            await attempt.connect_tcp()
    finally:
        attempt.close()


def test_own_ports_are_the_kernels(tmp_path: Path, monkeypatch) -> None:
    """Where a connect may meet itself is what the kernel says, and anywhere where it says nothing."""
    for text, first in (("32768\t60999\n", 32768), ("1024 65535", 1024), ("", 1), (None, 1)):
        file = tmp_path / "range"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(attempts, "OWN_PORTS", file)
        attempts.first_own_port.cache_clear()
        assert attempts.first_own_port() == first
    attempts.first_own_port.cache_clear()


async def test_who_talks_is_not_kept_waiting() -> None:
    """A probe that sends more than one thing does not wait for acknowledgements between them; a mute one need not ask."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        attempt = Attempt("127.0.0.1", listener.getsockname()[1], 1.0)
        try:
            talker, mute = await attempt.connect_tcp(), await attempt.connect_tcp(mute=True)
            assert talker.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not mute.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            attempt.close()


async def test_drain_ends_with_fin() -> None:
    """A probe that read only part of a greeting closes without a reset, which would fill the server's log."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        attempt = Attempt(*listener.getsockname(), 1.0)
        opened = await attempt.connect_tcp()
        peer, _ = listener.accept()
        with peer:
            peer.send(b"220 mail.example.net\r\n")
            await attempt.readable(opened)
            drain(opened)
            attempt.close()
            peer.settimeout(1.0)
            assert peer.recv(10) == b""  # a reset would raise


def test_descriptors_are_counted_from_proc() -> None:
    """The count that the leak tests stand on sees a descriptor that is opened."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with socket.socket():
        assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208


async def test_udp_connect_that_fails_is_told(leftovers) -> None:
    """H3, H13: an error that the kernel knows before anything is sent ends the probe at once, in words."""
    attempt = Attempt("255.255.255.255", 53, 1.0)  # broadcast, which a plain socket may not send to
    with pytest.raises(Failed, match="EACCES"):
        attempt.connect_udp()
    attempt.close()
    await leftovers.check()
