"""The listening sockets of a daemon."""

import contextlib
import math
import os
import socket

import pytest

from proxy.backends.effective import Running
from proxy.config.loader import load
from proxy.stats.slots import Slots
from proxy.workers import listeners as module
from proxy.workers import spreading
from proxy.workers.listeners import ListenError, Listeners, Relocation
from tests.e2e.bed import Bed
from tests.e2e.loopback import free_port

FILE = """
[node]
name = "n"
workers = 2
[service.a]
listen = ["127.0.0.1:{a}/udp", "127.0.0.1:{a}/tcp"]
backends = ["192.0.2.1"]
probe = {{ type = "none" }}
[service.b]
listen = ["127.0.0.1:{b}/tcp"]
backends = ["192.0.2.1"]
"""

LINK_LOCAL = """
[node]
name = "n"
workers = 2
[service.a]
listen = ["[fe80::53%near]:53/udp", "[fe80::53%near]:53/tcp"]
backends = ["192.0.2.1"]
probe = { type = "none" }
"""


@pytest.fixture
def running(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(FILE.format(a=free_port(), b=free_port()))
    return Running(load(path), Slots(16), Slots(64))


def test_a_group_for_each(running):
    """Each listener has as many members as there are workers, and belongs to its service."""
    listeners = Listeners()
    listeners.bind(running, lambda *_: None)
    try:
        assert (listeners.numbers, len(listeners)) == ([0, 1, 2], 3)
        assert (listeners.of({0}), listeners.of({1}), listeners.of(())) == ([0, 1], [2], [])
        member, fd = listeners.member((2, 1))
        port = running.services["b"].listeners[0].port
        assert (member.index, member.service, member.transport, member.port) == (1, 1, "tcp", port)
        assert fd != listeners.member((2, 0))[1]
    finally:
        listeners.close()


def test_all_or_none(running):
    """R11: where one address is taken, none is held, and each that cannot be had is told with its service."""
    ports = [service.listeners[-1].port for service in running.services.values()]
    with socket.create_server(("127.0.0.1", ports[0])), socket.create_server(("127.0.0.1", ports[1])):
        with pytest.raises(ListenError) as caught:
            Listeners().bind(running, lambda *_: None)
        lines = str(caught.value).splitlines()
        assert [line.partition(":")[0] for line in lines] == ["service.a", "service.b"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", ports[0]))


async def test_bound_again_when_the_interface_is_another():
    """R3: a listener on a link-local address is bound again, under a new number, once its interface is made anew."""
    with Bed() as bed:
        bed.host("a")
        bed.ip("a", "link add near type veth peer name far", "addr add fe80::53/64 dev near nodad", "link set near up")
        path = bed.dir / "f.toml"
        path.write_text(LINK_LOCAL)
        told = []
        listeners = Listeners()
        with bed.inside("a"):
            listeners.bind(Running(load(path), Slots(16), Slots(64)), lambda *_: None)
            try:
                assert list(listeners.renew(told.append)) == []
                bed.ip("a", "link del near")
                assert list(listeners.renew(told.append)) == []
                bed.ip("a", "link add near type veth peer name far", "link set near up")
                assert list(listeners.renew(told.append)) == [(0, 2), (1, 3)]
                assert (listeners.numbers, len(told)) == ([2, 3], 2)
                member, descriptor = listeners.member((2, 1))
                with socket.socket(fileno=os.dup(descriptor)) as sock:
                    assert sock.getsockname()[3] == socket.if_nametoindex("near")
                assert member.listener == 2
                assert list(listeners.renew(told.append)) == []
            finally:
                listeners.close()


@pytest.fixture
def file(tmp_path):
    """Return what writes the file with other listeners, and loads it."""
    path = tmp_path / "f.toml"

    def load_with(**listen):
        text = '[node]\nname = "n"\nworkers = 2\n'
        for name, ports in listen.items():
            places = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
            text += f'[service.{name}]\nlisten = [{places}]\nbackends = ["192.0.2.1"]\nprobe = {{ type = "none" }}\n'
        path.write_text(text)
        return load(path)

    return load_with


def sockets_of(listeners, number):
    """Return which sockets a listener has: the inodes of its members."""
    return [os.fstat(listeners.member((number, index))[1]).st_ino for index in (0, 1)]


def test_a_listener_that_stays_is_not_touched(file):
    """A new listener gets a number of its own, a removed one is closed, the one that stays keeps number and sockets."""
    a, b, c = free_port(), free_port(), free_port()
    running = Running(file(s=[f"{a}/tcp", f"{b}/tcp"]), Slots(16), Slots(64))
    listeners = Listeners()
    listeners.bind(running, lambda *_: None)
    before = sockets_of(listeners, 0)
    new = Running(file(s=[f"{a}/tcp", f"{c}/tcp"]), *running.slots)
    moves = listeners.commit(new, listeners.prepare(new.config.services, 2))
    try:
        assert moves == Relocation(added=(2,), removed=(1,))
        assert (listeners.numbers, sockets_of(listeners, 0)) == ([0, 2], before)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", b))
        socket.create_connection(("127.0.0.1", c)).close()
    finally:
        listeners.close()


def test_a_listener_that_moves_keeps_its_sockets(file):
    """A listener of another service has another number, that service's slot, and the same sockets."""
    a = free_port()
    running = Running(file(s=[f"{a}/tcp"]), Slots(16), Slots(64))
    listeners = Listeners()
    listeners.bind(running, lambda *_: None)
    before = sockets_of(listeners, 0)
    new = Running(file(t=[f"{a}/tcp"]), *running.slots)
    moves = listeners.commit(new, listeners.prepare(new.config.services, 2))
    try:
        assert moves == Relocation(moved=((0, 1),))
        assert sockets_of(listeners, 1) == before
        assert listeners.of({new.slots[0]["t"]}) == [1]
    finally:
        listeners.close()


def test_a_udp_listener_that_comes_back_has_its_sockets(file, monkeypatch):
    """R6: a UDP listener that is removed and comes back soon has the same sockets; later they are closed."""
    a, b = free_port(), free_port()
    running = Running(file(s=[f"{a}/udp", f"{b}/udp"]), Slots(16), Slots(64))
    listeners = Listeners()
    listeners.bind(running, lambda *_: None)
    before = sockets_of(listeners, 0)

    def reload(*ports):
        new = Running(file(s=[f"{port}/udp" for port in ports]), *running.slots)
        return listeners.commit(new, listeners.prepare(new.config.services, 2))

    try:
        assert reload(b) == Relocation(removed=(0,))
        listeners.look()
        assert reload(a, b) == Relocation(added=(2,))
        assert sockets_of(listeners, 2) == before
        reload(b)
        monkeypatch.setattr(module, "LINGER", 0.0)
        reload(a, b)
        reload(b)
        listeners.look()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", a))
    finally:
        listeners.close()


def test_nothing_changes_where_a_port_is_taken(file):
    """R1: if one new listener cannot be bound, none is, and the present ones stay as they are."""
    a, b, c = free_port(), free_port(), free_port()
    running = Running(file(s=[f"{a}/tcp"]), Slots(16), Slots(64))
    listeners = Listeners()
    listeners.bind(running, lambda *_: None)
    try:
        taken = pytest.raises(ListenError, match=f"127.0.0.1:{c}/tcp: already in use")
        with socket.create_server(("127.0.0.1", c)), taken:
            listeners.prepare(file(s=[f"{a}/tcp", f"{b}/tcp", f"{c}/tcp"]).services, 2)
        assert listeners.numbers == [0]
        with socket.create_server(("127.0.0.1", b)):
            pass
    finally:
        listeners.close()


def test_changed_options_reach_the_sockets(file):
    """The keepalive of a service is changed on the sockets that listen already; "never" turns it off."""
    a = free_port()
    running = Running(file(s=[f"{a}/tcp"]), Slots(16), Slots(64))
    listeners = Listeners()
    listeners.bind(running, lambda *_: None)
    try:
        for keepalive, idle, on in ((7.0, 7, 1), (math.inf, 7, 0)):
            (service,) = running.config.services
            tcp = service.tcp.model_copy(update={"keepalive": keepalive})
            running.replace(service.model_copy(update={"tcp": tcp}))
            listeners.commit(running, listeners.prepare(running.config.services, 2))
            for index in (0, 1):
                with socket.socket(fileno=os.dup(listeners.member((0, index))[1])) as sock:
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == on
    finally:
        listeners.close()


def test_adopted_listeners(running):
    """R12, R6: a predecessor's listeners keep their sockets, sizes and numbers; others are bound beside; the rest is closed."""
    before = Listeners()
    before.bind(running, lambda *_: None)
    after, service = Listeners(), running.services["b"].listeners[0]
    spare = socket.socket()
    adopted = {
        ("tcp", "127.0.0.1", service.port): (7, [socket.socket(fileno=os.dup(before.member((2, 0))[1]))]),
        ("tcp", "127.0.0.1", 1): (9, [spare]),
    }
    rest = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)]
    try:
        for listener, index in rest:  # or the ports would be taken
            before._groups[listener][index].close()
        after.bind(running, lambda *_: None, adopted)
        assert sorted(after.numbers) == [7, 10, 11]
        assert (after.size(7), after.find(f"127.0.0.1:{service.port}/tcp")) == (1, 7)
        assert (after.size(10), after.find("127.0.0.1:1/tcp")) == (2, None)
        assert {member.listener: len(fds) for member, fds in after.groups()} == {7: 1, 10: 2, 11: 2}
        assert spare.fileno() == -1
        with socket.create_connection(("127.0.0.1", service.port)):
            assert adopted["tcp", "127.0.0.1", service.port][1][0].accept()[0].close() is None
    finally:
        before.close()
        after.close()


