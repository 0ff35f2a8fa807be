"""A pair of daemons under load, for tests of what is changed while they run.

The clients' addresses and servers: three name servers and a web server behind a virtual address, which two daemons share.
Beside them: who may only grow (counters), who must not grow (descriptors and memory), and clients that stay.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import dns.message
import dns.rdatatype

from proxy.stats.layout import SERVICE_CELLS
from tests.e2e.bed import Bed, processes_in
from tests.e2e.daemon import Daemon, Status
from tests.e2e.pairs import ADDRESS, Host
from tests.e2e.process import BedError, until
from tests.e2e.servers import Nginx, Nsd
from tests.e2e.vrrp import LAN, VIP, pair
from tests.e2e.watch import Watch, changes

SERVERS = ("198.51.100.5", "198.51.100.6", "198.51.100.7")
THIRD = SERVERS[2]
MORE_DNS, MORE_WEB, PLAIN = 5353, 8080, 5300
GAUGES = frozenset(name for name, kind in SERVICE_CELLS if kind == "gauge")
EVERY = 0.2  # s between two looks at the counters
PATIENCE = 5.0
MORE_MEMORY = 1.03  # times what a process held before: a reload keeps nothing, but allocators round
ROOM = 1024  # KiB


@dataclass(frozen=True)
class Settings:
    """What a test changes in the file, each from one value to another."""

    backends: bool = False  # a third one for each service, and another weight for the first
    listeners: bool = False  # one more for each service
    probes: bool = False
    timeouts: bool = False
    priority: bool = False

    def text(self) -> str:
        """Return the file, without [node] and [control]."""
        first, second, third = SERVERS
        backends = f'{{ address = "{first}", weight = {3 if self.backends else 1} }}, "{second}"'
        if self.backends:
            backends += f', "{third}"'
        probe = "interval = " + ('"700ms", fall = 4' if self.probes else '"1s", fall = 3')
        return f"""
nodes = ["a", "b"]
[vrrp.outside]
interface = "eth0"
vrid = 51
addresses = ["{VIP[4]}"]
priority = {{ a = {140 if self.priority else 150}, b = 100 }}
advert-interval = "300ms"
track = [{{ service = "*", penalty = 60 }}]
[service.dns]
listen = ["outside:53/udp", "outside:53/tcp"{f', "outside:{MORE_DNS}/udp"' if self.listeners else ""}]
protocol = "dns"
backends = [{backends}]
backend-defaults = {{ port = 53 }}
probe = {{ type = "dns", query = "example.net SOA", transport = "udp", {probe} }}
dns = {{ give-up = "{"4s" if self.timeouts else "4.5s"}" }}
[service.web]
listen = ["outside:80/tcp"{f', "outside:{MORE_WEB}/tcp"' if self.listeners else ""}]
backends = [{backends}]
backend-defaults = {{ port = 80 }}
probe = {{ type = "tcp", {probe} }}
tcp = {{ idle-timeout = "{"50m" if self.timeouts else "1h"}" }}
[service.plain]
listen = ["outside:{PLAIN}/udp"]
backends = [{", ".join(f'"{address}:53"' for address in SERVERS)}]
probe = {{ type = "dns", query = "example.net SOA", transport = "udp", {probe} }}
"""


class Loaded:
    """The two hosts, a (active) and b, with their servers, and who watches the address."""

    def __init__(self, bed: Bed, watch: Watch) -> None:
        self.bed, self.watch = bed, watch
        for number, address in enumerate(SERVERS, 1):
            Nsd(bed, "server", [address], name=f"s{number}")
        Nginx(bed, "server", SERVERS)
        self.a, self.b = (Host(bed, name, Settings().text()) for name in ("a", "b"))
        self.hosts = (self.a, self.b)

    def start(self) -> None:
        """Start both, and return when a has the address and both have verdicts."""
        for host in self.hosts:
            host.start(wait=False)
        self.a.wait("active", 20)
        self.b.wait("backup", 20)
        for host in self.hosts:
            host.until_whole()
        until(lambda: self.watch.holders() == ["a"] and self.b.router["peer"], 10, "a to have the address")
        for host in self.hosts:
            host.mark()
        self._moved = len(changes(self.watch.told))

    def assert_nothing_moved(self) -> None:
        """No router of either host has changed its state since the start, and the address never left its host."""
        assert [(host.name, host.moves()) for host in self.hosts] == [("a", []), ("b", [])]
        assert changes(self.watch.told)[self._moved :] == []
        assert self.watch.holders() == ["a"]

    def processes(self) -> dict[str, list[tuple[str, int]]]:
        """Return the module of each process of the hosts, and its open descriptors if clients have no part in them."""
        found = {}
        for host in self.hosts:
            here = self.bed.hosts[host.name]
            all_of_it = [Held.by(pid) for pid in processes_in({here.inode}) if pid != here.holder.pid]
            found[host.name] = sorted(
                (one.module, 0 if one.module == "proxy.worker" else one.files) for one in all_of_it
            )
        return found

    def until_idle(self, gone: str) -> None:
        """Wait until the active host has nothing open for clients, and its services no backend `gone` any more."""

        def idle(status: Status) -> bool:
            pairs = [(service, backend) for service in status["services"][:2] for backend in service["backends"]]
            opened = [service["counters"][name] for service, _ in pairs for name in ("connections", "inflight")]
            return not any(opened) and gone not in {backend["name"] for _, backend in pairs}

        self.a.daemon.until(idle, "nothing to be open")


@contextlib.contextmanager
def loaded() -> Iterator[Loaded]:
    """Make the pair and start it."""
    with pair() as bed:
        bed.host("server")
        bed.attach("server", LAN, *(f"{address}/24" for address in SERVERS))
        with Watch(bed, ADDRESS) as watch:
            made = Loaded(bed, watch)
            made.start()
            yield made


# What may only grow


def counters(status: Status) -> dict[str, int]:
    """Return every counter of a status by its name."""
    found: dict[str, int] = {}
    for service in status["services"]:
        found |= {f"{service['name']} {key}": n for key, n in service["counters"].items() if key not in GAUGES}
        for backend in service["backends"]:
            name = f"{service['name']}/{backend['name']}"
            found |= {f"{name} {key}": backend[key] for key in ("total", "bytes_in", "bytes_out")}
            found |= {f"{name} {key}": count for key, count in backend["errors"].items()}
    return found


def shrunk(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Return in words which counters of both are smaller afterwards."""
    return [f"{name}: {before[name]}, then {count}" for name, count in after.items() if count < before.get(name, 0)]


