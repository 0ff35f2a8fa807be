"""Two whole daemons that share addresses, a DNS server behind them and a client beside them, on one LAN."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.moments import unix
from tests.e2e.bed import Bed
from tests.e2e.daemon import Daemon, Status, settled
from tests.e2e.process import BedError, stat_fields, until
from tests.e2e.servers import Nsd
from tests.e2e.vrrp import LAN, VIP, holders, owner_settles, pair

ADDRESS, ADDRESS6 = (VIP[family].partition("/")[0] for family in (4, 6))
SERVER, SERVER6 = "198.51.100.5", "2001:db8:1::5"
INTERVAL = 0.1

FILE = """
nodes = ["a", "b"]
[defaults.vrrp]
priority = {{ a = 150, b = 100 }}
advert-interval = "{interval}"
[vrrp.outside]
interface = "eth0"
vrid = 51
addresses = ["{address}"]
{vrrp}
[service.dns]
listen = ["outside:53/udp", "outside:53/tcp"]
protocol = "dns"
backends = ["{server}"]
probe = {{ type = "dns", query = "example.net SOA", interval = "400ms", fast-interval = "100ms", down-interval = "300ms", timeout = "300ms" }}
{more}
"""
TRACK = 'track = [{ service = "*", penalty = 60 }]'


class Host:
    """One of the two: a daemon that can be started again with what it had."""

    def __init__(self, bed: Bed, name: str, text: str, **options: Any) -> None:
        self.bed = bed
        self.name = name
        self.text = text
        self.options = options
        state = bed.dir / f"state-{name}"
        self.options.setdefault("node", {})
        self.options["node"] = {"state-dir": f'"{state}"', "stop-timeout": '"5s"'} | dict(self.options["node"])
        self.daemon: Daemon = None  # type: ignore[assignment]
        self._since = 0.0  # of the wall clock: what was told before is no matter of this test
        self._read = 0

    def mark(self) -> None:
        """Forget what it has told so far: `moves` and `told` are of what comes from now on."""
        self._since = time.time()
        self._read = len(self.daemon.proc.output())

    def start(self, *, wait: bool = True) -> None:
        """Start the daemon; with `wait` until its backends have verdicts and it takes part."""
        self.daemon = Daemon(self.bed, self.name, self.text, ready=lambda _: True, **self.options)
        self._read = 0
        if wait:
            self.settle()

    def settle(self) -> None:
        """Wait until the backends have verdicts and the routers a state."""
        self.daemon.until(lambda status: settled(status) and self._in(status, "active", "backup"), "a settled daemon")

    def _in(self, status: Status, *states: str) -> bool:
        return all(router["state"] in states for router in status["vrrp"])

    @property
    def router(self) -> dict[str, Any]:
        """The first router's row in the status."""
        row: dict[str, Any] = self.daemon.status()["vrrp"][0]
        return row

    def wait(self, state: str, timeout: float = 6.0) -> None:
        """Wait until the routers are in a state."""
        self.daemon.until(lambda status: self._in(status, state), f"{self.name} to be {state}", timeout)

    def child(self, module: str) -> list[int]:
        """Return the ids of the processes that run a module of ours, as "proxy.vrrpd", the oldest first."""
        found = []
        for pid in self.daemon.pids():
            try:
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if module.encode() in argv:
                found.append((int(stat_fields(pid)[19]), pid))
        return [pid for _, pid in sorted(found)]

    def moves(self) -> list[tuple[str, str]]:
        """Return the moves of its routers since the mark, (name, "state: why") each, oldest first."""
        events = [one for one in self.daemon.events() if one["kind"] == "vrrp" and unix(one["at"]) >= self._since]
        return [(one["subject"], one["text"]) for one in events if one.get("previous")]

    def told(self, pattern: str) -> bool:
        """Whether the log says so since the mark."""
        return re.search(pattern, self.daemon.proc.output()[self._read :]) is not None

    def until_whole(self) -> None:
        """Wait until all of its processes live: each worker, health, and two for the addresses."""
        self.settle()
        wanted = {"proxy.vrrpd": 2, "proxy.healthd": 1, "proxy.worker": len(self.daemon.status()["workers"])}
        until(lambda: {name: len(self.child(name)) for name in wanted} == wanted, 15, f"all processes of {self.name}")


class Pair:
    """The bed with hosts a (priority 150) and b (100); `ns` is the DNS server behind both."""

    def __init__(
        self, bed: Bed, *, interval: str = "100ms", vrrp: str = TRACK, more: str = "", family: int = 4, **options: Any
    ) -> None:
        self.bed = bed
        self.address = ADDRESS if family == 4 else ADDRESS6
        bed.host("server")
        bed.attach("server", LAN, f"{SERVER}/24", f"{SERVER6}/64")
        self.ns = Nsd(bed, "server", [SERVER, SERVER6])
        text = FILE.format(
            interval=interval, address=VIP[family], vrrp=vrrp, server=SERVER if family == 4 else SERVER6, more=more
        )
        self.a = Host(bed, "a", text, **options)
        self.b = Host(bed, "b", text, **options)

    def start(self) -> None:
        """Start both, and return when a is active, b backup, and each has heard of the other."""
        for host in (self.a, self.b):
            host.start(wait=False)
        self._settle(Host.settle)

    def restore(self) -> None:
        """Bring both back to where `start` left them, whatever a test has done to them, and set the mark.

        A start costs seven interpreters for each host: what is whole still stays. It is a test's own matter to end what
        it changed in files.
        """
        self.bed.nft("a", "flush ruleset")
        self.ns.cont()
        try:
            for host in (self.a, self.b):
                host.daemon.proc.cont()
                if not host.daemon.proc.alive:
                    host.daemon.proc.kill()  # whoever was left without a master
                    host.start(wait=False)
                elif until(lambda host=host: host.router, 10, f"a status of {host.name}")["standby"]:  # type: ignore[misc]
                    host.daemon.cli("resume")
            self._settle(Host.until_whole)
        except BedError:
            for host in (self.a, self.b):
                kill_all(host)
            self.start()
        for host in (self.a, self.b):
            host.mark()

    def _settle(self, each: Callable[[Host], None]) -> None:
        self.a.wait("active", 15)
        self.b.wait("backup", 15)
        for host in (self.a, self.b):
            each(host)
        assert self.owner() == "a"
        until(lambda: self.b.router["peer"], 5, "b to hear a")

    def owner(self, timeout: float = 6.0) -> str:
        """Wait until exactly one host has the address; return it."""
        return owner_settles(self.bed, self.address, timeout)

    def holders(self) -> list[str]:
        """Return the hosts that have the address now."""
        return holders(self.bed, self.address)

    def until_owner(self, name: str, timeout: float = 6.0) -> float:
        """Wait until a host has the address alone; return how long that took."""
        began = time.monotonic()
        until(lambda: self.holders() == [name], timeout, f"{name} alone to have the address", every=0.01)
        return time.monotonic() - began

    def steady(self, name: str, seconds: float) -> None:
        """Assert that a host keeps the address alone for a while: nothing moves."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.holders() == [name]
            time.sleep(0.1)


@contextmanager
def daemons(**options: Any) -> Iterator[Pair]:
    """Make a pair, not started yet."""
    with pair() as bed:
        made = Pair(bed, **options)
        yield made


def kill_all(host: Host) -> None:
    """Kill the master and all its children at once."""
    host.daemon.proc.signal(signal.SIGKILL)
