"""Backends that are added, removed and weighed while a daemon with two workers serves them."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.status.schema import BackendStatus, Status
from tests.e2e.loopback import (
    PROBE,
    QUICK,
    Backend,
    Node,
    asked,
    asker,
    connected,
    exchange,
    free_port,
    lift_loopback,
    question,
)
from tests.e2e.process import until


class Bed:
    """A daemon with a service over TCP, one over UDP and one that speaks DNS, each with the same first two backends."""

    def __init__(self, directory: Path) -> None:
        lift_loopback()
        self.backends = [Backend() for _ in range(3)]
        self.port = free_port()
        self.sessions = free_port()
        self.names = free_port()
        rows = ", ".join(f'"{self.name(place)}"' for place in (0, 1))
        keys = f'backends = [{rows}]\nprobe = {{ type = "dns", query = "{PROBE} A", transport = "udp", {QUICK} }}\n'
        self.node = Node(
            directory,
            f'[service.tcp]\nlisten = ["127.0.0.1:{self.port}/tcp"]\nscheduler = "rr"\ndrain-timeout = "3s"\n{keys}'
            f'[service.udp]\nlisten = ["127.0.0.1:{self.sessions}/udp"]\nscheduler = "rr"\n{keys}'
            f'[service.dns]\nlisten = ["127.0.0.1:{self.names}/udp"]\nprotocol = "dns"\nscheduler = "rr"\n{keys}',
        ).start()

    def name(self, place: int) -> str:
        """Return the name and the address of a backend."""
        return f"127.0.0.1:{self.backends[place].port}"

    def steelyard(self, *arguments: str, code: int = 0) -> str:
        """Run a command that must end with this exit status; return the last line of its output."""
        found, text = self.node.steelyard(*arguments)
        assert found == code, text
        return text.splitlines()[-1]

    def edit(self, command: str, service: str, place: int, *more: str) -> None:
        """Run a command about a backend that must change something."""
        assert self.steelyard(command, service, self.name(place), *more) == "changed"

    def shown(self, service: str, place: int, status: Status | None = None) -> BackendStatus | None:
        """Return the status of a backend of a service, None if the service has no such backend."""
        for one in (status or self.node.status())["services"]:
            for backend in one["backends"]:
                if (one["name"], backend["name"]) == (service, self.name(place)):
                    return backend
        return None

    def until_serving(self, service: str, place: int) -> None:
        """Wait until a backend gets a connection."""
        self.node.until(
            lambda status: bool((self.shown(service, place, status) or {}).get("effective_weight")), f"{place} to serve"
        )

    def until_gone(self, service: str, place: int) -> None:
        """Wait until a backend is no longer listed."""
        self.node.until(lambda status: self.shown(service, place, status) is None, f"{place} to be gone")

    def connections(self) -> set[int]:
        """Return the backends that many new connections reach."""
        before = [one.connections for one in self.backends]
        for _ in range(20):
            with connected(self.port) as sock:
                assert exchange(sock, b"word") == b"word"
        return {place for place, one in enumerate(self.backends) if one.connections > before[place]}

    def reload(self, *changes: tuple[str, str]) -> str:
        """Change the file at its first such places and reload; return what the command said."""
        for old, new in changes:
            assert old in self.node.text
            self.node.text = self.node.text.replace(old, new, 1)
        self.node.file.write_text(self.node.text)
        code, text = self.node.steelyard("reload")
        assert code == 0, text
        return text

    def restart(self) -> None:
        """Stop the daemon and start it again."""
        assert self.node.proc is not None
        os.kill(self.node.pid, signal.SIGINT)
        self.node.proc.wait(10)
        self.node.start()

    def close(self) -> None:
        """End all of it."""
        self.node.end()
        for one in self.backends:
            one.close()


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Three echo servers, of which the daemon knows two."""
    bed = Bed(tmp_path)
    yield bed
    bed.close()


