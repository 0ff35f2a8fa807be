"""Clients that keep their backends, over real sockets."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from proxy.relay.clients import persistence
from proxy.relay.clients.store import Store
from proxy.relay.plan import PersistencePlan
from proxy.stats.table import TableError
from tests.proxy.relay.conftest import UDP, Relay, eventually, free_port
from tests.proxy.relay.dnsbed import Server, ask, client, query
from tests.proxy.relay.streams import arm_reset

if TYPE_CHECKING:
    from proxy.relay.clients.persistence import Persistence

LONG = PersistencePlan(60.0, 32, 128)


@pytest.fixture
def store():
    one = Store.create(64)
    yield one
    one.close()


@pytest.fixture
def servers():
    """Three servers that take TCP connections; the kernel accepts them."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512)) for _ in range(3)]


@pytest.fixture
def kept(relay, store, servers):
    """Start a TCP service whose clients keep one of three backends, which the scheduler hands out in turn."""

    def start(plan=LONG, **changes):
        relay.store = store
        address = relay.service([one.getsockname() for one in servers], persistence=plan, **changes)
        relay.start()
        return address

    return start


@contextmanager
def connected(relay, address, source, backends):
    """Connect from an address of loopback; the backend that got it."""
    before = [relay.backend(one.getsockname(), "total") for one in backends]
    with socket.create_connection(address, source_address=(source, 0)) as sock:
        arm_reset(sock)  # the servers never close
        eventually(lambda: sum(relay.backend(one.getsockname(), "total") for one in backends) > sum(before))
        eventually(lambda: relay.call(lambda: not any(c.state.name == "CONNECTING" for c in connections(relay))))
        after = [relay.backend(one.getsockname(), "total") for one in backends]
        yield next(one for one, was, now in zip(backends, before, after, strict=True) if now > was)


def connections(relay):
    return relay.engine._relays[0, "tcp"].connections


def backend_of(relay, address, source, backends):
    """Connect and leave; the backend that got it."""
    with connected(relay, address, source, backends) as found:
        pass
    eventually(lambda: relay.counter("sessions") == 0)
    return found


def test_a_client_keeps_its_backend(relay, kept, servers):
    """T18: all connections of one client go where the first went; the scheduler gives each new client another backend."""
    address = kept()
    first = [backend_of(relay, address, f"127.0.0.{host}", servers) for host in (1, 2, 3)]
    assert len(set(first)) == 3
    for _ in range(3):
        assert [backend_of(relay, address, f"127.0.0.{host}", servers) for host in (3, 1, 2)] == [
            first[2],
            first[0],
            first[1],
        ]
    assert relay.counter("persisted") == 9


def test_a_prefix_makes_one_client(relay, kept, servers):
    """T18: with ipv4-prefix = 24 all addresses of a block keep one backend, those of another may have another."""
    address = kept(PersistencePlan(60.0, 24, 128))
    assert len({backend_of(relay, address, f"127.0.1.{host}", servers) for host in range(1, 8)}) == 1
    assert len({backend_of(relay, address, f"127.0.{block}.1", servers) for block in range(1, 4)}) == 3


def test_the_prefix_of_an_ipv6_client(relay, store):
    """T18: IPv6 clients are one by their prefix; a zone does not count, and IPv4 ones are others."""
    relay.store = store
    relay.service([("127.0.0.1", 1)], persistence=PersistencePlan(60.0, 32, 64))
    relay.start()
    key = relay.engine._services[0].persistence.key
    assert key("2001:db8::1") == key("2001:db8::ffff:1") != key("2001:db8:0:1::1")
    assert key("fe80::1%lo") == key("fe80::2")
    assert len({key("10.0.0.1"), key("10.0.0.2"), key("::1")}) == 3


@pytest.mark.parametrize(("verdict", "admin"), [("down", "ready"), ("up", "drain"), ("up", "maint")])
def test_a_backend_that_gets_nothing_new_is_left(relay, kept, servers, verdict, admin):
    """T16: a client whose backend is down, draining or in maintenance gets another, and stays there when it is back."""
    address = kept()
    first = backend_of(relay, address, "127.0.0.1", servers)
    relay.verdict(first.getsockname(), verdict, admin)
    second = backend_of(relay, address, "127.0.0.1", servers)
    assert second is not first
    relay.verdict(first.getsockname(), "up")
    assert {backend_of(relay, address, "127.0.0.1", servers) for _ in range(4)} == {second}


def test_a_backend_that_stands_by_keeps_nobody(relay, kept, servers):
    """T18, H14: clients that a failover service sent to its second backend return to the first when it is up again."""
    address = kept(scheduler="failover")
    first, second, third = servers
    relay.verdict(first.getsockname(), "down")
    relay.verdict(third.getsockname(), "standby")
    assert backend_of(relay, address, "127.0.0.1", servers) is second
    relay.verdict(first.getsockname(), "up")
    relay.verdict(second.getsockname(), "standby")
    assert {backend_of(relay, address, "127.0.0.1", servers) for _ in range(3)} == {first}


