"""proxy.stopping: with the door open where nobody else would serve, in order where another host does, or at once."""

# ruff: noqa: D102 - the bed needs no words

import asyncio
from types import SimpleNamespace

import pytest

from proxy import stopping as module
from proxy.stopping import Stopping


class Bed:
    """A daemon that notes what its end does; `taken` says whether another host takes the addresses."""

    def __init__(self, timeout=30.0, *, keeps=False, services=("dns",)):
        self.calls, self.told, self.open, self.taken = [], [], 0, False
        note = self.calls.append
        node = SimpleNamespace(name="n", stop_timeout=timeout)
        running = SimpleNamespace(config=SimpleNamespace(node=node), services=dict.fromkeys(services))
        self.succession = SimpleNamespace(
            aside=False, busy=False, cancel=self.cancel, drain=lambda seconds: note(f"former {seconds:g}"),
            hurry=lambda: note("hurry"),
        )  # fmt: skip
        self.stop = Stopping(
            running,
            SimpleNamespace(sum=lambda _: self.open),
            SimpleNamespace(drain=lambda seconds, *, hand_over: note(f"drain {seconds:g} {hand_over}")),
            SimpleNamespace(close=lambda: note("close")),
            SimpleNamespace(
                yield_addresses=self.yield_addresses, leave=self.leave, hurry=lambda: note("hurry routers")
            ),
            SimpleNamespace(add=lambda kind, name, text, *, level: self.told.append(text)),
            SimpleNamespace(notify=lambda **said: note(f"manager {sorted(said)}"), keeps_descriptors=keeps),
            SimpleNamespace(add=lambda error, where: note(f"fault {where}")),
            lambda: "fine",
        )
        self.stop.succession = self.succession

    async def cancel(self, why):
        self.calls.append("cancel")

    async def yield_addresses(self, why):
        self.calls.append("yield")
        return self.taken

    async def leave(self, *, hand_over):
        self.calls.append(f"leave {hand_over}")

    def did(self):
        """Return what was done besides telling the manager."""
        return [one for one in self.calls if not one.startswith("manager")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.005)
    monkeypatch.setattr(module, "GRACE", 0.01)


async def test_the_door_stays_open():
    """R12: after SIGTERM, with nobody who takes the addresses, nothing is closed while a successor may come."""
    bed = Bed()
    bed.stop.signalled(waits=True)
    await asyncio.sleep(0.05)
    assert (bed.stop.begun, bed.stop.closed, bed.stop.waits) == (True, False, True)
    assert bed.did() == ["cancel", "yield"]
    assert bed.told == ["stopping: new clients are served until a successor starts, at most 30s"]
    bed.stop.succeeded(4711)
    await asyncio.sleep(0.02)
    assert bed.did() == ["cancel", "yield"]
    assert bed.stop.closed


async def test_nobody_comes():
    """R12: at the end of stop-timeout what is open is cut, with the former daemons' connections, unless a successor starts then."""
    bed = Bed(timeout=0.02)
    bed.open, bed.succession.busy = 1, True
    bed.stop.signalled(waits=True)
    await asyncio.sleep(0.06)
    assert not bed.stop.closed
    bed.succession.busy = False
    await asyncio.sleep(0.06)
    assert bed.did()[2:] == ["drain 0 False", "former 0", "close"]
    assert bed.told[-1] == "no successor has come: what is open is cut"
    assert bed.stop.ended.is_set()


async def test_a_manager_that_keeps_the_sockets():
    """R12: where the sockets are kept the daemon ends when nothing is open, and leaves the clients that wait to the next one."""
    bed = Bed(keeps=True)
    bed.open = 1
    bed.stop.signalled(waits=True)
    await asyncio.sleep(0.03)
    assert not bed.stop.closed
    bed.open = 0
    await asyncio.sleep(0.03)
    assert bed.did()[2:] == ["drain 0 True", "former 0", "close"]
    assert len(bed.told) == 1


async def test_another_host_serves():
    """V6: if another host has taken the addresses, the daemon leaves and lets what is open finish."""
    bed = Bed(timeout=5.0)
    bed.taken = True
    bed.stop.signalled(waits=True)
    await asyncio.sleep(0.02)
    assert bed.did() == ["cancel", "yield", "leave True", "drain 5 False", "former 5", "close"]
    assert bed.told == ["stopping: what is open may finish within 5s"]


@pytest.mark.parametrize(("waits", "services"), [(False, ("dns",)), (True, ())])
async def test_the_door_is_closed(waits, services):
    """An interrupted daemon, and one without services, takes no new clients."""
    bed = Bed(timeout=5.0, services=services)
    bed.stop.signalled(waits=waits)
    await asyncio.sleep(0.02)
    assert bed.did() == ["cancel", "leave True", "drain 5 False", "former 5", "close"]


async def test_a_second_signal():
    """A second signal ends the daemon at once, whatever it waits for; so does SIGQUIT."""
    bed = Bed()
    bed.stop.signalled(waits=True)
    await asyncio.sleep(0.02)
    bed.stop.signalled(waits=False)
    assert bed.stop.ended.is_set()
    assert bed.told[-1] == "second stop signal: stopping at once"
    other = Bed()
    other.stop.at_once("SIGQUIT")
    assert (other.stop.ended.is_set(), other.told) == (True, ["SIGQUIT: stopping at once"])


async def test_a_former_daemon_is_hurried():
    """A signal to a daemon that has a successor concerns its own workers alone."""
    bed = Bed()
    bed.succession.aside = True
    bed.stop.signalled(waits=True)
    assert (bed.calls, bed.stop.begun) == (["hurry"], False)


async def test_a_fault_stops_no_stop():
    """An error on leaving the pair is reported, and the daemon stops all the same."""
    bed = Bed(timeout=5.0)
    bed.taken = None
    bed.stop._redundancy.leave = None
    bed.stop.signalled(waits=False)
    await asyncio.sleep(0.02)
    assert bed.did() == ["cancel", "fault on leaving the pair", "drain 5 False", "former 5", "close"]