class Counters:
    """Reads the counters of a daemon five times a second; a context manager.

    `wrong` says which became smaller, and when the daemon did not answer. What a service's backend of `without` has
    counted is left out: it begins at 0 whenever it is added.
    """

    def __init__(self, daemon: Daemon, without: Sequence[str] = ()) -> None:
        self.daemon, self.without = daemon, without
        self.wrong: list[str] = []
        self.reads = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="counters", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE + 1)

    def _follow(self) -> None:
        last: dict[str, int] = {}
        while not self._ended.is_set():
            try:
                status = self.daemon.status()
            except (OSError, ValueError, LookupError) as error:
                self.wrong.append(f"no status: {error!r}")
            else:
                found = counters(status)
                kept = {name: n for name, n in found.items() if not any(f"/{one} " in name for one in self.without)}
                self.wrong += shrunk(last, kept)
                last = kept
                self.reads += 1
            self._ended.wait(EVERY)


# What must not grow


@dataclass(frozen=True)
class Held:
    """What a process holds: open descriptors, and memory of its own in KiB."""

    module: str
    files: int
    memory: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        """Look at a process. Raises OSError when it is gone."""
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        memory = sum(int(rows[name].split()[0]) for name in ("RssAnon", "RssShmem"))
        return cls(argv[argv.index("-m") + 1], len(list(Path(f"/proc/{pid}/fd").iterdir())), memory)


def held(daemon: Daemon) -> dict[int, Held]:
    """Return what each process of a daemon holds, by its id."""
    return {pid: Held.by(pid) for pid in daemon.pids()}


def grown(before: dict[int, Held], after: dict[int, Held]) -> list[str]:
    """Return in words which processes hold more than before, or are not the same."""
    found = [f"{one.module} {pid} is gone" for pid, one in before.items() if pid not in after]
    found += [f"{one.module} {pid} is new" for pid, one in after.items() if pid not in before]
    for pid in before.keys() & after.keys():
        was, now = before[pid], after[pid]
        if now.files > was.files:
            found.append(f"{now.module} {pid} has {now.files} descriptors, {was.files} before")
        if now.memory > was.memory * MORE_MEMORY + ROOM:
            found.append(f"{now.module} {pid} has {now.memory} KiB, {was.memory} before")
    return found


# Clients that stay


class Idle:
    """HTTP connections that are kept open, without a request between two checks."""

    request = b"GET /small HTTP/1.1\r\nHost: example\r\n\r\n"
    body = b"\r\n\r\n" + b"s" * 1024

    def __init__(self, bed: Bed, count: int) -> None:
        self._socks = [bed.socket("client") for _ in range(count)]
        for sock in self._socks:
            sock.settimeout(PATIENCE)
            sock.connect((ADDRESS, 80))

    def close(self) -> None:
        """Close them all."""
        for sock in self._socks:
            sock.close()

    def check(self) -> None:
        """Send a request on each, and assert that each is answered."""
        for sock in self._socks:
            sock.sendall(self.request)
        for sock in self._socks:
            got = b""
            while not got.endswith(self.body):
                part = sock.recv(4096)
                assert part, f"a connection was closed after {got!r}"
                got += part


class Sessions:
    """Clients of the plain UDP service, each with a socket of its own; which server each one reaches."""

    def __init__(self, bed: Bed, count: int) -> None:
        self._socks = [bed.socket("client", kind=socket.SOCK_DGRAM) for _ in range(count)]
        for sock in self._socks:
            sock.settimeout(PATIENCE)
            sock.connect((ADDRESS, PLAIN))

    def servers(self) -> list[str]:
        """Ask each one's server for its name, once. Raises BedError if one does not answer."""
        asked = dns.message.make_query("whoami.example.net", dns.rdatatype.TXT)
        for sock in self._socks:
            sock.send(asked.to_wire())
        found, silent = [], []
        for sock in self._socks:
            try:
                answer = dns.message.from_wire(sock.recv(4096))
            except TimeoutError:
                silent.append(sock.getsockname()[1])
                sock.settimeout(0)  # the others have waited as long
                continue
            except BlockingIOError:
                silent.append(sock.getsockname()[1])
                continue
            assert asked.is_response(answer)
            found.append(str(answer.answer[0][0]).strip('"'))
        if silent:
            raise BedError(f"no answer at {len(silent)} of {len(self._socks)} clients, ports {silent}")
        return found
