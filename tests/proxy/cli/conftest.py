"""A control socket that answers as a daemon does, for the commands that ask one."""

import asyncio
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from proxy.commands.events import events_handler
from proxy.control.server import ControlServer
from proxy.records.timeline import Timeline


def backend(name, state, **more):
    """Return a backend's status."""
    usable = 1 if state == "up" else 0
    return {
        "name": name, "address": name, "state": state, "reason": "", "admin": "ready", "admin_by": None,
        "admin_reason": None, "tier": 0, "weight": 1, "effective_weight": usable, "active": 0, "queued": 0, "total": 0,
        "rate": 0.0, "latency_ms": {"p50": None, "p99": None}, "bytes_in": 0, "bytes_out": 0, "errors": {"reset": 0},
        "since": "1970-01-01T00:16:40.000Z", "origin": "file", "probes": [], **more,
    }  # fmt: skip


def whole_status(*backends, state="up", **more):
    """Return the status of a daemon with one service."""
    service = {
        "name": "dns", "protocol": "dns", "listen": ["10.0.0.10:53/udp"], "scheduler": "least-connections",
        "state": state, "quorum": 1, "backends": list(backends), "counters": {"queries": 100, "servfail": 0},
    }  # fmt: skip
    worker = {
        "index": 0, "pid": 4711, "alive": True, "restarts": 0, "generation": 1, "draining": False, "heartbeat_age_s": 0.01,
    }  # fmt: skip
    return {
        "schema": 1, "node": "lb1", "version": "0.1.0", "uptime_s": 3700.0, "generation": 1,
        "config": {
            "sha256": "abcdef0123456789", "valid": True, "error": None, "on_disk_sha256": "abcdef0123456789", "overrides": 0,
        },
        "services": [service], "vrrp": [], "alarms": [], "notify": [], "workers": [worker], **more,
    }  # fmt: skip


def router(**more):
    """Return a router's status."""
    return {
        "name": "inside", "state": "backup", "priority": 150, "effective_priority": 150,
        "priority_parts": {"configured": 150}, "addresses": ["10.0.0.10/32"], "standby": False, "standby_since": None,
        "standby_reason": None, "since": "1970-01-01T00:32:20.000Z",
        "peer": {"node": "lb2", "address": "10.0.0.3", "priority": 100, "last_advert_s": 0.3},
        "last_change": {"at": "1970-01-01T00:32:20.000Z", "from": "active", "to": "backup", "reason": "eth1 is down"},
        "counters": {}, **more,
    }  # fmt: skip


class Daemon:
    """What it is given in `status` and `config` it answers; `timeline` is its own."""

    def __init__(self, path):
        self.path = path
        self.status = whole_status(backend("10.0.0.11", "up"))
        self.config = {}
        self.clock = SimpleNamespace(now=1_000_000.0)
        self.timeline = Timeline(clock=lambda: self.clock.now)
        self.loop = asyncio.new_event_loop()
        self.server = ControlServer(path)
        self.server.register("status", lambda request: {"status": self.status}, mutates=False)
        self.server.register("config", lambda request: {"config": self.config}, mutates=False)
        self.server.register("events", events_handler(self.timeline), mutates=False)
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.call(self.server.start())

    def call(self, coroutine):
        """Run something in the daemon's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def add(self, *event, **fields):
        """Record an event."""

        async def record():
            self.timeline.add(*event, **fields)

        self.call(record())

    async def _close(self):
        self.timeline.close()
        await asyncio.sleep(0.05)  # so that followers hear of the end before their connections go
        await self.server.close()
        await asyncio.sleep(0)

    def stop(self):
        """End it as a daemon ends."""
        if self.thread.is_alive():
            self.call(self._close())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


@pytest.fixture
def daemon(tmp_path):
    """Run a daemon."""
    made = Daemon(tmp_path / "control.sock")
    yield made
    made.stop()


ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in {"STEELYARD_SOCKET", "NO_COLOR"}}


@pytest.fixture
def steelyard():
    """Return what runs the command as a user does, and how it ended."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "proxy", *map(str, arguments)],
            capture_output=True, text=True, timeout=30, check=False, env={**ENVIRONMENT, "TZ": "UTC", **environment},
        )  # fmt: skip

    return run


@pytest.fixture
def background():
    """Return what starts the command and lets it run; what is left at the end is killed."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, "TZ": "UTC"},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def make():
    """Return what makes statuses and backends."""
    return SimpleNamespace(status=whole_status, backend=backend, router=router)
