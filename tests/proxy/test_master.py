"""Tests of the master's own decisions; its processes are in the end-to-end tests."""
# ruff: noqa: ASYNC110 - a counter is polled

import asyncio

import pytest

from proxy import master as module
from proxy.config.loader import load
from proxy.master import Master
from proxy.processes import faults as faults_module
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.start import own_state, standing

PLENTY = 1 << 20
FILE = """
[node]
name = "n"
workers = 2
state-dir = "{dir}/state"
{node}
[control]
socket = "{dir}/control.sock"
[service.a]
listen = ["127.0.0.1:5353/udp"]
backends = ["192.0.2.1", "192.0.2.2"]
probe = {{ type = "none" }}
[service.b]
listen = ["127.0.0.1:5354/udp"]
backends = ["192.0.2.1"]
probe = {{ type = "none" }}
"""


@pytest.fixture
def config(tmp_path):
    def read(node=""):
        file = tmp_path / "steelyard.toml"
        file.write_text(FILE.format(dir=tmp_path, node=node))
        return load(file)

    return read


@pytest.fixture
async def master(config, monkeypatch):
    read = config()
    state = await own_state(read)
    one = Master(read, standing(read, PLENTY, lambda *_: None), state)
    one.sent, one.settled = [], 0
    monkeypatch.setattr(one._workers, "tell", one.sent.append)
    monkeypatch.setattr(one._workers, "settle", lambda: setattr(one, "settled", one.settled + 1))
    yield one
    one._columns.close()
    await state.close()


def probed(key, state):
    return health_messages.Probed(key, state, "because", 1.0)


async def test_a_service_opens_with_its_first_backend(master):
    """H1: a service is served once one backend is up, or when all are known to be down, and not before."""
    master._readiness.probed(probed("a/192.0.2.1", "down"))
    await asyncio.sleep(0)
    assert (master._opening.services, master.settled) == (set(), 0)
    master._readiness.probed(probed("b/192.0.2.1", "down"))
    await asyncio.sleep(0)
    assert (master._opening.services, master.settled) == ({"b"}, 1)
    master._readiness.probed(probed("a/192.0.2.2", "up"))
    await asyncio.sleep(0)
    assert (master._opening.services, master.settled) == ({"a", "b"}, 2)


async def test_verdicts_are_passed_on_together_and_before_serving(master):
    """Verdicts that come together go to the workers in one message, the last of each backend, before anything is polled."""
    order = []
    master._workers.settle = lambda: order.append("settle")
    master._workers.tell = lambda message: order.append(sorted(message.changes))
    for state in ("down", "up", "down", "up"):
        master._readiness.probed(probed("a/192.0.2.1", state))
    master._readiness.probed(probed("a/192.0.2.2", "down"))
    await asyncio.sleep(0)
    assert order == [[[0, 0, "up", "ready"], [0, 1, "down", "ready"]], "settle"]


async def test_what_is_no_news(master):
    """H13: a verdict that is known already, or on a backend that is not configured, is neither told nor passed on."""
    master._readiness.probed(probed("a/192.0.2.1", "up"))
    await asyncio.sleep(0)
    before = len(master._timeline)
    master._readiness.probed(probed("a/192.0.2.1", "up"))
    master._readiness.probed(probed("a/192.0.2.7", "up"))
    await asyncio.sleep(0)
    assert len(master._timeline) == before
    assert len(master.sent) == 1


async def test_a_bug_does_not_stop_the_supervision(master, monkeypatch):
    """An exception in a regular look is told, in the log and in the events, and the next look comes all the same."""
    monkeypatch.setattr(module, "TICK", 0.01)
    looks = []

    def look(now):
        looks.append(now)
        raise ZeroDivisionError

    sampled = []
    monkeypatch.setattr(master._workers, "look", look)
    monkeypatch.setattr(master._prober, "look", lambda now: None)
    monkeypatch.setattr(master._builder, "sample", lambda now, services: sampled.append(now))
    master._tick()
    async with asyncio.timeout(5):
        while len(looks) < 20:
            await asyncio.sleep(0.01)
    master.stop_now()
    assert sampled
    faults = [event for event in master._timeline.between() if event.kind == "fault"]
    assert len(faults) == faults_module.IN_FULL
    assert "ZeroDivisionError" in faults[0].text


async def test_what_the_sockets_group_may_not(master):
    """S2: the commands that end connections or move addresses are kept from the socket's group, those that look are not."""
    await master._start_control()
    try:
        changing = {name for name, command in master._control._commands.items() if command.mutates}
        assert {
            "disconnect",
            "standby",
            "resume",
            "add",
            "remove",
            "weight",
            "drain",
            "overrides-clear",
            "reexec",
            "take-over",
        } <= changing
        assert not changing & {"connections", "status", "events", "overrides"}
    finally:
        await master._control.close()


async def test_what_a_worker_says_of_a_backend_that_is_gone(master, monkeypatch):
    """R3: a hint or a failure that is about a backend that was removed meanwhile concerns nobody."""
    suspected = []
    monkeypatch.setattr(master._prober, "suspect", suspected.append)
    master.heard(1, worker_messages.Hint(0, 1))
    service = master._running.services["a"]
    master._running.replace(service.model_copy(update={"backends": service.backends[:1]}))
    master.heard(1, worker_messages.Hint(0, 1))
    master.heard(1, worker_messages.Failing(0, 1, 9, 1.0))
    assert suspected == ["a/192.0.2.2"]


async def test_a_slot_is_given_up_when_all_workers_have_confirmed(master, monkeypatch):
    """R3: the counters of a removed backend go to another one once each worker has said that it uses them no more."""
    monkeypatch.setattr(master._workers, "tell_all", lambda message: None)
    monkeypatch.setattr(master._prober, "send", lambda message: None)
    slots = master._running.slots[1]
    for life in (1, 2):
        master._provision.hold(life)
    service = master._running.services["a"]
    master._relisted("a", master._running.replace(service.model_copy(update={"backends": service.backends[:1]})))
    master.heard(1, worker_messages.Confirmed(2))
    assert len(slots) == 3
    master.heard(2, worker_messages.Confirmed(1))  # it has not heard of the second yet
    assert len(slots) == 3
    master._provision.release(2)
    assert len(slots) == 2
