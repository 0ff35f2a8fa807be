"""A control server on a real socket, in a thread with a loop of its own, for synchronous clients."""

import asyncio
import socket
import threading

import pytest

from proxy.control.server import ControlServer
from proxy.control.wire import ControlError


class Daemon:
    """A server that is told what to answer; `acts` lists the commands that took effect."""

    def __init__(self, path, **more):
        self.path = path
        self.acts = []
        self.loop = asyncio.new_event_loop()
        self.server = ControlServer(path, **more)
        self.server.register("status", lambda request: {"status": "fine"}, mutates=False)
        self.server.register("act", self._act, mutates=True)
        self.server.register("fail", self._fail, mutates=False)
        self.server.register("bug", self._bug, mutates=False)
        self.server.register("slow", self._slow, mutates=False)
        self.server.register("big", lambda request: {"big": "x" * 8_000_000}, mutates=False)
        self.server.register("endless", self._endless, mutates=False)
        self.endless_ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def start(self):
        """Answer from now on."""
        self.thread.start()
        self.call(self.server.start())
        return self

    def stop(self):
        """End the thread; raise if the loop was left with tasks."""
        self.call(self.server.close())
        left = self.call(self._left())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        assert left == 0

    def call(self, coroutine):
        """Run something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def connect(self):
        """Return a raw client."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.path))
        client.settimeout(10)
        return client

    def _run(self):
        self.loop.run_forever()

    async def _left(self):
        for _ in range(10):  # what was accepted in the last instant is let go, and transports close a turn later
            await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - 1

    def _act(self, request):
        self.acts.append(request.arguments)
        return {"changed": True}

    async def _fail(self, request):
        raise ControlError("the backend is unknown", "unknown-backend", backend="x")

    async def _bug(self, request):
        raise OSError("a bug")

    async def _slow(self, request):
        await asyncio.sleep(60)
        return {}

    async def _endless(self, request):
        try:
            yield {"number": 0, "more": True}
            await asyncio.sleep(60)
        finally:
            self.endless_ended.set()


@pytest.fixture
def start(tmp_path):
    """Return what starts a daemon with the given limits."""
    daemons = []

    def start(**more):
        daemon = Daemon(tmp_path / f"control{len(daemons)}.sock", **more).start()
        daemons.append(daemon)
        return daemon

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture
def daemon(start):
    """Return a daemon with the usual limits."""
    return start()
