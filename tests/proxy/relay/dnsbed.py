"""What the tests of the DNS relay share: messages, scripted backends, and the relay at rest."""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from itertools import chain, count, islice
from typing import Any

from proxy.relay.dns import journal

Address = tuple[str, int]
Script = Callable[[bytes], bytes | None]

EDNS = bytes.fromhex("00 0029 04d0 0000 8000 0000")  # OPT, 1232 octets, DO


def name_of(text: str) -> bytes:
    """Return a name as it travels."""
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def query(text: str = "www.example.net", ident: int = 1, *, kind: int = 1, opcode: int = 0, tail: bytes = b"") -> bytes:
    """Return a query with RD and one question; `tail` follows it."""
    return (
        struct.pack(">HBBHHHH", ident, opcode << 3 | 1, 0, 1, 0, 0, 0)
        + name_of(text)
        + struct.pack(">HH", kind, 1)
        + tail
    )


def answer(message: bytes, data: bytes = b"", rcode: int = 0) -> bytes:
    """Return an answer to `message`: the same, QR set, `data` at its end."""
    return message[:2] + bytes([message[2] | 0x80, message[3] & 0xF0 | rcode]) + message[4:] + data


def client(address: Address, local: str = "") -> socket.socket:
    """Return a socket connected to a listener, which receives only answers from there."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    if local:
        sock.bind((local, 0))
    sock.connect(address)
    return sock


def ask(address: Address, message: bytes, timeout: float = 5.0) -> bytes:
    """Ask once; the answer."""
    with client(address) as sock:
        sock.settimeout(timeout)
        sock.send(message)
        return sock.recv(65535)


def quiet(sock: socket.socket, seconds: float = 0.05) -> bool:
    """Whether nothing comes for a while."""
    return not select.select([sock], [], [], seconds)[0]


class Backend:
    """A name server whose every answer the test sends itself."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind((host, port))
        self.sock.settimeout(5)
        self.address: Address = self.sock.getsockname()[:2]

    def take(self) -> tuple[bytes, Any]:
        """Return the next query and where it came from."""
        return self.sock.recvfrom(65535)

    def reply(self, data: bytes, to: Any) -> None:
        """Send an answer."""
        self.sock.sendto(data, to)

    def serve(self) -> tuple[bytes, Any]:
        """Answer one query with itself; that query and where it came from."""
        message, source = self.take()
        self.reply(answer(message), source)
        return message, source

    def close(self) -> None:
        """Close the port."""
        self.sock.close()


class Server(Backend):
    """A name server on a thread, which answers each query with the result of `script`, or not at all for None."""

    def __init__(self, script: Script = answer, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self.script = script
        self.seen: list[tuple[float, bytes, Any]] = []
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                message, source = self.sock.recvfrom(65535)
            except TimeoutError:
                continue
            if self._ends:
                return
            self.seen.append((time.monotonic(), message, source))
            data = self.script(message)
            if data is not None:
                self.sock.sendto(data, source)

    def close(self) -> None:
        """End the thread, close the port."""
        self._ends = True
        with socket.socket(self.sock.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.address)
        self._thread.join(5)
        self.sock.close()


def dns_of(relay: Any, service: int = 0) -> Any:
    """Return the relay's DNS service."""
    return relay.engine._relays[service, "udp"]


def upstreams(relay: Any) -> list[Any]:
    """Return the sockets to backends that are asked over now."""
    return relay.call(
        lambda: [one for peer in dns_of(relay)._peers.values() for one in peer.sockets if one is not None]
    )


def polled_of(relay: Any) -> Any:
    """Return the relay's first listener."""
    (_, polled), *_ = relay.engine._members.polled.values()
    return polled


def numbers(*first: int) -> Callable[[int], bytes]:
    """Return a source of random numbers: these first, then ones that choose the first socket and count IDs."""
    endless = chain(first, count(0, 1 << 16))
    return lambda size: struct.pack(f"={size // 4}I", *(one & 0xFFFFFFFF for one in islice(endless, size // 4)))


def leftovers(relay: Any) -> list[Any]:
    """Return whatever a query left behind: nothing, when all are over."""

    def look() -> list[Any]:
        dns = dns_of(relay)
        peers = dns._peers.values()
        sockets = [one for peer in peers for one in (*peer.sockets, *peer.retired) if one is not None]
        left: list[Any] = [count for count in (dns.inflight, dns.unfinished, dns.twins) if count]
        left += [one.pending for one in sockets if one.pending]
        left += [target.active for target in dns.service.targets if target.active]
        left += [relay.counter("inflight")] if relay.counter("inflight") else []
        return left + list(journal.entries(relay.journal_fd))

    return relay.call(look)