def test_a_server_that_is_told_of(bed: Bed) -> None:
    """H1, R9: an added backend is probed, then used by both workers, is shown and reported, and is gone after a restart."""
    assert bed.connections() == {0, 1}
    bed.backends[2].silent = True
    bed.edit("add", "tcp", 2, "--weight", "2")
    assert bed.connections() == {0, 1}
    shown = bed.shown("tcp", 2)
    assert shown is not None
    assert (shown["origin"], shown["weight"], shown["effective_weight"]) == ("added", 2, 0)
    bed.backends[2].silent = False
    bed.until_serving("tcp", 2)
    assert bed.connections() == {0, 1, 2}
    assert bed.steelyard("add", "tcp", bed.name(2)) == "nothing changed"
    status = bed.node.status()
    assert (status["config"]["overrides"], status["generation"]) == (1, 2)
    assert {worker["generation"] for worker in status["workers"]} == {2}
    assert bed.node.told(f"tcp/{bed.name(2)}", "added with weight 2, by uid")
    victim = bed.node.workers()[0]  # one that is started afterwards knows of it, too
    os.kill(victim, signal.SIGKILL)
    bed.node.until(lambda status: victim not in bed.node.workers() and len(bed.node.workers()) == 2, "a new worker")
    assert bed.connections() == {0, 1, 2}
    bed.restart()
    assert bed.connections() == {0, 1}


def test_removed_with_its_deadline(bed: Bed) -> None:
    """T16: a removed backend gets nothing new; its connections last until drain-timeout, then are cut, and it is gone."""
    with ExitStack() as stack:
        held = {}
        while len(held) < 2:
            sock = stack.enter_context(connected(bed.port))
            before = [one.connections for one in bed.backends]
            exchange(sock, b"word")
            held[next(at for at, one in enumerate(bed.backends) if one.connections > before[at])] = sock
        bed.edit("remove", "tcp", 0)
        shown = bed.shown("tcp", 0)
        assert shown is not None
        assert (shown["admin"], shown["admin_reason"], shown["effective_weight"]) == ("drain", "to be removed", 0)
        assert bed.connections() == {1}
        assert exchange(held[0], b"still") == b"still"
        assert bed.steelyard("remove", "tcp", bed.name(0)) == "nothing changed"
        held[0].settimeout(10)
        with pytest.raises(ConnectionResetError):
            held[0].recv(1)
        bed.until_gone("tcp", 0)
        assert exchange(held[1], b"kept") == b"kept"
    assert bed.node.told(f"tcp/{bed.name(0)}", "drained for 3s", "left: cut")
    assert bed.node.told(f"tcp/{bed.name(0)}", "removed: nothing is open any more")
    assert bed.node.steelyard("status")[0] == 0
    assert bed.connections() == {1}


def test_removed_when_nothing_is_open(bed: Bed) -> None:
    """T16: a removed backend is gone as soon as its last connection has ended; with --force at once, with a reset."""
    with connected(bed.port) as sock:
        exchange(sock, b"word")
        place = next(at for at, one in enumerate(bed.backends) if one.connections)
        bed.edit("remove", "tcp", place)
        bed.node.until(lambda status: bed.shown("tcp", place, status) is not None, "it to leave")
    bed.until_gone("tcp", place)
    bed.edit("add", "tcp", place)
    bed.until_serving("tcp", place)
    assert bed.connections() == {0, 1}
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(bed.port)) for _ in range(4)]
        for sock in socks:
            exchange(sock, b"word")
        bed.edit("remove", "tcp", place, "--force")
        bed.until_gone("tcp", place)
        assert sum(_is_reset(sock) for sock in socks) in (1, 2, 3)  # each worker takes its own turns


def _is_reset(sock: socket.socket) -> bool:
    try:
        return exchange(sock, b"still there?") == b""
    except ConnectionError:
        return True


