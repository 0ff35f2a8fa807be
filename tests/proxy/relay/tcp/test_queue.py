"""Limited backends of TCP services: their slots, and the clients that wait for one."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.relay.plan import LimitsPlan
from proxy.stats.layout import BACKEND_ACTIVE
from tests.proxy.relay.conftest import LAYOUT, TCP, Relay, eventually
from tests.proxy.relay.crowd import join, pair
from tests.proxy.relay.streams import RESET, accept, connect, exactly, held, listen, read, reset, turned_away, where


class Site:
    """Backends with `limit` slots each behind one service with a queue of `size`, in one relay or in two."""

    def __init__(
        self,
        relays: list[Relay],
        count: int,
        limit: int,
        size: int,
        timeout: float,
        sources: tuple[str, ...] = (),
        **changes: object,
    ) -> None:
        self.relays = relays
        self.backends = [listen() for _ in range(count)]
        self.addresses = []
        self.ends = [where(one) for one in self.backends]
        for relay in relays:
            self.addresses.append(relay.service(self.ends, limit=limit, limits=LimitsPlan(size, timeout), **changes))
            plan = relay.services[-1]
            backends = tuple(replace(one, source_addresses=sources) for one in plan.backends)
            relay.services[-1] = replace(plan, backends=backends)
            relay.start()
        if len(relays) > 1:
            join(*relays)
        self.opened: list[socket.socket] = []

    def client(self, at: int = 0) -> socket.socket:
        """A client of one of the workers."""
        sock = connect(self.addresses[at])
        self.opened.append(sock)
        return sock

    def served(self, at: int = 0, worker: int = 0) -> tuple[socket.socket, socket.socket]:
        """A client that has a backend's slot, and the backend's end."""
        return self.client(worker), self.taken(at)

    def taken(self, at: int = 0) -> socket.socket:
        """The backend's end of the next connection."""
        end = accept(self.backends[at])
        self.opened.append(end)
        return end

    def taken_elsewhere(self, count: int) -> None:
        """Show the second worker this many slots of the first backend as taken by the first worker."""
        self.relays[0].table.cells[LAYOUT.backend(0) + BACKEND_ACTIVE] = count

    def waits(self, count: int, at: int = 0) -> bool:
        """Return True if this many clients wait in that worker."""
        return self.relays[at].counter("queued") == count

    def close(self) -> None:
        """Close the remaining sockets."""
        for sock in (*self.opened, *self.backends):
            sock.close()


@pytest.fixture
def site(relay) -> Iterator[object]:
    """A maker of sites with one relay."""
    made: list[Site] = []

    def make(count: int = 1, limit: int = 1, size: int = 10, timeout: float = 30.0, **changes: object) -> Site:
        made.append(Site([relay], count, limit, size, timeout, **changes))
        return made[0]

    yield make
    for one in made:
        one.close()


NOBODYS = ("192.0.2.77",)  # an address that this host does not have: nothing can be connected from it


@contextlib.contextmanager
def two(
    count: int = 1, limit: int = 1, size: int = 10, timeout: float = 30.0, sources: tuple[str, ...] = ()
) -> Iterator[Site]:
    """A site with two workers, which connect from `sources` if there are any."""
    with pair() as relays:
        made = Site(list(relays), count, limit, size, timeout, sources=sources)
        try:
            yield made
        finally:
            made.close()


def silent(listener: socket.socket, for_: float = 0.2) -> bool:
    """Return True if no client connects for a while."""
    listener.settimeout(for_)
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return True
    finally:
        listener.settimeout(10)
    return False


def over(*ends: socket.socket) -> None:
    """End a connection from both sides."""
    for end in ends:
        end.close()


def greets(client: socket.socket, end: socket.socket) -> bool:
    """Return True if octets of the client arrive at this backend's end."""
    client.sendall(b"hello")
    return exactly(end, 5) == b"hello"


def test_the_queue_is_first_in_first_out(site, relay):
    """T21: above max-connections clients wait, are shown as queued, and get the slot in the order they came."""
    here = site()
    before = here.served()
    waiting = []
    for number in range(3):
        waiting.append(here.client())
        eventually(lambda n=number: here.waits(n + 1))
    assert relay.backend(here.ends[0], "queued") == 3
    assert silent(here.backends[0])
    for number, client in enumerate(waiting):
        over(*before)
        before = client, here.taken()
        assert greets(*before)
        eventually(lambda n=number: here.waits(2 - n))
    assert relay.backend(here.ends[0], "active") == 1
    assert relay.backend(here.ends[0], "total") == 4
    assert relay.counter("refused_limit") == 0


