"""Reexec under load: new processes take over while clients come, and nobody is refused, cut off or forgotten.

`LOAD=full` does it ten times under 2,000 new connections and 8,000 queries a second; otherwise three times under a load
that any machine holds.
"""

import time
from collections.abc import Iterator

import pytest

from tests.command import steelyard
from tests.e2e.load import FULL, Load, assert_lossless
from tests.e2e.loaded import Counters, Idle, Loaded, Sessions, loaded
from tests.e2e.pairs import ADDRESS, Host
from tests.e2e.process import until

pytestmark = pytest.mark.load

TIMES = 10 if FULL else 3
IDLE = 200
CLIENTS = 50
PAUSE = 1.0  # s from one reexec to the next, as the start of all processes is a load of its own


def reexec(host: Host) -> None:
    """Start the daemon of a host anew, beside the one that runs."""
    before = {worker["pid"] for worker in host.daemon.status()["workers"]}
    done = steelyard("reexec", "-s", host.daemon.socket)
    assert done.returncode == 0, done.stdout + done.stderr
    serving = [worker for worker in host.daemon.status()["workers"] if not worker["draining"]]
    assert [worker["alive"] for worker in serving] == [True, True]
    assert not before & {worker["pid"] for worker in serving}


@pytest.fixture
def pair() -> Iterator[Loaded]:
    """Start two daemons that share an address."""
    with loaded() as made:
        yield made


def steady(pair: Loaded) -> dict[str, list[tuple[str, int]]] | None:
    """Return the processes of both hosts and their descriptors if they are the same for two seconds."""
    first = pair.processes()
    time.sleep(2)
    return first if pair.processes() == first else None


@pytest.mark.timeout(600)
def test_reexecs_cost_no_client_anything(pair):
    """R6, R8, R12: under reexecs of both hosts nothing is lost or refused, idle connections and sessions go on, no address moves.

    In the end nothing is left of the old daemons, nor a descriptor of theirs in the new one.
    """
    processes = until(lambda: steady(pair), 30, "all processes to have started")
    idle, sessions = Idle(pair.bed, IDLE), Sessions(pair.bed, CLIENTS)
    idle.check()
    servers = sessions.servers()
    with Counters(pair.a.daemon) as counted:
        load = Load(pair.bed, "client", ADDRESS)
        for _ in range(TIMES):
            for host in pair.hosts:
                reexec(host)
                time.sleep(PAUSE)
            assert sessions.servers() == servers
        counts = load.stop()
    assert_lossless(counts)
    assert counted.wrong == []
    idle.check()
    assert sessions.servers() == servers
    pair.assert_nothing_moved()
    idle.close()

    def assert_nothing_left() -> bool:
        for name, rows in pair.processes().items():
            assert [module for module, _ in rows] == [module for module, _ in processes[name]]
            assert all(now <= was for (_, now), (_, was) in zip(rows, processes[name], strict=True)), (rows, processes)
        return True

    until(assert_nothing_left, 20, "the old processes to have ended", every=0.5)
