"""Measures how an address moves between two hosts: every fault, for a pair of whole daemons and a pair of keepalived.

Both pairs send adverts of version 3 every 100 ms, have priorities 150 and 100, and run on the same two hosts, one pair
after the other.  The daemons are restarted before each fault.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import click

from bench.moves import GAP, GONE, INTERVAL, NEVER, SETTLED, TAKEN, Moves, Round, Row
from bench.systems.trees import Tree
from tests.e2e.bed import SWITCH, Bed
from tests.e2e.pairs import ADDRESS, Pair
from tests.e2e.process import BedError, Proc, descendants, until
from tests.e2e.vrrp import Keepalived, Pinger, cut, heal, pair, port_of
from tests.e2e.watch import Watch, changes, gaps

PATIENCE = 15.0  # s that a whole daemon may take to start
AFTERWARDS = 1.0  # s that a client is watched after a move
CALM = 2.5  # s after which nothing moves any more


class System(ABC):
    """Hosts a (priority 150, active) and b (100), with daemons that can be restarted."""

    name: ClassVar[str]

    def __init__(self, bed: Bed) -> None:
        self.bed = bed

    @abstractmethod
    def start(self, host: str) -> None:
        """Start one daemon, and return as soon as it runs."""

    @abstractmethod
    def settle(self) -> None:
        """Wait until both hosts have their states and know of each other."""

    @abstractmethod
    def proc(self, host: str) -> Proc:
        """Return the main process."""

    def pids(self, host: str) -> list[int]:
        """Return the ids of all processes of a host's daemon."""
        return descendants(self.proc(host).pid)

    def signal(self, host: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a host's daemon at once."""
        pids = self.pids(host)
        self.proc(host).signal(number)
        for pid in pids:  # in case a process has left the group
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def order(self, host: str, command: str) -> bool:
        """Carry out `standby` or `resume`; return False if the system has no such command."""
        del host, command
        return False


class Steelyard(System):
    """The installed command with two workers, and a DNS service that the routers track."""

    name = "steelyard"

    def __init__(self, bed: Bed) -> None:
        super().__init__(bed)
        command = (str(Path(sys.executable).with_name("steelyard")),)
        self.pair = Pair(bed, interval=f"{INTERVAL * 1e3:.0f}ms", command=command)
        self.hosts = {"a": self.pair.a, "b": self.pair.b}

    def start(self, host: str) -> None:
        """Start the daemon."""
        self.hosts[host].start(wait=False)

    def settle(self) -> None:
        """Wait for verdicts and states."""
        self.hosts["a"].wait("active", PATIENCE)
        self.hosts["b"].wait("backup", PATIENCE)
        for host in self.hosts.values():
            host.settle()
        until(lambda: self.hosts["b"].router["peer"], 5, "b to hear a")

    def proc(self, host: str) -> Proc:
        """Return the master."""
        return self.hosts[host].daemon.proc

    def order(self, host: str, command: str) -> bool:
        """Send the command over the control socket: the start of an interpreter must not count in the measurement."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(self.hosts[host].daemon.socket))
            control.sendall(json.dumps({"command": command}).encode() + b"\n")
            with control.makefile("rb") as lines:
                answer = {"more": True}
                while answer.get("more"):
                    answer = json.loads(lines.readline())
        if not answer.get("ok"):
            raise BedError(f"{command}: {answer}")
        return True


class Peer(System):
    """Debian's keepalived, in the foreground, VRRP only; its defaults, except that it announces again after 1 s."""

    name = "keepalived"

    def __init__(self, bed: Bed, tree: Tree) -> None:
        super().__init__(bed)
        self.command = keepalived(tree)
        self.hosts: dict[str, Keepalived] = {}

    def start(self, host: str) -> None:
        """Start the daemon."""
        priority = {"a": 150, "b": 100}[host]
        self.hosts[host] = Keepalived(
            self.bed, host, version=3, priority=priority, interval=INTERVAL, command=self.command
        )

    def settle(self) -> None:
        """Wait for states."""
        self.hosts["a"].wait("active", PATIENCE)
        self.hosts["b"].wait("backup", PATIENCE)
        time.sleep(1.5)  # it announces again after 1 s

    def proc(self, host: str) -> Proc:
        """Return the main process, whose child speaks VRRP."""
        return self.hosts[host].proc


def keepalived(tree: Tree) -> list[str]:
    """Return how the keepalived of a tree is started: it reads a file of its package by an absolute path."""
    command = tree.command("keepalived")
    if tree.root is None:
        return command
    shell = 'mount --bind "$0" /etc/keepalived && exec "$@"'
    mounted = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", shell]
    return [*mounted, str(tree.root / "etc/keepalived"), *command]


NAMES = (Steelyard.name, Peer.name)


class Trial:
    """One system under one fault: makes the fault and measures its effects."""

    def __init__(self, bed: Bed, watch: Watch, system: System) -> None:
        self.bed, self.watch, self.system = bed, watch, system
        self.found: dict[Row, float | None] = {}

    def fault(
        self,
        name: str,
        act: Callable[[], object],
        new: str = "b",
        old: str = "a",
        *,
        gone: bool = True,
        patience: float = NEVER,
    ) -> None:
        """Call `act`, and measure until `new` has the address and `old` no longer has it, and the client's ping gap."""
        with self.client(name):
            since = time.monotonic()
            act()
            self.found[Row(name, TAKEN)] = self.watch.wait(new, True, since, patience)
            if gone:
                self.found[Row(name, GONE)] = self.watch.wait(old, False, since, patience)
            time.sleep(max(0.0, since + AFTERWARDS - time.monotonic()))

    def recovery(self, name: str, act: Callable[[], object]) -> None:
        """Call `act`, and measure until nothing moves any more; then only host a must have the address."""
        with self.client(name):
            since = time.monotonic()
            act()
            while time.monotonic() < since + CALM:
                time.sleep(0.05)
            last = max([one.at for one in changes(self.watch.told)], default=since)
            alone = self.watch.holders() == ["a"]
            self.found[Row(name, SETTLED)] = max(0.0, last - since) if alone else None

    @contextlib.contextmanager
    def client(self, name: str) -> Iterator[None]:
        """Let a client ping the address every 20 ms during the block, and record its ping gap."""
        pinger = Pinger(self.bed, ADDRESS)
        time.sleep(0.2)
        begin = time.time()
        yield
        end = time.time()
        answers = [float(one) for one in re.findall(r"^\[([0-9.]+)\] .*bytes from", pinger.proc.output(), re.MULTILINE)]
        pinger.proc.terminate()
        # ping writes to the file at once, but the last answer may still be on its way.
        before = max([one for one in answers if one < begin], default=begin)
        within = [one for one in answers if begin <= one <= end]
        self.found[Row(name, GAP)] = max(gaps(within, before, max([end - 0.02, *within])))


def ended(trial: Trial) -> None:
    """Send the active daemon SIGTERM, and start it again."""
    leader = trial.system.proc("a")
    trial.fault("SIGTERM", lambda: leader.signal(signal.SIGTERM, whole=False))
    leader.wait(PATIENCE)
    trial.fault("a starts again", lambda: trial.system.start("a"), new="a", old="b", patience=PATIENCE)


def standby(trial: Trial) -> None:
    """Hand the address over with `standby`, and take it back with `resume`."""
    if isinstance(trial.system, Steelyard):
        trial.fault("standby", lambda: trial.system.order("a", "standby"))
        trial.fault("resume", lambda: trial.system.order("a", "resume"), new="a", old="b")


def main_killed(trial: Trial) -> None:
    """Kill only the main process."""
    leader = trial.system.proc("a")
    trial.fault("main process killed", lambda: leader.signal(signal.SIGKILL, whole=False))


def all_killed(trial: Trial) -> None:
    """Kill all processes of the active host."""
    trial.fault("all killed", lambda: trial.system.signal("a", signal.SIGKILL))


def alone_killed(trial: Trial) -> None:
    """Kill all processes of a host that has no peer."""
    trial.system.signal("b", signal.SIGKILL)
    since = time.monotonic()
    trial.system.signal("a", signal.SIGKILL)
    trial.found[Row("all killed, no peer", GONE)] = trial.watch.wait("a", False, since, NEVER)


def all_stopped(trial: Trial) -> None:
    """Stop all processes of the active host, and continue them."""
    trial.fault("all stopped", lambda: trial.system.signal("a", signal.SIGSTOP))
    trial.recovery("all go on", lambda: trial.system.signal("a", signal.SIGCONT))


def link_cut(trial: Trial) -> None:
    """Take the active host's link down at the switch, and up again."""
    port = port_of(trial.bed, "a")
    trial.fault("link cut", lambda: trial.bed.ip(SWITCH, f"link set {port} down"))
    trial.recovery("link back", lambda: trial.bed.ip(SWITCH, f"link set {port} up"))


def wire_silent(trial: Trial) -> None:
    """Drop all frames from and to the active host at the switch, while its link stays up."""
    port = port_of(trial.bed, "a")
    rules = [f'iifname "{port}" drop', f'oifname "{port}" drop']
    trial.fault("wire silent", lambda: cut(trial.bed, *rules), gone=False)
    trial.recovery("wire healed", lambda: heal(trial.bed))


FAULTS = (ended, standby, main_killed, link_cut, wire_silent, all_killed, alone_killed, all_stopped)


def clean(bed: Bed, system: System) -> None:
    """End the daemons, and remove everything that could affect the next ones."""
    for host in ("a", "b"):
        with contextlib.suppress(LookupError, AttributeError):  # the daemon was never started
            system.signal(host, signal.SIGKILL)
            system.proc(host).kill()
    heal(bed)
    bed.ip(SWITCH, f"link set {port_of(bed, 'a')} up")
    for host in ("a", "b"):
        shown = bed.run(host, ["ip", "-o", "-4", "addr", "show", "dev", "eth0"], check=True).stdout
        for left in re.findall(rf"inet ({re.escape(ADDRESS)}/\d+) ", shown):
            bed.run(host, ["ip", "addr", "del", left, "dev", "eth0"])  # a lease may end meanwhile
    bed.ip("client", "neigh flush dev eth0")


def measure(bed: Bed, watch: Watch, system: System) -> Moves:
    """Measure one system under all faults."""
    found: dict[Row, float | None] = {}
    for fault in FAULTS:
        if fault is standby and not isinstance(system, Steelyard):
            continue
        try:
            for host in ("a", "b"):
                system.start(host)
            system.settle()
            until(lambda: watch.holders() == ["a"], PATIENCE, "a alone to have the address")
            trial = Trial(bed, watch, system)
            fault(trial)
            found |= trial.found
        finally:
            clean(bed, system)
        until(lambda: watch.holders() == [], 5, "nobody to have the address")
    return found


def bench(rounds: int, tree: Tree) -> list[Round]:
    """Return the rounds; the order of the systems rotates. keepalived is that of `tree`."""
    found: list[Round] = []
    with pair() as bed, Watch(bed, ADDRESS) as watch:
        try:
            systems: dict[str, System] = {Steelyard.name: Steelyard(bed), Peer.name: Peer(bed, tree)}
            for number in range(rounds):
                turn = number % len(NAMES)
                made = {name: measure(bed, watch, systems[name]) for name in [*NAMES[turn:], *NAMES[:turn]]}
                found.append({name: made[name] for name in NAMES})
                click.echo(f"round {number + 1} of {rounds} is done", err=True)
        except BedError:
            click.echo(bed.report(), err=True)
            raise
    return found


def version(tree: Tree) -> str:
    """Return the version line of a tree's keepalived."""
    said = subprocess.run([*keepalived(tree), "--version"], capture_output=True, text=True, check=False)
    lines = (said.stderr or said.stdout).splitlines()
    return next((line for line in lines if line.startswith("Keepalived")), "keepalived")
