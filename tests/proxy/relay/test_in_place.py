"""Each part of a service that is changed where it stands: what is open goes on, what begins uses the new value."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.relay.clients.store import Store
from proxy.relay.observe.wanted import Wanted
from proxy.relay.plan import DnsPlan, LimitsPlan, LogPlan, PersistencePlan
from proxy.stats.layout import LOG_LOST, TURN_ACCEPT
from tests.proxy.relay.conftest import LAYOUT, TCP, UDP, Relay, eventually
from tests.proxy.relay.dnsbed import Backend, answer, client, query, quiet
from tests.proxy.relay.streams import RESET, accept, connect, deaf, listen, read, turned_away, where

Address = tuple[str, int]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Close all that a test opens."""
    with contextlib.ExitStack() as one:
        yield one


def change(relay: Relay, *, backend: dict[str, Any] | None = None, **changes: Any) -> None:
    """Change the first service, and `backend` of its backends."""
    plan = replace(relay.services[0], **changes)
    if backend:
        plan = replace(plan, backends=tuple(replace(one, **backend) for one in plan.backends))
    relay.services[0] = plan
    relay.call(lambda: relay.engine.change([plan], [], 2, lambda _: None))


class Pairs:
    """Connections through the relay to one backend."""

    def __init__(self, stack: contextlib.ExitStack, at: Address, server: socket.socket) -> None:
        self.stack, self.at, self.server = stack, at, server

    def open(self) -> tuple[socket.socket, socket.socket]:
        """Return a client's end and the backend's."""
        one = self.stack.enter_context(connect(self.at))
        return one, self.stack.enter_context(accept(self.server))

    def wait(self) -> socket.socket:
        """Return a client that is not connected to a backend yet."""
        return self.stack.enter_context(connect(self.at))


# -- where a backend is