def test_a_failed_connect_moves_the_client(relay, kept, servers):
    """T9: a client whose backend refuses is moved by the retry, and the next connection goes there at once."""
    address = kept()
    first = backend_of(relay, address, "127.0.0.1", servers)
    name = first.getsockname()
    first.close()
    left = [one for one in servers if one is not first]
    second = backend_of(relay, address, "127.0.0.1", left)
    assert {backend_of(relay, address, "127.0.0.1", left) for _ in range(3)} == {second}
    assert relay.backend(name, "connect_refused") == 1


def test_a_template_expires_after_the_last_connection(relay, kept, servers):
    """U14: it outlives `timeout` while a connection is open, and ends that long after the last one has."""
    address = kept(PersistencePlan(0.6, 32, 128))
    persistence_ = relay.engine._services[0].persistence
    key = persistence_.key("127.0.0.1")

    def there():
        return relay.call(lambda: persistence_._templates.find(key, time.monotonic()) is not None)

    with connected(relay, address, "127.0.0.1", servers):
        time.sleep(1.5)
        assert there()
    eventually(lambda: relay.counter("sessions") == 0)
    ended = time.monotonic()
    assert there()
    eventually(lambda: not there())
    assert 0.4 < time.monotonic() - ended < 3
    assert not persistence_._held


def test_udp_sessions_of_a_client_keep_its_backend(relay, store):
    """U15: sessions from many ports of one client go to one backend, and all move when it goes down."""
    relay.store = store
    servers = [Server() for _ in range(3)]
    address = relay.service(
        [one.address for one in servers], transports=("udp",), persistence=LONG, udp=replace(UDP, idle_timeout=0.5)
    )
    relay.start()

    def send(source):
        with client(address, source) as sock:
            sock.send(query())
            sock.recv(512)

    for _ in range(9):
        send("127.0.0.1")
    (first,) = [one for one in servers if one.seen]
    assert len(first.seen) == 9
    relay.verdict(first.address, "down")
    for _ in range(9):
        send("127.0.0.1")
    assert sorted(len(one.seen) for one in servers) == [0, 9, 9]
    send("127.0.0.2")
    assert relay.counter("persisted") == 16
    eventually(lambda: relay.counter("sessions") == 0)
    assert not relay.engine._services[0].persistence._held
    for one in servers:
        one.close()


def test_queries_of_a_client_keep_its_backend(relay, store):
    """U9: DNS queries of one client go to one backend; where it is silent, the one that is asked next has them from then on."""
    relay.store = store
    mute = []
    servers = [
        Server(lambda message, at=at: None if at in mute else message[:2] + b"\x84" + message[3:]) for at in range(3)
    ]
    address = relay.service([one.address for one in servers], protocol="dns", transports=("udp",), persistence=LONG)
    relay.start()
    for number in range(9):
        ask(address, query(f"h{number}.example.net", number))
    (first,) = [one for one in servers if one.seen]
    mute.append(servers.index(first))
    for number in range(9):
        ask(address, query(f"i{number}.example.net", number))
    assert len(first.seen) == 10
    assert sorted(len(one.seen) for one in servers) == [0, 9, 10]
    for one in servers:
        one.close()


def test_workers_agree(relay, kept, servers, store):
    """T18: of two workers of one host that get many connections of new clients at once, both choose alike for each."""
    first_address = kept()
    other = Relay()
    other.store = store
    address = other.service([one.getsockname() for one in servers], persistence=LONG, scheduler="random-two")
    other.start()
    try:
        for host in range(1, 31):
            socks = []

            def open_(where, host=host, socks=socks):
                socks.append(socket.create_connection(where, source_address=(f"127.0.2.{host}", 0)))

            threads = [threading.Thread(target=open_, args=(where,)) for where in (first_address, address) * 2]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            eventually(lambda: all(len(one.call(lambda one=one: targets(one))) == 2 for one in (relay, other)))
            used = {target for one in (relay, other) for target in one.call(lambda one=one: targets(one))}
            for sock in socks:
                arm_reset(sock)
                sock.close()
            assert len(used) == 1
            eventually(lambda: relay.counter("sessions") == other.counter("sessions") == 0)
    finally:
        other.close()


def targets(relay):
    return [conn.target.name for conn in connections(relay) if conn.target is not None]