def test_sessions_of_one_that_is_removed_move(bed: Bed) -> None:
    """U15: the UDP sessions of a removed backend move with their next datagram; those of other backends stay."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(16)]
        for number, client in enumerate(clients):
            client.settimeout(5)
            client.connect(("127.0.0.1", bed.sessions))
            client.send(question(f"c{number}.example", number))
            assert asked(client.recv(4096)) == f"c{number}.example"
        there = [name for name in bed.backends[0].queries if name != PROBE]
        stayed = [name for name in bed.backends[1].queries if name != PROBE]
        assert there
        assert stayed
        bed.edit("remove", "udp", 0)
        bed.edit("add", "udp", 2)
        bed.until_serving("udp", 2)
        bed.backends[0].queries.clear()
        bed.backends[1].queries.clear()
        for number, client in enumerate(clients):
            client.send(question(f"c{number}.example", number))
            assert asked(client.recv(4096)) == f"c{number}.example"
        assert bed.backends[0].queries == []
        assert set(stayed) <= set(bed.backends[1].queries)
        bed.until_gone("udp", 0)
        for number, client in enumerate(clients):
            client.send(question(f"c{number}.example", number))
            client.recv(4096)


def test_no_query_is_lost(bed: Bed) -> None:
    """R3: while backends of a DNS service are added and removed under load, each query is answered."""
    with asker(bed.names) as one:
        for turn in range(6):
            one.ask(40)
            bed.edit("add", "dns", 2)
            one.ask(40)
            bed.until_serving("dns", 2)
            one.ask(40)
            assert one.collect(5) == 0
            bed.edit("remove", "dns", 2)
            one.ask(40)
            bed.until_gone("dns", 2)
            assert one.collect(5) == 0, turn
        assert one.bad == []
    assert bed.backends[2].queries
    assert bed.node.fresh()["services"][2]["counters"]["servfail"] == 0


def test_a_weight(bed: Bed) -> None:
    """T24: a weight that an operator sets is the share of new traffic, 0 means none, and `clear` restores the file's weight."""
    bed.edit("weight", "tcp", 0, "0")
    bed.node.until(lambda status: (bed.shown("tcp", 0, status) or {})["effective_weight"] == 0, "the weight")
    assert bed.connections() == {1}
    bed.edit("weight", "tcp", 0, "9")
    bed.until_serving("tcp", 0)
    assert bed.connections() == {0, 1}
    shown = bed.shown("tcp", 0)
    assert shown is not None
    assert (shown["weight"], shown["effective_weight"], shown["origin"]) == (9, 9, "file")
    bed.edit("add", "tcp", 2)
    bed.edit("remove", "tcp", 1)
    _, text = bed.node.steelyard("overrides", "--json")
    acts = [(one["backend"], one["act"]) for one in json.loads(text)["overrides"]]
    assert acts == [(bed.name(2), "added"), (bed.name(1), "removed"), (bed.name(0), "weight 9")]
    assert bed.steelyard("overrides", "clear") == "changed"
    bed.until_gone("tcp", 2)
    assert bed.steelyard("overrides") == "no overrides: all is as the file says"
    bed.until_serving("tcp", 1)
    assert bed.connections() == {0, 1}


def test_saved_over_restarts(bed: Bed) -> None:
    """R9: saved `add`, `remove` and `weight` are in force at once after a restart, until the file changes those values."""
    bed.edit("add", "tcp", 2, "--weight", "2", "--save")
    bed.edit("add", "dns", 2)
    bed.edit("add", "dns", 2, "--save")
    bed.edit("remove", "tcp", 0, "--save")
    bed.edit("weight", "tcp", 1, "5", "--save")
    bed.edit("weight", "udp", 1, "5", "--save")
    bed.until_gone("tcp", 0)
    assert _overrides(bed) == _overrides(bed, saved=True)
    before = _overrides(bed)
    bed.restart()
    assert _overrides(bed) == before
    assert (len(before), bed.node.status()["generation"]) == (5, 1)
    assert bed.connections() == {1, 2}
    shown = bed.shown("tcp", 2)
    assert shown is not None
    assert (shown["origin"], shown["weight"], shown["effective_weight"]) == ("added", 2, 2)
    assert bed.shown("tcp", 0) is None
    assert (bed.shown("tcp", 1) or {})["weight"] == 5
    with asker(bed.names) as one:
        one.ask(30)
        assert one.collect(5) == 0
    assert bed.backends[2].queries.count(PROBE) < len(bed.backends[2].queries)
    # The file lists the added server of one service, drops the removed one, and changes a weight.
    first, last = (f'"{bed.name(place)}"' for place in (0, 2))
    head, tcp, rest = bed.node.text.partition("[service.udp]")
    bed.node.text = head.replace(f"[{first}, ", f"[{last}, ") + tcp + rest
    rows = f'backends = [{first}, {{ address = "127.0.0.1", port = {bed.backends[1].port}, name = "{bed.name(1)}", weight = 3 }}]'
    udp, dns, end = bed.node.text.partition("[service.dns]")
    start = udp.rindex("backends = [")
    bed.node.text = udp[:start] + rows + udp[udp.index("]", start) + 1 :] + dns + end
    bed.restart()
    assert _overrides(bed) == [("dns", bed.name(2), "added"), ("tcp", bed.name(1), "weight 5")]
    assert bed.connections() == {1, 2}
    assert (bed.shown("udp", 1) or {})["weight"] == 3
    for key, why in (
        (f"tcp/{bed.name(2)}", '"added" has ended: the service has it from the file now'),
        (f"tcp/{bed.name(0)}", '"removed" has ended: the backend is no longer in the file'),
        (f"udp/{bed.name(1)}", '"weight 5" has ended: the file\'s weight is 3 now, no longer 1'),
    ):
        assert bed.node.told(f"{key}: {why}")
    saved = json.loads((bed.node.dir / "state" / "overrides.json").read_text())
    assert [(row["act"], row["service"]) for row in saved["acts"]] == [("add", "dns"), ("weight", "tcp")]
    assert bed.steelyard("overrides", "clear") == "changed"
    assert not (bed.node.dir / "state" / "overrides.json").exists()


