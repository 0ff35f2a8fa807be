"""Connections by client, over all workers."""

import select

from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.clients.connection_counts import WAYS, Clients
from proxy.relay.native.siblings import Siblings
from proxy.relay.plan import LimitsPlan
from proxy.stats.layout import Layout
from proxy.stats.table import Table
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.streams import accept, connect, exactly, listen, turned_away, where

LAYOUT = Layout(1, 1, 4 * WAYS)
SALT = b"salt"


class Host:
    """Two workers' counts."""

    def __init__(self, layout: Layout = LAYOUT) -> None:
        self.tables = [Table.create(layout), Table.create(layout)]
        siblings = [Siblings(), Siblings()]
        for at in (0, 1):
            siblings[at].set(0, Table.attach(self.tables[1 - at].readonly_fd(), layout))
        self.siblings = siblings
        self.workers = [
            Clients(table.cells, layout, one, SALT) for table, one in zip(self.tables, siblings, strict=True)
        ]

    def close(self) -> None:
        """Unmap."""
        for one in (*self.siblings, *self.tables):
            one.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 5)), max_size=80))
def test_the_bound_holds_over_all_workers(steps):
    """S8: in any order of events in any worker, a client never exceeds its limit, and its count is that of its open ones."""
    host = Host()
    try:
        open_: list[tuple[int, int, int]] = []  # worker, client, key
        for comes, at, client in steps:
            if comes:
                had = sum(one[1] == client for one in open_)
                key = host.workers[at].enter(0, f"192.0.2.{client}", 3)
                assert bool(key) == (had < 3)
                if key:
                    open_.append((at, client, key))
            elif open_:
                worker, _, key = open_.pop(client % len(open_))
                host.workers[worker].leave(key)
        for worker, _, key in open_:
            host.workers[worker].leave(key)
        assert not any(map(len, host.workers))
        assert not any(any(table.cells[LAYOUT.counted :]) for table in host.tables)
    finally:
        host.close()


def test_more_clients_than_can_be_told():
    """S8: clients that do not fit into the table are limited by each worker alone, until the table has room again."""
    host = Host()
    try:
        here, there = host.workers
        keys = [here.enter(0, f"10.0.{n >> 8}.{n & 255}", 1) for n in range(1000)]
        assert all(keys)
        assert not any(here.enter(0, f"10.0.{n >> 8}.{n & 255}", 1) for n in range(1000))
        told = [n for n in range(1000) if not there.enter(0, f"10.0.{n >> 8}.{n & 255}", 1)]
        assert 0 < len(told) <= LAYOUT.clients
        for key in keys:
            here.leave(key)
        assert there.enter(0, "10.1.0.1", 1)
    finally:
        host.close()


def test_too_many_of_one_client_are_reset(relay):
    """S8: a client above max-connections-per-client is reset and counted, its others live on, and a place is free again."""
    with listen() as server:
        address = relay.service([where(server)], limits=LimitsPlan(per_client=2))
        relay.start()
        first, second = connect(address), connect(address)
        with first, accept(server) as one, accept(server) as two:
            with second:
                assert turned_away(address)
                assert relay.counter("refused_client") == 1
                first.sendall(b"x")
                second.sendall(b"y")
                assert {exactly(one, 1), exactly(two, 1)} == {b"x", b"y"}
            (end,) = select.select([one, two], [], [], 5)[0]
            assert end.recv(1) == b""
            end.close()
            eventually(lambda: relay.counter("sessions") == 1)
            with connect(address) as third, accept(server) as three:
                third.sendall(b"z")
                assert exactly(three, 1) == b"z"