def test_a_lock_is_not_waited_for_and_dies_with_its_holder(relay, kept, servers, store):
    """T18: while another process sits on every bucket clients are served without the lock, which is counted, until it dies."""
    address = kept()
    code = (
        "import fcntl, os, sys, time\nfrom proxy.relay.clients.store import _FLOCK\n"
        "fcntl.fcntl(int(sys.argv[1]), fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 64, 0))\n"
        "print('held', flush=True)\ntime.sleep(60)\n"
    )
    fd = store.again()
    holder = subprocess.Popen([sys.executable, "-c", code, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE)
    os.close(fd)
    try:
        assert holder.stdout.readline() == b"held\n"
        first = backend_of(relay, address, "127.0.0.1", servers)
        assert relay.counter("persistence_unlocked") == 1
        assert backend_of(relay, address, "127.0.0.1", servers) is first
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    backend_of(relay, address, "127.0.0.2", servers)
    assert relay.counter("persistence_unlocked") == 1


def test_a_full_bucket_is_counted(relay, servers):
    """U18: more clients than a bucket holds give up the oldest, and that is counted; all are served."""
    relay.store = Store.create(1)
    address = relay.service([one.getsockname() for one in servers], persistence=LONG)
    relay.start()
    for host in range(1, 12):
        backend_of(relay, address, f"127.0.3.{host}", servers)
    assert relay.counter("persistence_evicted") == 3
    relay.store.close()


def test_many_that_are_held_are_renewed_in_lots(relay, store, monkeypatch):
    """U14: more clients than are renewed at once keep their templates as long as they are connected."""
    monkeypatch.setattr(persistence, "RENEWED_AT_ONCE", 3)
    relay.store = store
    relay.service([("127.0.0.1", free_port())], persistence=PersistencePlan(0.6, 32, 128))
    relay.start()
    kept: Persistence = relay.engine._services[0].persistence
    keys = [kept.key(f"10.0.0.{host}") for host in range(20)]

    def begin():
        for key in keys:
            kept.pick(key, 0, ())
            kept.hold(key)

    relay.call(begin)
    time.sleep(1.5)
    assert relay.call(lambda: all(store.templates.find(key, time.monotonic()) is not None for key in keys))
    relay.call(lambda: [kept.release(key, time.monotonic()) for key in keys])
    eventually(lambda: all(store.templates.find(key, time.monotonic()) is None for key in keys))


def test_the_end_of_a_connection_counts(relay, store):
    """U14: a template lasts `timeout` from when its client was last there, also if that was after the last renewal."""
    relay.store = store
    relay.service([("127.0.0.1", free_port())], persistence=LONG)
    relay.start()
    kept: Persistence = relay.engine._services[0].persistence
    key = kept.key("10.0.0.1")
    now = time.monotonic()

    def connection():
        kept.pick(key, 0, ())
        kept.hold(key)
        kept.release(key, now + 30)

    relay.call(connection)
    assert store.templates.find(key, now + 89) is not None
    assert store.templates.find(key, now + 91) is None


def test_keys_are_secret_and_a_services_own(store):
    """U20: two hosts, and two services, have different keys for one client."""
    relays = [Relay(), Relay()]
    keys = set()
    for one, salt in zip(relays, ("00" * 16, "01" * 16), strict=True):
        one.store, one.salt = store, salt
        for _ in range(2):
            one.service([("127.0.0.1", 1)], persistence=LONG)
        one.start()
        keys |= {one.engine._services[slot].persistence.key("10.0.0.1") for slot in range(2)}
        one.close()
    assert len(keys) == 4


def test_another_file_is_no_store(tmp_path):
    """S9: a descriptor of something else is refused and stays the caller's."""
    for data in (b"", bytes(4096)):
        (tmp_path / "x").write_bytes(data)
        fd = os.open(tmp_path / "x", os.O_RDWR)
        with pytest.raises(TableError):
            Store(fd)
        os.close(fd)


def test_without_persistence_nothing_is_kept(relay, servers):
    """T18: a service without the key has no templates, and its clients go round."""
    address = relay.service([one.getsockname() for one in servers])
    relay.start()
    assert len({backend_of(relay, address, "127.0.0.1", servers) for _ in range(3)}) == 3
    assert relay.engine._services[0].persistence is None


def test_a_full_backend_is_passed_over_and_kept(relay, store, servers):
    """T21: a client whose backend has no free slot gets another one for now, and its own again when there is one."""
    relay.store = store
    address = relay.service([one.getsockname() for one in servers], persistence=LONG)
    plan = relay.services[0]
    relay.services[0] = replace(plan, backends=tuple(replace(one, max_connections=1) for one in plan.backends))
    relay.start()
    with connected(relay, address, "127.0.0.1", servers) as own:
        with connected(relay, address, "127.0.0.1", servers) as other:
            assert other is not own
        eventually(lambda: relay.counter("sessions") == 1)
        assert all(relay.backend(one.getsockname(), "active") == (one is own) for one in servers)
    eventually(lambda: relay.counter("sessions") == 0)
    assert backend_of(relay, address, "127.0.0.1", servers) is own
    assert relay.counter("persisted") == 1