def test_another_address(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: an open connection to a backend that gets another address goes on to the old one, and is listed there."""
    old, new = stack.enter_context(listen()), stack.enter_context(listen())
    at = relay.service([where(old)])
    relay.start()
    one, end = Pairs(stack, at, old).open()
    change(relay, backend={"address": "127.0.0.1", "port": where(new)[1]})
    two, there = Pairs(stack, at, new).open()
    for here, far in ((one, end), (two, there)):
        here.sendall(b"x")
        assert far.recv(1) == b"x"
    rows, _, _ = relay.call(lambda: relay.engine.browse(1, Wanted("", "", ""), reset=False))
    assert {row["client"]: row["backend_address"] for row in rows} == {
        f"127.0.0.1:{where(sock)[1]}": f"127.0.0.1:{where(server)[1]}" for sock, server in ((one, old), (two, new))
    }  # fmt: skip
    (target,) = relay.engine._services[0].targets
    assert (target.active, len(target.former)) == (2, 1)
    for sock in (one, end, two, there):
        sock.close()
    eventually(lambda: (target.active, len(target.former)) == (0, 0))


def test_a_connect_under_way(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: a client whose connect is under way to a dead host is connected to its backend's new address at once."""
    (dead, _), new = stack.enter_context(deaf()), stack.enter_context(listen())
    at = relay.service([dead], tcp=replace(TCP, connect_timeout=30.0))
    relay.start()
    one = stack.enter_context(connect(at))
    eventually(lambda: relay.counter("sessions") == 1)
    change(relay, backend={"port": where(new)[1]})
    one.sendall(b"x")
    assert stack.enter_context(accept(new)).recv(1) == b"x"
    assert len(relay.engine._services[0].targets[0].connections) == 1


def test_a_late_answer_of_the_old_address(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: the answer of a name server at its old address still counts; the next query goes to the new one."""
    old = stack.enter_context(contextlib.closing(Backend()))
    new = stack.enter_context(contextlib.closing(Backend("127.0.0.2", old.address[1])))
    at = relay.service([old.address], transports=("udp",), protocol="dns")
    relay.start()
    one = stack.enter_context(client(at))
    one.send(query(ident=7))
    asked, source = old.take()
    change(relay, backend={"address": "127.0.0.2"}, dns=DnsPlan(5.0, 9.0))
    old.reply(answer(asked), source)
    assert one.recv(100) == answer(query(ident=7))
    for ident in range(20):  # each over one of four sockets
        one.send(query(ident=ident))
        new.serve()
        assert one.recv(100) == answer(query(ident=ident))
    assert relay.counter("late_reply") == 0


def test_a_session_stays_at_the_old_address(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: a UDP session goes on to its backend's old address, and after a refusal there to the new one."""
    old, new = stack.enter_context(contextlib.closing(Backend())), stack.enter_context(contextlib.closing(Backend()))
    at = relay.service([old.address], transports=("udp",))
    relay.start()
    one, two = stack.enter_context(client(at)), stack.enter_context(client(at))
    one.send(b"one")
    old.take()
    change(relay, backend={"port": new.address[1]})
    one.send(b"still")
    assert old.take()[0] == b"still"
    two.send(b"two")
    assert new.take()[0] == b"two"
    rows, _, _ = relay.call(lambda: relay.engine.browse(1, Wanted("", "", ""), reset=False))
    assert [row["backend_address"] for row in rows] == [f"127.0.0.1:{one.address[1]}" for one in (old, new)]
    old.sock.close()
    one.send(b"refused")
    eventually(lambda: relay.backend(old.address, "port_unreachable") == 1)
    assert not relay.engine._relays[0, "udp"].closed_ports
    one.send(b"again")
    assert new.take()[0] == b"again"


# -- schedulers, access, times


def test_another_scheduler_knows_what_is_open(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: a scheduler that counts connections, put in place of one that does not, counts those that are open already."""
    servers = [stack.enter_context(listen()) for _ in range(2)]
    at = relay.service([where(server) for server in servers], scheduler="failover")
    relay.start()
    for _ in range(3):
        Pairs(stack, at, servers[0]).open()
    change(relay, scheduler="least-connections")
    for _ in range(3):
        Pairs(stack, at, servers[1]).open()
    eventually(lambda: [target.active for target in relay.engine._services[0].targets] == [3, 3])


def test_another_list_of_clients(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: a client that is denied from now on keeps its connection and gets no other one, and no datagram passes."""
    server = stack.enter_context(listen())
    backend = stack.enter_context(contextlib.closing(Backend()))
    at = relay.service([where(server)])
    other = relay.service([backend.address], transports=("udp",))
    relay.start()
    one, end = Pairs(stack, at, server).open()
    datagrams = stack.enter_context(client(other))
    datagrams.send(b"one")
    backend.take()
    change(relay, deny=("127.0.0.1/32",))
    plan = replace(relay.services[1], deny=("127.0.0.1/32",))
    relay.call(lambda: relay.engine.change([plan], [], 3, lambda _: None))
    assert turned_away(at)
    datagrams.send(b"two")
    assert quiet(backend.sock)
    one.sendall(b"x")
    assert end.recv(1) == b"x"
    change(relay, deny=())
    Pairs(stack, at, server).open()


def test_a_source_of_headers(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: a source that is listed in accept-proxy from now on is asked for a header, and before that it was not."""
    server = stack.enter_context(listen())
    at = relay.service([where(server)])
    relay.start()
    Pairs(stack, at, server).open()
    change(relay, accept_proxy=("127.0.0.1/32",))
    one = Pairs(stack, at, server).wait()
    one.sendall(b"no header\r\n")
    assert read(one) == (b"", RESET)
    assert relay.counter("proxy_malformed") == 1


@pytest.mark.parametrize("before", [float("inf"), 3600.0])
def test_idle_sessions(relay: Relay, stack: contextlib.ExitStack, before: float) -> None:
    """R3: a shorter idle-timeout ends sessions that are open already, and one that was never is set."""
    backend = stack.enter_context(contextlib.closing(Backend()))
    at = relay.service([backend.address], transports=("udp",), udp=replace(UDP, idle_timeout=before))
    relay.start()
    stack.enter_context(client(at)).send(b"one")
    backend.take()
    change(relay, udp=replace(UDP, idle_timeout=0.1))
    eventually(lambda: relay.counter("expired") == 1, within=2)
    stack.enter_context(client(at)).send(b"two")
    eventually(lambda: relay.counter("expired") == 2, within=2)


def test_old_connections(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3, T25: a max-lifetime that is set, and a shorter idle-timeout, end connections that are open already."""
    server = stack.enter_context(listen())
    at = relay.service([where(server)])
    relay.start()
    one, end = Pairs(stack, at, server).open()
    change(relay, tcp=replace(TCP, max_lifetime=0.1, quiet=0.1))
    assert read(one) == (b"", "end")
    one.close()
    end.close()
    eventually(lambda: relay.counter("max_lifetime") == 1, within=2)
    change(relay, tcp=TCP)
    two, _ = Pairs(stack, at, server).open()
    change(relay, tcp=replace(TCP, idle_timeout=0.2))
    assert read(two) == (b"", RESET)
    assert relay.counter("idle_timeout") == 1


def test_queries_in_flight(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: queries in flight are asked again and given up by the new times, those that are due by them at once."""
    servers = [stack.enter_context(contextlib.closing(Backend())) for _ in range(2)]
    at = relay.service(
        [one.address for one in servers],
        transports=("udp",),
        protocol="dns",
        scheduler="failover",
        dns=DnsPlan(60.0, 90.0),
    )
    relay.start()
    one = stack.enter_context(client(at))
    one.send(query(ident=7))
    servers[0].take()
    change(relay, dns=DnsPlan(0.1, 60.0))
    servers[1].take()
    change(relay, dns=DnsPlan(0.05, 0.1))
    assert one.recv(100)[3] & 15 == 2
    eventually(lambda: [relay.counter(name) for name in ("gave_up", "inflight")] == [1, 0])
    one.send(query(ident=8))
    servers[0].serve()
    assert one.recv(100) == answer(query(ident=8))


# -- limits


def test_the_limit_on_connections(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: clients that wait at max-connections are let in when it is raised, or switched off, and none waits before it."""
    server = stack.enter_context(listen())
    pairs = Pairs(stack, relay.service([where(server)]), server)
    relay.start()
    pairs.open()
    change(relay, limits=LimitsPlan(connections=1))
    for limit in (2, 0):
        waiting = pairs.wait()
        eventually(lambda: relay.table.cells[LAYOUT.service(0) + TURN_ACCEPT])
        waiting.sendall(b"x")
        change(relay, limits=LimitsPlan(connections=limit))
        assert stack.enter_context(accept(server)).recv(1) == b"x"
    assert relay.table.cells[LAYOUT.service(0) + TURN_ACCEPT] == 0
    assert relay.engine._relays[0, "tcp"].gate is None
    assert relay.counter("connections") == 3


def test_the_worker_s_own_limit(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: clients that wait because the worker has its most connections are let in when that limit is raised."""
    relay.max_connections = 1
    server = stack.enter_context(listen())
    pairs = Pairs(stack, relay.service([where(server)]), server)
    relay.start()
    pairs.open()
    pairs.wait().sendall(b"x")
    relay.call(lambda: relay.engine.settings(2, LogPlan()))
    assert stack.enter_context(accept(server)).recv(1) == b"x"
    assert relay.engine._admission.open == 2


def test_a_limit_on_each_client(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: a new limit on each client's connections counts those that are open, and each of them is given back once."""
    server = stack.enter_context(listen())
    pairs = Pairs(stack, relay.service([where(server)]), server)
    relay.start()
    clients = relay.engine._admission.clients
    ends = [pairs.open(), pairs.open()]
    change(relay, limits=LimitsPlan(per_client=2))
    eventually(lambda: len(clients) == 1)
    assert turned_away(pairs.at)
    change(relay, limits=LimitsPlan())
    ends.append(pairs.open())
    change(relay, limits=LimitsPlan(per_client=4))
    eventually(lambda: list(clients._counts.values()) == [3])
    ends.append(pairs.open())
    assert turned_away(pairs.at)
    for sock in (sock for pair in ends for sock in pair):
        sock.close()
    eventually(lambda: relay.counter("sessions") == 0)
    assert len(clients) == 0


def test_a_limit_on_the_rate(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: a limit on each client's rate holds from its next connection on, and no longer when it is switched off."""
    server = stack.enter_context(listen())
    pairs = Pairs(stack, relay.service([where(server)]), server)
    relay.start()
    for _ in range(3):
        pairs.open()
    change(relay, limits=LimitsPlan(rate=1.0))
    pairs.open()
    assert turned_away(pairs.at)
    change(relay, limits=LimitsPlan())
    pairs.open()


def test_backends_without_limits(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: clients that wait for a backend's slot are connected when its limit is gone, and then nothing is claimed."""
    server = stack.enter_context(listen())
    pairs = Pairs(
        stack, relay.service([where(server)], limit=1, limits=LimitsPlan(queue_size=9, queue_timeout=60.0)), server
    )
    relay.start()
    pairs.open()
    waiting = [pairs.wait() for _ in range(3)]
    eventually(lambda: relay.counter("queued") == 3)
    change(relay, backend={"max_connections": 0})
    for _ in waiting:
        stack.enter_context(accept(server))
    tcp = relay.engine._relays[0, "tcp"]
    eventually(lambda: (tcp.queue, tcp.service.capacity) == (None, None))
    assert relay.counter("queued") == 0
    assert relay.backend(where(server), "active") == 4
    change(relay, backend={"max_connections": 4})
    waiting.append(pairs.wait())
    eventually(lambda: relay.counter("queued") == 1)


def test_the_queue_s_time_and_size(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: clients that wait for a slot wait as long as the queue's new timeout says, and a smaller queue takes no more."""
    server = stack.enter_context(listen())
    pairs = Pairs(
        stack, relay.service([where(server)], limit=1, limits=LimitsPlan(queue_size=9, queue_timeout=0.6)), server
    )
    relay.start()
    pairs.open()
    waiting = [pairs.wait(), pairs.wait()]
    eventually(lambda: relay.counter("queued") == 2)
    change(relay, limits=LimitsPlan(queue_size=1, queue_timeout=60.0))
    assert turned_away(pairs.at)
    assert relay.counter("refused_limit") == 1
    time.sleep(0.8)
    assert relay.counter("queued") == 2
    change(relay, limits=LimitsPlan(queue_size=9, queue_timeout=0.2))
    for one in waiting:
        assert read(one) == (b"", RESET)
    assert relay.counter("queue_timeout") == 2


# -- clients that keep their backends


def test_persistence_to_and_fro(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: clients that hold a template when persistence is switched off and on give it back exactly once."""
    relay.store = store = Store.create()
    stack.callback(store.close)
    servers = [stack.enter_context(listen()) for _ in range(2)]
    kept = PersistencePlan(60.0, 32, 128)
    at = relay.service([where(server) for server in servers], scheduler="failover", persistence=kept)
    relay.start()
    keeper = relay.engine._services[0].keeper
    ends = [Pairs(stack, at, servers[0]).open(), Pairs(stack, at, servers[0]).open()]
    relay.verdict(where(servers[0]), "down")
    change(relay, persistence=None)
    for sock in ends.pop():
        sock.close()
    eventually(lambda: list(keeper._held.values()) == [1])
    ends.append(Pairs(stack, at, servers[1]).open())
    assert relay.engine._services[0].persistence is None
    change(relay, persistence=replace(kept, ipv4_prefix=24))
    ends.append(Pairs(stack, at, servers[1]).open())
    assert relay.call(lambda: list(keeper._held.values())) == [1, 1]
    for sock in (sock for pair in ends for sock in pair):
        sock.close()
    eventually(lambda: not keeper._held)
    relay.verdict(where(servers[0]), "up")
    Pairs(stack, at, servers[1]).open()


def test_a_shorter_time_of_persistence(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: the template of an open connection is renewed often enough for a timeout that has become shorter."""
    relay.store = store = Store.create()
    stack.callback(store.close)
    servers = [stack.enter_context(listen()) for _ in range(2)]
    at = relay.service(
        [where(one) for one in servers], scheduler="failover", persistence=PersistencePlan(3600.0, 32, 128)
    )
    relay.start()
    Pairs(stack, at, servers[0]).open()
    change(relay, persistence=PersistencePlan(0.3, 24, 128))
    Pairs(stack, at, servers[0]).open()
    persistence = relay.engine._services[0].persistence
    key = persistence.key("127.0.0.1")
    quiet(servers[1], 0.7)
    assert relay.call(lambda: persistence.peek(key)).name == f"127.0.0.1:{where(servers[0])[1]}"


# -- the log


def test_the_connection_log(relay: Relay, stack: contextlib.ExitStack) -> None:
    """R3: ends are logged as the settings say from now on: none, failures, all, to another place, in another format."""
    server = stack.enter_context(listen())
    pairs = Pairs(stack, relay.service([where(server)]), server)
    relay.start()
    collectors = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2)]
    for sock in collectors:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
    plans = [LogPlan("all", "json", "", *sock.getsockname()) for sock in collectors]

    def end(log: LogPlan) -> None:
        relay.call(lambda: relay.engine.settings(1000, log))
        for sock in pairs.open():
            sock.close()

    end(plans[0])
    assert collectors[0].recv(1000).startswith(b'{"at"')
    end(replace(plans[1], format="text"))
    assert b"closed=client-fin" in collectors[1].recv(1000)
    end(replace(plans[1], connections="off"))
    end(replace(plans[1], connections="failed"))
    assert all(quiet(sock, 0.3) for sock in collectors)
    end(plans[0])
    assert collectors[0].recv(1000).startswith(b'{"at"')
    assert relay.table.cells[LOG_LOST] == 0


def test_a_log_that_moves_to_a_file(relay: Relay, stack: contextlib.ExitStack, tmp_path: Any) -> None:
    """R3: until the master has brought the new file of the log, lines go to the old place: none is lost."""
    server = stack.enter_context(listen())
    pairs = Pairs(stack, relay.service([where(server)]), server)
    collector = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    collector.bind(("127.0.0.1", 0))
    collector.settimeout(5)
    relay.log = LogPlan("all", "text", "", *collector.getsockname())
    relay.start()
    path = tmp_path / "connections.log"
    relay.call(lambda: relay.engine.settings(1000, LogPlan("all", "text", str(path))))
    for sock in pairs.open():
        sock.close()
    assert b"closed=client-fin" in collector.recv(1000)
    file = path.open("ab")
    stack.enter_context(file)
    relay.call(lambda: relay.engine.log_to(os.dup(file.fileno())))
    for sock in pairs.open():
        sock.close()
    eventually(lambda: b"closed=client-fin" in path.read_bytes())
