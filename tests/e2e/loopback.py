"""A daemon on loopback with scripted backends, for tests of processes rather than of networks."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.command import steelyard
from tests.e2e.process import Proc, descendants, program, stat_fields, until

ROOT = Path(__file__).resolve().parents[2]
PROBE = "probe.example.net"
QUICK = 'interval = "200ms", fast-interval = "100ms", down-interval = "200ms", timeout = "150ms"'
Status = dict[str, Any]


def lift_loopback() -> None:
    """Bring the loopback interface up, where a namespace of our own has it down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("127.0.0.1", 9))
        except OSError:
            subprocess.run([program("ip"), "link", "set", "lo", "up"], check=True)


def free_port() -> int:
    """Return a port of 127.0.0.1 that neither UDP nor TCP uses just now."""
    while True:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            with suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


def question(name: str, number: int) -> bytes:
    """Return an A query."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def asked(message: bytes) -> str:
    """Return the name that a query asks for."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels)


class Backend:
    """A DNS server over UDP and an echo server over TCP on one port; what it does can be changed at any time.

    `silent`: it reads queries and answers none.  `hold`, `hold_probes`: it keeps answers until `release`.
    """

    def __init__(self) -> None:
        self.silent = False
        self.hold = False
        self.hold_probes = False
        self.queries: list[str] = []
        self.probes = 0
        self.connections = 0
        self._held: list[tuple[bytes, Any]] = []
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.port = free_port()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.tcp = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._wake, self._woken = socket.socketpair()
        self._woken_up = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._wake.send(b"x")
        self._thread.join(5)
        for sock in (self._wake, self._woken, self.udp, self.tcp, *self._open):
            sock.close()

    def refuse(self) -> None:
        """Take no more connections."""
        self._wake.send(b"r")
        self._woken_up.wait(5)

    def release(self) -> None:
        """Answer what was held."""
        with self._lock:
            self.hold = self.hold_probes = False
            for message, source in self._held:
                self._answer(message, source)
            self._held.clear()

    def drop(self) -> None:
        """Forget what was held, and answer from now on."""
        with self._lock:
            self.hold = False
            self._held.clear()

    def _answer(self, message: bytes, source: Any) -> None:
        # 192.0.2.1, and a type of record that dnspython does not import before it meets one.
        answer = bytes.fromhex("c00c 0001 0001 0000003c 0004 c0000201" + "c00c 000d 0001 0000003c 0004 01610162")
        self.udp.sendto(message[:2] + bytes.fromhex("8180 0001 0002 0000 0000") + message[12:] + answer, source)

    def _serve(self) -> None:
        while True:
            watched = [self._woken, self.udp, *self._open, *([self.tcp] if self.tcp.fileno() >= 0 else [])]
            ready, _, _ = select.select(watched, [], [])
            if self._woken in ready:
                if self._woken.recv(1) == b"x":
                    return
                self.tcp.close()
                self._woken_up.set()
                continue
            for sock in ready:
                if sock is self.udp:
                    with self._lock:
                        self._query(*self.udp.recvfrom(4096))
                elif sock is self.tcp:
                    self._open.append(self.tcp.accept()[0])
                else:
                    self._echo(sock)

    def _query(self, message: bytes, source: Any) -> None:
        name = asked(message)
        if name == PROBE:
            self.probes += 1
        else:
            self.queries.append(name)
        if self.silent:
            return
        if self.hold_probes if name == PROBE else self.hold:
            self._held.append((message, source))
        else:
            self._answer(message, source)

    def _echo(self, sock: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            data = sock.recv(65536)
            self.connections += bool(data)
            if data:
                sock.sendall(data)
                return
        self._open.remove(sock)
        sock.close()


class Node:
    """`steelyard run` with these services; `port` of each is its own.  Not started until `start`."""

    def __init__(self, directory: Path, services: str, *, workers: int = 2, node: str = "") -> None:
        self.dir = directory
        self.socket = directory / "control.sock"
        self.file = directory / "steelyard.toml"
        self.log = directory / "steelyard.log"
        self.text = (
            f'[node]\nname = "n"\nworkers = {workers}\nstate-dir = "{directory}/state"\n{node}\n'
            f'[control]\nsocket = "{self.socket}"\n{services}'
        )
        self.proc: Proc | None = None

    @property
    def pid(self) -> int:
        """The master's process id."""
        assert self.proc is not None
        return self.proc.pid

    def start(self, *, prefix: Sequence[str] = (), ready: bool = True, root: Path = ROOT) -> "Node":
        """Start it, and wait until every worker lives and every backend has a verdict."""
        self.file.write_text(self.text)
        command = [*prefix, sys.executable, "-P", "-m", "proxy", "run", "-c", str(self.file)]
        self.proc = Proc("steelyard", command, self.log, env=os.environ | {"PYTHONPATH": str(root)})
        self.proc.ending = signal.SIGINT  # SIGTERM lets it wait for a successor
        if ready:
            self.until(settled, "the daemon to be ready")
        return self

    def failed(self, *, prefix: Sequence[str] = ()) -> tuple[int, list[str]]:
        """Start it where it cannot run; its exit code and what it said."""
        self.start(prefix=prefix, ready=False)
        assert self.proc is not None
        code = self.proc.wait(15)
        return code, self.output().splitlines()

    def output(self) -> str:
        """Return what it has written."""
        return self.log.read_text()

    def ask(self, command: str) -> dict[str, Any]:
        """Return the answer of the control socket."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(self.socket))
            control.sendall(json.dumps({"command": command}).encode() + b"\n")
            with control.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
                return answer

    def steelyard(self, *arguments: str) -> tuple[int, str]:
        """Give a command; its exit status, and what it said."""
        done = steelyard(*arguments, "-s", self.socket)
        return done.returncode, done.stdout + done.stderr

    def status(self) -> Status:
        """Return the status."""
        status: Status = self.ask("status")["status"]
        return status

    def fresh(self) -> Status:
        """Return a status that was put together after this call: the next one after that which is answered now.

        A status is put together once for all who ask, and may be a second old.
        """
        shown = self.status()["uptime_s"]
        return self.until(lambda status: bool(status["uptime_s"] > shown), "a status of afterwards")

    def until(self, condition: Callable[[Status], bool], what: str, timeout: float = 15.0) -> Status:
        """Return the first status that `condition` accepts."""

        def look() -> Status | None:
            status = self.status()
            return status if condition(status) else None

        try:
            found = until(look, timeout, what, every=0.03)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.output()}") from error
        assert found is not None
        return found

    def workers(self) -> list[int]:
        """Return the process ids of the living workers."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["alive"]]

    def child(self, module: str) -> int:
        """Return the process id of the first child that runs a module."""
        for pid in descendants(self.pid)[1:]:
            with suppress(OSError):
                if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
        raise LookupError(f"there is no child {module}")

    def health(self) -> int:
        """Return the process id of the health child."""
        return self.child("proxy.healthd")

    def family(self) -> list[int]:
        """Return the ids of all its processes."""
        return descendants(self.pid)

    def told(self, *words: str) -> bool:
        """Whether one line of its log has all these words."""
        return any(all(word in line for word in words) for line in self.output().splitlines())

    def end(self) -> None:
        """Kill whatever is left of it."""
        if self.proc is None:
            return
        family = self.family() if self.proc.alive else []
        self.proc.kill()
        for pid in family[1:]:
            with suppress(OSError):
                os.kill(pid, 9)
        until(lambda: not living(family[1:]), 5, "the children to be gone")


def settled(status: Status) -> bool:
    """Whether every worker lives and every backend has a verdict."""
    backends = [backend for service in status["services"] for backend in service["backends"]]
    return all(w["alive"] for w in status["workers"]) and all(b["state"] != "unknown" for b in backends)


def living(pids: Sequence[int]) -> list[int]:
    """Return those that live; one that waits to be collected does not."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if stat_fields(pid)[0] not in "ZX":
                found.append(pid)
    return found


def dns_service(port: int, backends: Sequence[Backend], extra: str = "", probe: str = "") -> str:
    """Return a DNS service on UDP and TCP, named dns."""
    rows = ", ".join(
        f'{{ name = "b{at}", address = "127.0.0.1", port = {one.port} }}' for at, one in enumerate(backends)
    )
    return (
        f'[service.dns]\nlisten = ["127.0.0.1:{port}/udp", "127.0.0.1:{port}/tcp"]\nprotocol = "dns"\n'
        f'backends = [{rows}]\nprobe = {{ type = "dns", query = "{PROBE} A", transport = "udp", {QUICK}{probe} }}\n{extra}\n'
    )


def echo_service(port: int, backends: Sequence[Backend], extra: str = "") -> str:
    """Return a TCP service, named echo."""
    rows = ", ".join(
        f'{{ name = "b{at}", address = "127.0.0.1", port = {one.port} }}' for at, one in enumerate(backends)
    )
    return (
        f'[service.echo]\nlisten = ["127.0.0.1:{port}/tcp"]\nbackends = [{rows}]\n'
        f'probe = {{ type = "tcp", {QUICK} }}\n{extra}\n'
    )


class Asker:
    """A DNS client that asks each query once, from sockets of its own, and waits long for the answers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open: dict[socket.socket, int] = {}
        self.answers: dict[int, int] = {}
        self.sent = 0

    def ask(self, count: int = 1, name: str = "www.example.net") -> None:
        """Send queries, each from another port, so that all members get some."""
        for _ in range(count):
            self.sent += 1
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(("127.0.0.1", self.port))
            sock.send(question(name, self.sent))
            self.open[sock] = self.sent

    def collect(self, timeout: float) -> int:
        """Read answers for at most `timeout` seconds; how many queries have none."""
        deadline = time.monotonic() + timeout
        while self.open and (left := deadline - time.monotonic()) > 0:
            for sock in select.select(list(self.open), [], [], left)[0]:
                number = self.open.pop(sock)
                with sock, suppress(ConnectionRefusedError):
                    answer = sock.recv(4096)
                    assert int.from_bytes(answer[:2], "big") == number
                    self.answers[number] = answer[3] & 15
        return len(self.open)

    def close(self) -> None:
        """Let go of what has no answer."""
        for sock in self.open:
            sock.close()
        self.open.clear()

    @property
    def bad(self) -> list[tuple[int, int | None]]:
        """Queries with another answer than NOERROR, or none, with their rcodes."""
        codes = [(number, self.answers.get(number)) for number in range(1, self.sent + 1)]
        return [(number, code) for number, code in codes if code != 0]


@contextmanager
def asker(port: int) -> Iterator[Asker]:
    """Make an asker that is closed afterwards."""
    one = Asker(port)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def connected(port: int, timeout: float = 5.0) -> Iterator[socket.socket]:
    """Connect to a service on loopback."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        yield sock


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send to an echo service; what came back."""
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        part = sock.recv(4096)
        if not part:
            break
        got += part
    return got