def test_the_queue_times_out(site, relay):
    """T21: a client that has waited for the queue's timeout is reset and counted apart; the one that is served is not."""
    here = site(timeout=0.3)
    client, end = here.served()
    began = time.monotonic()
    late = here.client()
    assert read(late) == (b"", RESET)
    assert 0.25 <= time.monotonic() - began < 3
    assert [relay.counter(name) for name in ("queue_timeout", "refused_limit", "refused_no_backend", "queued")] == [
        1,
        0,
        0,
        0,
    ]
    assert greets(client, end)


@pytest.mark.parametrize("size", [0, 2])
def test_the_queue_is_bounded(site, relay, size):
    """T21: a client that finds the queue full is reset at once and counted; without a queue every client is."""
    here = site(size=size)
    here.served()
    for number in range(size):
        here.client()
        eventually(lambda n=number: here.waits(n + 1))
    assert turned_away(here.addresses[0])
    assert relay.counter("refused_limit") == 1
    assert here.waits(size)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_who_leaves_frees_the_place(site, relay, how):
    """T21, T11: a client that leaves the queue frees its place, and the slot goes to the next client."""
    here = site(size=1)
    first = here.served()
    gone = here.client()
    eventually(lambda: here.waits(1))
    gone.close() if how == "fin" else reset(gone)
    eventually(lambda: here.waits(0))
    assert relay.counter("client_gone") == 1
    after = here.client()
    eventually(lambda: here.waits(1))
    over(*first)
    assert greets(after, here.taken())


def test_a_full_backend_is_passed_over(site, relay):
    """T21: while any backend has a slot no client waits, whichever backend the scheduler would have chosen."""
    here = site(count=3, limit=2)
    for _ in range(6):
        here.client()
    eventually(lambda: [relay.backend(one, "active") for one in here.ends] == [2, 2, 2])
    assert here.waits(0)
    here.client()
    eventually(lambda: here.waits(1))


def test_a_full_backend_does_not_spill_onto_its_standby(site, relay):
    """T21, H14: a client of a failover service waits for its full backend; the standby is used only if that one is down."""
    here = site(count=2, scheduler="failover")
    relay.verdict(here.ends[1], "standby")
    first = here.served(0)
    waiting = here.client()
    eventually(lambda: here.waits(1))
    assert silent(here.backends[1])
    over(*first)
    assert greets(waiting, here.taken(0))


def test_a_standby_takes_who_cannot_reach_the_first(site, relay):
    """T9, T21: a standby with slots serves whose connect to the first backend failed."""
    here = site(count=2, limit=2, scheduler="failover")
    relay.verdict(here.ends[1], "standby")
    here.backends[0].close()
    assert greets(*here.served(1))


@pytest.mark.parametrize("state", [("up", "ready"), ("down", "ready")])
def test_a_verdict_wakes_the_queue(site, relay, state):
    """T21, T10: a backend that comes up gets the waiting clients; if no backend is left, they are refused at once."""
    here = site(count=2)
    relay.verdict(here.ends[1], "down")
    here.served(0)
    waiting = here.client()
    eventually(lambda: here.waits(1))
    if state[0] == "up":
        relay.verdict(here.ends[1], *state)
        assert greets(waiting, here.taken(1))
    else:
        relay.verdict(here.ends[0], *state)
        assert read(waiting) == (b"", RESET)
        assert relay.counter("refused_no_backend") == 1
    assert here.waits(0)


def test_a_connect_that_fails_gives_the_slot_back(site, relay):
    """T21, T9: a slot is not lost with a connect that is refused; its client waits for another backend's slot."""
    here = site(count=2, limit=1)
    here.backends[1].close()
    first = here.served(0)
    late = here.client()
    eventually(lambda: here.waits(1))
    assert relay.backend(here.ends[1], "active") == 0
    over(*first)
    assert greets(late, here.taken())


def test_slots_are_the_hosts():
    """T21: the limit is over all workers: a slot that one has taken the other cannot, and it is woken when it is free."""
    with two() as here:
        first = here.served(worker=0)
        waiting = here.client(1)
        eventually(lambda: here.waits(1, at=1))
        assert silent(here.backends[0])
        over(*first)
        assert greets(waiting, here.taken())


def test_the_oldest_is_first_in_any_worker():
    """T21: a slot that becomes free goes to the client that has waited longest, even in another worker."""
    with two() as here:
        first = here.served(worker=0)
        older = here.client(1)
        eventually(lambda: here.waits(1, at=1))
        younger = here.client(0)
        eventually(lambda: here.waits(1, at=0))
        over(*first)
        end = here.taken()
        assert greets(older, end)
        over(older, end)
        assert greets(younger, here.taken())