@pytest.fixture
def one(tmp_path):
    """Return what makes a configuration of one UDP listener from the text of a service, for so many workers."""
    path, port = tmp_path / "f.toml", free_port()
    slots = Slots(16), Slots(64)

    def load_with(extra, name="s", workers=3):
        path.write_text(
            f'[node]\nname = "n"\nworkers = {workers}\n[service.{name}]\nlisten = ["127.0.0.1:{port}/udp"]\n'
            f'backends = ["192.0.2.1"]\nprobe = {{ type = "none" }}\n{extra}\n'
        )
        return Running(load(path), *slots)

    return load_with


def members_used(listeners, number):
    """Return how many members of a listener get some of one client's datagrams, whose first two octets differ."""
    where, _ = listeners.member((number, 0))
    group = [socket.socket(fileno=os.dup(listeners.member((number, at))[1])) for at in range(listeners.size(number))]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((where.address, where.port))
            for ident in range(30):
                client.send(bytes([0, ident]))
        used = 0
        for sock in group:  # on loopback a datagram is there when `send` returns
            got = 0
            with contextlib.suppress(BlockingIOError):
                while sock.recv(16):
                    got += 1
            used += got > 0
        return used
    finally:
        for sock in group:
            sock.close()


DNS, PLAIN, PROXIED = 'protocol = "dns"', "", 'protocol = "dns"\naccept-proxy = ["192.0.2.0/24"]'


