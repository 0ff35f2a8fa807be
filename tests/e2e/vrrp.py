"""Hosts that share an address: our virtual routers alone (`python -m vrrp`), real keepalived, and who watches the wire."""

import itertools
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.bed import SWITCH, Bed
from tests.e2e.process import BedError, MissingError, Proc, program, until
from tests.e2e.watch import addresses_now

ROOT = Path(__file__).parents[2]
LAN = "wire"
VIP = {4: "198.51.100.10/24", 6: "2001:db8:1::10/64"}
LINK_LOCAL_VIP = "fe80::10/64"
VRID = 51


def host_addresses(number: int) -> tuple[str, str, str]:
    """Return what host `number` (2 and up) has of its own: IPv4, IPv6, link-local."""
    return f"198.51.100.{number}/24", f"2001:db8:1::{number}/64", f"fe80::{number}/64"


def pair(client: bool = True) -> Bed:
    """Return a bed with hosts a and b, and a client beside them, on one LAN."""
    bed = Bed()
    try:
        bed.lan(LAN)
        for number, name in enumerate(("a", "b", "client") if client else ("a", "b"), 2):
            bed.host(name)
            bed.attach(name, LAN, *host_addresses(number))
    except BaseException:
        bed.close()
        raise
    return bed


def holders(bed: Bed, address: str, hosts: Sequence[str] = ("a", "b")) -> list[str]:
    """Return the hosts that have an address (without prefix) now."""
    return [name for name in hosts if address in addresses_now(bed, name)]


def addresses_of(family: int) -> list[str]:
    """Return the virtual addresses of one IP version; with IPv6 keepalived wants a link-local one, and first."""
    return [VIP[4]] if family == 4 else [LINK_LOCAL_VIP, VIP[6]]


class Ours:
    """Our routers on one host: `settings` are those of one router, or of several."""

    def __init__(self, bed: Bed, host: str, *routers: dict[str, Any], wrap: Sequence[str] = (), **more: Any) -> None:
        self.bed = bed
        self.wrap = wrap
        self.host = host
        self.path = bed.dir / f"vrrp-{host}-{len(bed.procs)}.json"
        self.write(*routers, **more)
        self.proc: Proc = None  # type: ignore[assignment]
        self.start()

    def write(self, *routers: dict[str, Any], **more: Any) -> None:
        """Write its settings."""
        common = {"name": "outside", "interface": "eth0", "vrid": VRID, "addresses": [VIP[4]]}
        self.path.write_text(json.dumps({"routers": [common | one for one in routers or ({},)], **more}))

    def reroute(self, *routers: dict[str, Any], **more: Any) -> list[str]:
        """Have it change to other settings; returns the faults once it has done so."""
        self.write(*routers, **more)
        before = len(self.events("rerouted"))
        self.proc.signal(signal.SIGQUIT, whole=False)
        until(lambda: len(self.events("rerouted")) > before, 8, f"{self.host} to change", every=0.01)
        return list(self.events("rerouted")[-1]["faults"])

    def start(self) -> None:
        """Start it, and return when it takes part."""
        argv = [*self.wrap, sys.executable, "-m", "vrrp", "--settings", str(self.path)]
        self.proc = self.bed.spawn(self.host, argv, name=f"vrrp {self.host}", env={"PYTHONPATH": str(ROOT)})
        until(lambda: self.events("started"), 10, f"the routers of {self.host} to start", every=0.02)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return what it has printed so far, or one kind of it."""
        found = []
        for line in self.proc.output().splitlines():
            if line.startswith("{"):
                found.append(json.loads(line))
            elif kind is None:
                found.append({"event": "text", "text": line})
        return [one for one in found if kind in (None, one["event"])]

    @property
    def state(self) -> str:
        """The state of the first router, as it told it last."""
        return next((str(one["state"]) for one in reversed(self.events("state"))), "init")

    def moves(self, name: str | None = None) -> list[str]:
        """Return the states it has been in, in order; or one of its routers."""
        return [one["state"] for one in self.events("state") if name in (None, one["name"])]

    def report(self) -> dict[str, Any]:
        """Return its status and counters now."""
        before = len(self.events("status"))
        self.proc.signal(signal.SIGHUP, whole=False)
        until(lambda: len(self.events("status")) > before, 3, "status", every=0.01)
        return self.events("status")[-1]

    def wait(self, state: str, timeout: float = 6.0) -> None:
        """Wait until the first router is in a state."""
        until(lambda: self.state == state, timeout, f"{self.host} to be {state}", every=0.01)


class Keepalived:
    """Real keepalived on one host, with one instance."""

    def __init__(
        self,
        bed: Bed,
        host: str,
        *,
        family: int = 4,
        version: int = 3,
        priority: int = 100,
        interval: float = 0.1,
        peers: tuple[str, str] | None = None,
        extra: str = "",
        command: Sequence[str] = ("keepalived",),
    ) -> None:
        self.bed = bed
        self.host = host
        self.command = [program(command[0]), *command[1:]]
        unicast = ""
        if peers is not None:
            unicast = f"unicast_src_ip {peers[0]}\n unicast_peer {{\n {peers[1]}\n }}\n"
        addresses = "\n".join(f"{one} dev eth0" for one in addresses_of(family))
        self.config = bed.dir / f"keepalived-{host}-{len(bed.procs)}.conf"
        self.config.write_text(
            f"global_defs {{\n router_id {host}\n vrrp_garp_master_delay 1\n }}\n"
            f"vrrp_instance outside {{\n state BACKUP\n interface eth0\n version {version}\n virtual_router_id {VRID}\n"
            f" priority {priority}\n advert_int {interval:g}\n {unicast}{extra}\n"
            f" virtual_ipaddress {{\n {addresses}\n }}\n}}\n"
        )
        self.start()

    def start(self) -> None:
        """Start it in the foreground."""
        runtime = self.bed.dir / f"run-{self.host}-{len(self.bed.procs)}"
        argv = [*self.command, "-n", "-l", "-D", "-P", "-f", str(self.config)]
        argv += ["-p", f"{runtime}.pid", "-r", f"{runtime}.vrrp.pid"]
        self.proc = self.bed.spawn(self.host, argv, name=f"keepalived {self.host}")
        until(lambda: "Entering BACKUP STATE" in self.proc.output(), 10, "keepalived to start", every=0.02)

    @property
    def state(self) -> str:
        """active, backup or fault, as its log says."""
        found = re.findall(r"Entering (MASTER|BACKUP|FAULT) STATE", self.proc.output())
        return {"MASTER": "active", "BACKUP": "backup", "FAULT": "fault"}[found[-1]] if found else "init"

    def complaints(self) -> list[str]:
        """Return the lines of its log that find fault with an advert of ours."""
        wrong = re.compile(
            r"bogus|invalid|mismatch|checksum|expected|ignor|discard|unexpected|malformed|differ|unknown|wrong",
            re.IGNORECASE,
        )
        return [
            line
            for line in self.proc.output().splitlines()
            if "outside" in line and wrong.search(line) and "lower priority" not in line
        ]

    def wait(self, state: str, timeout: float = 6.0) -> None:
        """Wait until it is in a state."""
        until(lambda: self.state == state, timeout, f"{self.host} to be {state}", every=0.01)


class Capture:
    """tcpdump on a host's interface; what it has to say of each packet, in lines."""

    def __init__(self, bed: Bed, host: str, what: str) -> None:
        argv = ["tcpdump", "-l", "-n", "-vvv", "-e", "--immediate-mode", "-U", "-i", "eth0", what]
        self.proc = bed.spawn(host, argv, name=f"tcpdump {host}")
        until(lambda: "listening on" in self.proc.output() or not self.proc.alive, 5, "tcpdump to listen", every=0.02)
        if "Couldn't change to" in self.proc.output():
            raise MissingError("tcpdump wants to become another user, whom a user namespace of one does not know")
        if not self.proc.alive:
            raise BedError(self.proc.report())

    def packets(self) -> list[str]:
        """Return one text for each packet seen so far."""
        text = self.proc.output()
        return re.split(r"\n(?=\d\d:\d\d:\d\d\.)", text)[1:]


