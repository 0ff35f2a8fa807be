"""The bed: hosts as network namespaces, joined by virtual Ethernet, with real processes in them.

    with Bed() as bed:
        bed.host("client"), bed.host("server"), bed.lan("wire")
        bed.attach("client", "wire", "198.51.100.2/24")
        bed.attach("server", "wire", "198.51.100.10/24")
        server = bed.spawn("server", ["nsd", "-d", ...])
        bed.run("client", ["dig", "@198.51.100.10", "example.net"])

A namespace lives as long as its holder, a `cat` that ends when its input closes, so nothing outlives this process, and
nothing is written to /run/netns. Root or the root of a user namespace is enough: `unshare -rn` lets any user
run this where the kernel allows it. All LANs are bridges in a namespace of their own, "switch", where faults of the
wire can be made (nft table bridge); faults of a host are made in its own namespace.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Self

from tests.e2e.process import BedError, MissingError, Proc, program

CLONE_NEWNET = 0x40000000
SWITCH = "switch"
OWN_NAMESPACE = Path("/proc/thread-self/ns/net")

# Of the namespaces, not of the machine. Ports of clients run out in seconds otherwise; duplicate address detection
# keeps an IPv6 address unusable for a second, and a link that goes down would lose its IPv6 addresses.
SYSCTLS = {
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/ip_local_port_range": "10240 65535",
    "net/ipv6/conf/all/keep_addr_on_down": "1",
    "net/ipv6/conf/default/keep_addr_on_down": "1",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}

# The site that most tests use: a client outside, backends inside, the balancer between them.
CLIENT = "198.51.100.2"
CLIENT6 = "2001:db8:1::2"
SERVICE = "198.51.100.10"
SERVICE6 = "2001:db8:1::10"
INSIDE = "10.0.0.10"
INSIDE6 = "2001:db8:2::10"

ALIVE: "weakref.WeakSet[Bed]" = weakref.WeakSet()
_libc = ctypes.CDLL(None, use_errno=True)


def backend_address(number: int) -> str:
    """Return the IPv4 address of backend `number`, 1 and up."""
    return f"10.0.0.{10 + number}"


def backend_address6(number: int) -> str:
    """Return the IPv6 address of backend `number`, 1 and up."""
    return f"2001:db8:2::{10 + number}"


def obstacle() -> str | None:
    """Return why namespaces cannot be made here, or None when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root or `unshare -rn`"
    try:
        made = subprocess.run([program("unshare"), "--net", "true"], capture_output=True, text=True, check=False)
    except MissingError as error:
        return str(error)
    return f"network namespaces cannot be made here: {made.stderr.strip()}" if made.returncode else None


