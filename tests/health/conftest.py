"""Real servers on loopback for the probes to meet, honest and hostile ones, and a count of what is left open."""

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

import pytest

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = Callable[[bytes], Iterable[bytes]]


class TcpServer:
    """A server that `talk` plays; it counts what it accepted."""

    def __init__(self, talk: Talk) -> None:
        self.accepted = 0
        self.arrived = asyncio.Event()
        self._clients: list[tuple[str, int]] = []
        self._talk = talk
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, host, port)
        return self._server.sockets[0].getsockname()[1]

    async def connections(self) -> int:
        """Return how many clients have connected, those too that are still to be accepted.

        A client may know that it is connected before this server does.  The kernel hands over clients in the order of
        their coming: one of our own comes last.
        """
        assert self._server is not None
        _, writer = await asyncio.open_connection(*self._server.sockets[0].getsockname()[:2])
        ours = writer.get_extra_info("sockname")
        while ours not in self._clients:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)
        writer.close()
        self.accepted -= 1
        return self.accepted

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._clients.append(writer.get_extra_info("peername"))
        self.arrived.set()
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._talk(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()


class UdpServer:
    """Sends back what `answer` makes of each datagram; on a plain socket, for asyncio sends no empty datagrams."""

    def __init__(self, answer: Answer, host: str, port: int) -> None:
        self.received = 0
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._socket, self._serve)

    def stop(self) -> None:
        """Stop answering."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _serve(self) -> None:
        data, address = self._socket.recvfrom(65535)
        self.received += 1
        with contextlib.suppress(OSError):  # the ICMP error of a client that left
            for reply in self._answer(data):
                self._socket.sendto(reply, address)


@pytest.fixture
async def tcp_server() -> AsyncIterator[Callable[..., Awaitable[tuple[TcpServer, int]]]]:
    """Return a function that starts a TCP server and returns it with its port."""
    started: list[TcpServer] = []

    async def start(talk: Talk, host: str = "127.0.0.1", port: int = 0) -> tuple[TcpServer, int]:
        server = TcpServer(talk)
        found = await server.start(host, port)
        started.append(server)
        return server, found

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
async def udp_server() -> AsyncIterator[Callable[..., Awaitable[tuple[UdpServer, int]]]]:
    """Return a function that starts a UDP server and returns it with its port."""
    started: list[UdpServer] = []

    async def start(answer: Answer, host: str = "127.0.0.1", port: int = 0) -> tuple[UdpServer, int]:
        server = UdpServer(answer, host, port)
        started.append(server)
        return server, server.port

    yield start
    for server in started:
        server.stop()


class Leftovers:
    """Counts this process's descriptors, watched descriptors and tasks against those at `mark`."""

    def mark(self) -> None:
        """Remember what is open now."""
        self.before = self._now()

    async def check(self) -> None:
        """Assert that nothing more is open; the test's servers live here too, so their ends get a moment to close."""
        for _ in range(300):
            if all(after <= before for after, before in zip(self._now(), self.before, strict=True)):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"descriptors, watched, tasks: {self._now()} left of {self.before}")

    def _now(self) -> tuple[int, int, int]:
        watched = asyncio.get_running_loop()._selector.get_map()
        return len(os.listdir("/proc/self/fd")), len(watched), len(asyncio.all_tasks())  # noqa: PTH208


@pytest.fixture
async def leftovers() -> Leftovers:
    """Return a count of what is open, marked before the test."""
    counted = Leftovers()
    counted.mark()
    return counted


@pytest.fixture
def cancelled_at() -> Callable[..., Awaitable[int]]:
    """Return a function that cancels a coroutine at its first await, then a new one at its second, and so on.

    It asserts after each that nothing is left, and returns how many awaits there were before one ran to its end.
    """

    async def each(make: Callable[[], Coroutine[Any, Any, Any]], leftovers: Leftovers) -> int:
        for step in itertools.count():
            running = make()
            try:
                for _ in range(step):
                    if not await _reached(running):
                        break  # what took two waits before may take one, where the server's words come together
                else:
                    running.send(None)
                    with pytest.raises(asyncio.CancelledError):
                        running.throw(asyncio.CancelledError())
                    await leftovers.check()
                    continue
            except StopIteration:
                pass
            await leftovers.check()
            return step
        raise AssertionError

    async def _reached(running: Coroutine[Any, Any, Any]) -> bool:
        """Run to the next await and wait for what it awaits, on behalf of the coroutine; whether there was one."""
        try:
            awaited = running.send(None)
        except StopIteration:
            return False
        if awaited is not None:
            awaited._asyncio_future_blocking = False
            await asyncio.wait([awaited])
        return True

    return each