def test_the_queues_bound_is_the_hosts():
    """T21: the queue's size limits the waiting clients of all workers together."""
    with two(size=2) as here:
        here.served(worker=0)
        for at in (0, 1):
            here.client(at)
            eventually(lambda at=at: here.waits(1, at=at))
        assert turned_away(here.addresses[1])
        assert here.relays[1].counter("refused_limit") == 1


def test_a_crowd_never_overshoots():
    """T21: 120 clients that come at once to two workers never have more than the limit open, and all are served."""
    limit = 4
    with two(limit=limit, size=200) as here:
        open_, most, served = 0, 0, 0
        lock = threading.Lock()
        done = threading.Event()

        def serve(end: socket.socket) -> None:
            nonlocal open_, served
            with end:
                end.sendall(b"x")
                time.sleep(0.005)
                with lock:
                    open_ -= 1
                    served += 1
                    if served == 120:
                        done.set()

        def run() -> None:
            nonlocal open_, most
            with contextlib.suppress(OSError):
                while True:
                    end, _ = here.backends[0].accept()
                    with lock:
                        open_ += 1
                        most = max(most, open_)
                    threading.Thread(target=serve, args=(end,), daemon=True).start()

        acceptor = threading.Thread(target=run, daemon=True)
        acceptor.start()
        with held(here.relays[0]), held(here.relays[1]):
            clients = [here.client(number % 2) for number in range(120)]
        answers = 0
        while clients:
            for client in select.select(clients, [], [], 10)[0]:
                answers += client.recv(10) == b"x"
                client.close()
                clients.remove(client)
        assert answers == 120
        assert done.wait(10)
        here.backends[0].shutdown(socket.SHUT_RDWR)
        acceptor.join(5)
        assert most <= limit


def test_who_lacked_a_source_still_times_out():
    """T21: a client that loses its slot for lack of a local port still waits no longer than queue-timeout."""
    with two(timeout=1.0, sources=NOBODYS) as here:
        here.taken_elsewhere(1)
        client = here.client(1)
        eventually(lambda: here.waits(1, at=1))
        here.taken_elsewhere(0)
        eventually(lambda: here.relays[1].counter("no_source_address") >= 1)
        here.taken_elsewhere(1)
        assert read(client) == (b"", RESET)
        assert here.relays[1].counter("queue_timeout") == 1
        assert here.waits(0, at=1)


def test_time_in_the_queue_is_no_time_to_connect(site, relay):
    """T10, T21: a client that waited longer than connect-timeout for a slot may still wait for a local port."""
    here = site(transparent=True, tcp=replace(TCP, connect_timeout=0.2))
    relay.call(lambda: relay.engine.prepared(socket.AF_INET, socket.SOCK_STREAM, 2, spare_sockets()))
    first = here.served()
    waiting = here.client()
    eventually(lambda: here.waits(1))
    time.sleep(0.4)
    over(*first)
    eventually(lambda: relay.counter("no_transparent_socket") >= 1)
    relay.call(lambda: relay.engine.prepared(socket.AF_INET, socket.SOCK_STREAM, 2, spare_sockets()))
    assert greets(waiting, here.taken())


def spare_sockets() -> list[socket.socket]:
    """Sockets for one connection, as good as transparent ones where the client is on loopback.

    Two, for one is tried with the client's port, which is its own on this host.
    """
    return [socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(2)]


def test_a_shortage_is_no_busy_loop():
    """T10, T21: with free slots but no local ports, each waiting client tries about as often as a single one would."""
    crowd = 40
    with two(size=crowd, sources=NOBODYS) as here:
        here.taken_elsewhere(1)
        for _ in range(crowd):
            here.client(1)
        eventually(lambda: here.waits(crowd, at=1))
        here.taken_elsewhere(0)
        time.sleep(0.5)
        tries = here.relays[1].counter("no_source_address")
        assert crowd < tries < 50 * crowd  # every 0.05 s would be 10 each
        assert here.waits(crowd, at=1)


def test_who_was_refused_holds_up_nobody(site, relay):
    """T9, T21: clients that one backend refused and that wait for the other do not hold up a new client."""
    crowd = 40
    here = site(count=2, size=crowd)
    port = here.ends[0][1]
    here.backends[0].close()
    held_ = here.served(1)
    for _ in range(crowd):
        here.client()
    eventually(lambda: relay.backend(here.ends[0], "connect_refused") >= crowd)
    eventually(lambda: here.waits(crowd))
    here.backends[0] = socket.create_server(("127.0.0.1", port))
    here.backends[0].settimeout(10)
    assert greets(*here.served(0))
    over(*held_)
    assert greets(here.opened[2], here.taken(1))
    assert relay.counter("refused_limit") == 0