class Adverts:
    """The adverts on the LAN, as the client sees them, by sender."""

    def __init__(self, bed: Bed) -> None:
        self.capture = Capture(bed, "client", "ip proto 112 or ip6 proto 112")

    def of(self, source: str, vrid: int = VRID) -> list[tuple[float, int, str]]:
        """Return when each advert of a sender was seen (s of the day), its priority, and all that tcpdump says of it."""
        found = []
        for text in self.capture.packets():
            sent = re.search(rf"{re.escape(source)} > .*VRRPv[23], Advertisement, .*vrid {vrid}, prio (\d+)", text)
            if sent:
                hours, minutes, seconds = text.split(None, 1)[0].split(":")
                found.append((int(hours) * 3600 + int(minutes) * 60 + float(seconds), int(sent[1]), text))
        return found

    def longest_gap(self, source: str, vrid: int = VRID) -> float:
        """Return the longest time between two adverts of a sender, in seconds."""
        times = [at for at, _, _ in self.of(source, vrid)]
        assert len(times) > 1
        return max(later - earlier for earlier, later in itertools.pairwise(times))


class Pinger:
    """A client that asks for an address every 20 ms, and remembers when it was answered."""

    def __init__(self, bed: Bed, address: str) -> None:
        argv = ["ping", "-D", "-n", "-i", "0.02", "-W", "1", address]
        self.proc = bed.spawn("client", argv, name="ping")
        until(lambda: "bytes from" in self.proc.output(), 5, f"{address} to answer", every=0.02)

    def longest_gap(self) -> float:
        """Return the longest time without an answer, from the first to the last answer so far, in seconds."""
        times = [float(one) for one in re.findall(r"^\[([0-9.]+)\] .*bytes from", self.proc.output(), re.MULTILINE)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


def cut(bed: Bed, *rules: str) -> None:
    """Make a fault on the bridge: rules of nftables for what it forwards."""
    for rule in rules:
        bed.rule(SWITCH, "forward", rule, family="bridge")


def heal(bed: Bed) -> None:
    """End all faults on the bridge."""
    bed.nft(SWITCH, "flush ruleset")


def port_of(bed: Bed, host: str) -> str:
    """Return the bridge's port of a host."""
    return f"p{bed.hosts[host].holder.pid}-eth0"


def owner_settles(bed: Bed, address: str, timeout: float = 5.0) -> str:
    """Wait until exactly one host has the address; return it."""
    until(lambda: len(holders(bed, address)) == 1, timeout, "exactly one owner", every=0.05)
    return holders(bed, address)[0]


def elapsed(since: float) -> float:
    """Return seconds since a monotonic time."""
    return time.monotonic() - since