def test_over_reloads(bed: Bed) -> None:
    """R9: added backends and weights outlive a reload with their connections; what the file lists is the file's, without a cut."""
    bed.edit("add", "tcp", 2, "--save")
    bed.until_serving("tcp", 2)
    bed.edit("weight", "tcp", 2, "3", "--save")
    bed.edit("weight", "tcp", 0, "0")
    bed.edit("remove", "tcp", 1)
    bed.until_gone("tcp", 1)
    with connected(bed.port) as sock:
        assert exchange(sock, b"word") == b"word"
        bed.reload(('scheduler = "rr"\ndrain-timeout = "3s"', 'scheduler = "lc"\ndrain-timeout = "4s"'))
        assert bed.connections() == {2}
        assert exchange(sock, b"kept") == b"kept"
        assert len(_overrides(bed)) == 4
        names = [f'"{bed.name(place)}"' for place in range(3)]
        said = bed.reload((f"[{names[0]}, {names[1]}]", f"[{names[0]}, {names[2]}]"))
        assert '"added" has ended: the service has it from the file now' in said
        assert _overrides(bed) == sorted([("tcp", bed.name(0), "weight 0"), ("tcp", bed.name(2), "weight 3")])
        assert (bed.shown("tcp", 2) or {})["origin"] == "file"
        assert exchange(sock, b"kept") == b"kept"
        # The file drops the server: its connection has drain-timeout.
        bed.reload((f"[{names[0]}, {names[2]}]", f"[{names[0]}, {names[1]}]"))
        assert (bed.shown("tcp", 2) or {})["admin"] == "drain"
        assert exchange(sock, b"kept") == b"kept"
        until(lambda: not (bed.node.dir / "state" / "overrides.json").exists(), 5, "the saved acts to be forgotten")
        sock.settimeout(10)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    bed.until_gone("tcp", 2)
    bed.until_serving("tcp", 1)
    assert bed.connections() == {1}
    assert _overrides(bed) == [("tcp", bed.name(0), "weight 0")]


def _overrides(bed: Bed, *, saved: bool | None = None) -> list[tuple[str, str, str]]:
    _, text = bed.node.steelyard("overrides", "--json")
    rows = json.loads(text)["overrides"]
    return sorted((row["service"], row["backend"], row["act"]) for row in rows if saved in {None, row["saved"]})


def test_mistakes(bed: Bed) -> None:
    """R7: a senseless command is refused with an explanation and the documented exit status, and changes nothing."""
    said = bed.steelyard("add", "tcp", "ns9.example.net", code=1)
    assert said == ('steelyard: "ns9.example.net" is a name: write an IP address (the balancer does not resolve names)')
    assert "did you mean" in bed.steelyard("add", "tpc", "192.0.2.1", code=64)
    assert "does not have a backend" in bed.steelyard("remove", "tcp", "192.0.2.77", code=64)
    bed.steelyard("weight", "tcp", bed.name(0), "much", code=64)
    assert "weight must be a whole number from 0 to 65535" in bed.steelyard(
        "weight", "tcp", bed.name(0), "65536", code=1
    )
    bed.edit("remove", "dns", 0)
    assert "would have no backend any more" in bed.steelyard("remove", "dns", bed.name(1), code=1)
    bed.backends[1].silent = True
    bed.node.until(lambda status: (bed.shown("tcp", 1, status) or {})["state"] == "down", "one to be down")
    assert "no other backend of tcp can serve now: use --force" in bed.steelyard("remove", "tcp", bed.name(0), code=1)
    assert until(lambda: bed.shown("dns", 0) is None, 5, "the first to be gone")
