"""The runner of one question: its times, and its subscribers."""

import asyncio
import random

from health.probes import make
from health.runner import Runner
from health.schedule import Pace
from health.spec import TcpProbe
from health.state import Health, Outcome
from health.waiting import Places, Waits


class Listener:
    """A subscriber that remembers, and takes no verdicts."""

    def __init__(self, interval: float, fast: float) -> None:
        self.pace = Pace(interval, fast, interval)
        self.heard_all: asyncio.Queue[Outcome] = asyncio.Queue()
        self.health = Health(3, 2)

    @property
    def phase(self) -> str:
        """Return the phase of the real thing."""
        return self.health.phase

    def hindered(self, fault: str) -> None:
        """Fail: nothing here is hindered."""
        raise AssertionError(fault)

    def heard(self, outcome: Outcome, now: float) -> None:
        """Remember."""
        self.health.observe(outcome, now)
        self.heard_all.put_nowait(outcome)


def runner(spec: TcpProbe, *listeners: Listener) -> Runner:
    made = Runner(make(spec), Places(10), random.Random(1), Waits())
    made.subscribers = list(listeners)
    return made


async def test_shortest_interval_wins_and_all_hear(tcp_server, leftovers) -> None:
    """H11: a shared probe runs at the shortest of its subscribers' intervals, and each hears every outcome."""
    server, port = await tcp_server(lambda reader, _: reader.read())
    patient, eager = Listener(3600, 3600), Listener(0.02, 0.02)
    made = runner(TcpProbe(address="127.0.0.1", port=port), patient, eager)
    leftovers.mark()
    assert made.interval == 0.02
    made.begin(asyncio.get_running_loop().time())
    for _ in range(4):
        mine = await asyncio.wait_for(eager.heard_all.get(), 10)
        assert await asyncio.wait_for(patient.heard_all.get(), 10) is mine
    made.close()
    await leftovers.check()
    assert server.accepted >= 4


async def test_never_overlapping(tcp_server) -> None:
    """H4: where a probe takes longer than its interval, the next one starts after its end, never beside it."""
    at_once = most = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        writer.write(b"ready")

    _, port = await tcp_server(slow)
    listener = Listener(0.01, 0.01)
    made = runner(TcpProbe(address="127.0.0.1", port=port, expect="ready"), listener)
    made.begin(asyncio.get_running_loop().time())
    for _ in range(5):
        made.hint()
        assert (await asyncio.wait_for(listener.heard_all.get(), 10)).ok
    made.close()
    assert most == 1


async def test_closed_runner_runs_no_more() -> None:
    """A runner that is closed before its first run never runs, whatever hints come."""
    listener = Listener(0.01, 0.01)
    made = runner(TcpProbe(address="127.0.0.1", port=1), listener)
    made.begin(asyncio.get_running_loop().time())
    made.close()
    made.hint()
    made.paces_changed()
    other = Listener(0.01, 0.01)
    running = runner(TcpProbe(address="127.0.0.1", port=1), other)
    running.begin(asyncio.get_running_loop().time())
    assert not (await asyncio.wait_for(other.heard_all.get(), 10)).ok
    running.close()
    assert listener.heard_all.empty()