def test_a_changed_service_spreads_or_not(one):
    """R6: a reload spreads one client's datagrams if the service is DNS without `accept-proxy` now, and else does not."""
    listeners, told = Listeners(), []
    listeners.bind(one(PLAIN), lambda *_: None)
    try:
        listeners.steer(told.append)
        assert members_used(listeners, 0) == 1
        for extra, name, spread in (
            (DNS, "s", 3),
            (PLAIN, "s", 1),
            (DNS, "t", 3),  # the listener moves to another service
            (PROXIED, "t", 1),
            (DNS, "t", 3),
            (PLAIN, "u", 1),
        ):
            new = one(extra, name)
            listeners.commit(new, listeners.prepare(new.config.services, 3))
            listeners.steer(told.append)
            assert members_used(listeners, listeners.numbers[0]) == spread, (extra, name)
        assert told == []
    finally:
        listeners.close()


@pytest.mark.parametrize(("before", "now", "spread"), [(DNS, PLAIN, 1), (PLAIN, DNS, 3), (DNS, DNS, 3)])
def test_a_predecessors_group_is_its_own_until_it_is_steered(one, before, now, spread):
    """R12: adopted members go on as the predecessor had them until `steer`, then as this configuration wants it."""
    former, after = Listeners(), Listeners()
    former.bind(one(before), lambda *_: None)
    former.steer(pytest.fail)
    where, _ = former.member((0, 0))
    group = [socket.socket(fileno=os.dup(former.member((0, at))[1])) for at in range(3)]
    try:
        after.bind(one(now, workers=4), lambda *_: None, {("udp", where.address, where.port): (0, group)})
        assert members_used(after, 0) == (3 if before == DNS else 1)
        after.steer(pytest.fail)
        assert members_used(after, 0) == spread
    finally:
        former.close()
        after.close()


def test_a_kernel_that_does_not_spread(one, monkeypatch):
    """If the kernel refuses the program, one warning says so, and the listener serves as it did."""
    monkeypatch.setattr(spreading, "SO_ATTACH_REUSEPORT_CBPF", 9999)
    listeners, told = Listeners(), []
    listeners.bind(one(DNS), lambda *_: None)
    try:
        for _ in range(2):
            listeners.steer(told.append)
        (line,) = told
        assert "/udp: one client's queries all go to one worker, as the kernel refuses: Protocol not available" in line
        assert members_used(listeners, 0) == 1
    finally:
        listeners.close()


def test_one_worker_has_nothing_to_spread_over(one):
    """A group of one member gets no program, and no warning."""
    listeners = Listeners()
    listeners.bind(one(DNS, workers=1), lambda *_: None)
    try:
        listeners.steer(pytest.fail)
        assert members_used(listeners, 0) == 1
    finally:
        listeners.close()