def setns(descriptor: int) -> None:
    """Move the calling thread, and no other, to a network namespace."""
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def namespace_of(pid: int) -> int:
    """Return the inode of a process's network namespace. Raises OSError when it is gone."""
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def processes_in(namespaces: set[int]) -> list[int]:
    """Return the ids of all processes in any of these network namespaces."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if namespace_of(int(entry.name)) in namespaces:
                    found.append(int(entry.name))
    return found


class Host:
    """A namespace, held by a process that waits for its input to close."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ports: dict[str, str] = {}  # LAN or peer -> the interface in this namespace
        self.routes: list[str] = []
        self.holder = subprocess.Popen(
            [program("unshare"), "--net", "--", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        if not self.holder.stdout.readline():
            message = f"no namespace for {name}: unshare ended with {self.holder.wait()}"
            raise BedError(message)
        self.inode = namespace_of(self.holder.pid)

    def close(self) -> None:
        """Release the namespace."""
        for pipe in (self.holder.stdin, self.holder.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.holder.wait(2)
        except subprocess.TimeoutExpired:
            self.holder.kill()
            self.holder.wait()


class Bed:
    """Hosts, LANs and processes; all are removed when the block ends."""

    def __init__(self) -> None:
        reason = obstacle()
        if reason:
            raise MissingError(reason)
        self.dir = Path(tempfile.mkdtemp(prefix="bed-"))  # short: paths of Unix sockets have 107 characters
        self.dir.chmod(0o755)  # servers that become another user read their files here
        self.hosts: dict[str, Host] = {}
        self.procs: list[Proc] = []
        self._sockets: list[socket.socket] = []
        self._tools = {name: program(name) for name in ("ip", "nsenter", "nft")}

    def __enter__(self) -> Self:
        ALIVE.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process, whatever its state, then release the namespaces and remove the files."""
        ALIVE.discard(self)
        for opened in self._sockets:
            opened.close()
        for proc in self.procs:
            proc.end()
            proc.cont()  # a stopped process gets no other signal
        deadline = time.monotonic() + 5
        for proc in self.procs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                proc.wait(max(0.0, deadline - time.monotonic()))
        for proc in self.procs:
            proc.kill()
        # Children that left their group: every process in the bed's namespaces belongs to the bed.
        holders = {host.holder.pid for host in self.hosts.values()}
        for pid in processes_in({host.inode for host in self.hosts.values()}):
            if pid not in holders and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for host in self.hosts.values():
            host.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    # Hosts and wires

    def host(self, name: str, *, forward: bool = False) -> Host:
        """Make a host; with `forward` it routes between its links. Interface lo is up."""
        host = self.hosts[name] = Host(name)
        sysctls = dict(SYSCTLS)
        if forward:
            sysctls |= {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
        with self.inside(name):
            for key, value in sysctls.items():
                Path("/proc/sys", key).write_text(value)
        self.ip(name, "link set lo up")
        return host

    def lan(self, name: str) -> None:
        """Make an Ethernet to which hosts can be attached; its name has at most 11 characters."""
        if SWITCH not in self.hosts:
            self.host(SWITCH)
        self.ip(SWITCH, f"link add {name} type bridge mcast_snooping 0 forward_delay 0", f"link set {name} up")

    def attach(self, host: str, lan: str, *addresses: str) -> str:
        """Plug `host` into `lan` with these addresses (each with its prefix length); return its interface."""
        port = f"eth{len(self.hosts[host].ports)}"
        far = f"p{self.hosts[host].holder.pid}-{port}"
        switch = self.hosts[SWITCH].holder.pid
        self.ip(host, f"link add {port} type veth peer name {far} netns {switch}")
        self.ip(SWITCH, f"link set {far} master {lan} up")
        self._address(host, lan, port, addresses)
        return port

    def wire(self, one: str, other: str, ones: Sequence[str], others: Sequence[str]) -> None:
        """Join two hosts by a cable without a switch: the shortest path, for measurements."""
        near, far = (f"eth{len(self.hosts[name].ports)}" for name in (one, other))
        self.ip(one, f"link add {near} type veth peer name {far} netns {self.hosts[other].holder.pid}")
        self._address(one, other, near, ones)
        self._address(other, one, far, others)

    def _address(self, host: str, peer: str, port: str, addresses: Sequence[str]) -> None:
        self.hosts[host].ports[peer] = port
        lines = [f"addr add {address} dev {port}{' nodad' if ':' in address else ''}" for address in addresses]
        self.ip(host, *lines, f"link set {port} up")

    def route(self, host: str, destination: str, via: str) -> None:
        """Add a route; `destination` is a network or "default"."""
        command = f"{'-6 ' if ':' in via else ''}route replace {destination} via {via}"
        self.hosts[host].routes.append(command)
        self.ip(host, command)

    def link(self, host: str, lan: str, *, up: bool) -> None:
        """Set the interface of `host` in `lan` up, with the routes that went with it, or down."""
        self.ip(host, f"link set {self.hosts[host].ports[lan]} {'up' if up else 'down'}")
        if up:
            self.ip(host, *self.hosts[host].routes)

    def ip(self, host: str, *commands: str) -> None:
        """Run commands of iproute2 in `host`, each without the word ip."""
        for command in commands:
            self.run(host, [self._tools["ip"], *command.split()], check=True)

    def nft(self, host: str, rules: str) -> None:
        """Load nftables rules in `host`, as from a file; `flush ruleset` ends the fault."""
        done = subprocess.run(
            [*self.enter(host), self._tools["nft"], "-f", "-"],
            input=f"{rules}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            message = f"nft in {host}: {done.stderr}"
            raise BedError(message)

    def rule(self, host: str, hook: str, rule: str, family: str = "inet") -> None:
        """Add one rule to a hook (input, output, forward) of `host`, as "ip saddr 10.0.0.11 drop"."""
        chain = f"type filter hook {hook} priority 0"
        self.nft(host, f"table {family} fault {{\nchain {hook} {{\n{chain}\n{rule}\n}}\n}}")

    # Processes and sockets

    def enter(self, host: str) -> list[str]:
        """Return the start of a command that runs in `host`."""
        return [self._tools["nsenter"], f"--net=/proc/{self.hosts[host].holder.pid}/ns/net", "--"]

    def spawn(
        self,
        host: str,
        argv: Sequence[str | Path],
        *,
        name: str | None = None,
        env: dict[str, str] | None = None,
        cpus: str | None = None,
        nofile: int | None = None,
    ) -> Proc:
        """Start a program in `host`, and return it at once.

        `env` is added to this process's environment, `cpus` is a list as of taskset(1), `nofile` the limit of open
        files, soft and hard.
        """
        command = self.enter(host)
        if cpus is not None:
            command += [program("taskset"), "--cpu-list", cpus]
        if nofile is not None:
            command += [program("prlimit"), f"--nofile={nofile}", "--"]
        command += [program(str(argv[0])), *(str(argument) for argument in argv[1:])]
        label = name or Path(str(argv[0])).name
        log = self.dir / f"{len(self.procs):03}-{re.sub(r'[^a-z0-9.-]+', '-', label.lower())}.log"
        proc = Proc(label, command, log, env=os.environ | (env or {}))
        self.procs.append(proc)
        return proc

    def run(
        self,
        host: str,
        argv: Sequence[str | Path],
        timeout: float = 30.0,
        *,
        check: bool = False,
        cpus: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in `host` to its end, and return its output.

        Raises subprocess.TimeoutExpired, and BedError with its output when `check` is set and it failed.
        """
        command = self.enter(host)
        if cpus is not None:
            command += [program("taskset"), "--cpu-list", cpus]
        command += [program(str(argv[0])), *(str(argument) for argument in argv[1:])]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            message = f"in {host}: {' '.join(command[3:])}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            raise BedError(message)
        return done

    @contextlib.contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Move the calling thread to `host` for the block: the sockets that it creates in the block stay there."""
        with (
            OWN_NAMESPACE.open("rb") as home,
            Path(f"/proc/{self.hosts[host].holder.pid}/ns/net").open("rb") as there,
        ):
            setns(there.fileno())
            try:
                yield
            finally:
                setns(home.fileno())

    def socket(
        self, host: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0
    ) -> socket.socket:
        """Return a new socket of `host`, which is closed with the bed at the latest."""
        with self.inside(host):
            made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made

    def report(self, without: Collection[Proc] = ()) -> str:
        """Return the output of the processes, for a test that failed."""
        return "\n\n".join(proc.report() for proc in self.procs if proc not in without)


def site(backends: int = 2) -> Bed:
    """Return a bed with hosts client, balancer and b1 to bN, on LANs "outside" and "inside", IPv4 and IPv6.

    Every backend is a host of its own, so that each can lose its process, its link or its route alone. The balancer
    routes, so the client reaches the backends directly too.
    """
    bed = Bed()
    try:
        bed.lan("outside")
        bed.lan("inside")
        bed.host("client")
        bed.attach("client", "outside", f"{CLIENT}/24", f"{CLIENT6}/64")
        bed.host("balancer", forward=True)
        bed.attach("balancer", "outside", f"{SERVICE}/24", f"{SERVICE6}/64")
        bed.attach("balancer", "inside", f"{INSIDE}/24", f"{INSIDE6}/64")
        bed.route("client", "10.0.0.0/24", SERVICE)
        bed.route("client", "2001:db8:2::/64", SERVICE6)
        for number in range(1, backends + 1):
            name = f"b{number}"
            bed.host(name)
            bed.attach(name, "inside", f"{backend_address(number)}/24", f"{backend_address6(number)}/64")
            bed.route(name, "default", INSIDE)
            bed.route(name, "default", INSIDE6)
    except BaseException:
        bed.close()
        raise
    return bed
