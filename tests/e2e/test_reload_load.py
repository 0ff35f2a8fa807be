"""A hundred reloads under load: whatever changes in the file, clients lose nothing, nothing restarts, nothing grows.

The load is one that any machine holds; with `LOAD=full` it is 2,000 new connections and 8,000 queries a second.
"""

import dataclasses
import itertools
import socket
from collections.abc import Iterator

import pytest

from tests.command import steelyard
from tests.e2e.clients import whoami_http
from tests.e2e.load import Counts, Load, assert_lossless
from tests.e2e.loaded import MORE_WEB, THIRD, Counters, Loaded, Settings, grown, held, loaded
from tests.e2e.pairs import ADDRESS, Host
from tests.e2e.process import until

pytestmark = pytest.mark.load

FIRST, ALL = 20, 100


def ways() -> Iterator[Settings]:
    """Yield settings that differ in one from those before, in turn: each goes to its other value and back."""
    settings = Settings()
    for field in itertools.cycle(dataclasses.fields(Settings)):
        settings = dataclasses.replace(settings, **{field.name: not getattr(settings, field.name)})
        yield settings


def reload(host: Host, settings: Settings) -> None:
    """Write the file of a host, and reload."""
    host.daemon.write(settings.text())
    done = steelyard("reload", "-s", host.daemon.socket)
    assert done.returncode == 0, done.stdout + done.stderr


def is_closed(pair: Loaded, port: int) -> bool:
    """Return True if connections to this port are refused. A worker closes a socket once it has served its queue."""
    with pair.bed.socket("client", socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        try:
            sock.connect((ADDRESS, port))
        except ConnectionRefusedError:
            return True
    return False


def assert_in_force(pair: Loaded, settings: Settings) -> None:
    """What clients and the status of the active host show is what the file says."""
    status = pair.a.daemon.status()
    for service in status["services"][:2]:
        serving = {one["name"] for one in service["backends"] if one["admin"] == "ready"}  # one that is gone may drain
        assert (THIRD in serving) == settings.backends
        assert service["backends"][0]["weight"] == (3 if settings.backends else 1)
    assert status["vrrp"][0]["priority"] == (140 if settings.priority else 150)
    if settings.listeners:
        assert whoami_http(pair.bed, ADDRESS, MORE_WEB) == "server"
    else:
        until(lambda: is_closed(pair, MORE_WEB), 10, "the listener that is gone to be closed")


def under_load(pair: Loaded, several: Iterator[Settings]) -> Counts:
    """Reload both hosts with each of some settings, under load; return what the clients counted."""
    load = Load(pair.bed, "client", ADDRESS)
    for settings in several:
        for host in pair.hosts:
            reload(host, settings)
        assert_in_force(pair, settings)
    return load.stop()


@pytest.fixture
def pair() -> Iterator[Loaded]:
    """Start two daemons that share an address."""
    with loaded() as made:
        yield made


@pytest.mark.timeout(900)
def test_reloads_cost_no_client_anything(pair):
    """R3, R4, R6, R8: under reloads of every kind nothing is lost or refused, nothing restarts, no address moves, nothing grows."""
    several = ways()
    pids = {host.name: host.daemon.pids() for host in pair.hosts}
    with Counters(pair.a.daemon, without=[THIRD]) as counted:
        first = under_load(pair, itertools.islice(several, FIRST))
        pair.until_idle(gone=THIRD)
        before = {host.name: held(host.daemon) for host in pair.hosts}
        rest = under_load(pair, itertools.islice(several, ALL - FIRST))
        pair.until_idle(gone=THIRD)
    for counts in (first, rest):
        assert_lossless(counts)
    assert counted.wrong == []
    assert counted.reads > ALL / 4
    pair.assert_nothing_moved()
    assert {host.name: host.daemon.pids() for host in pair.hosts} == pids
    for host in pair.hosts:
        assert [worker["restarts"] for worker in host.daemon.status()["workers"]] == [0, 0]

    def assert_flat() -> bool:
        assert [grown(before[host.name], held(host.daemon)) for host in pair.hosts] == [[], []]
        return True

    until(assert_flat, 20, "nothing to have grown", every=1)
