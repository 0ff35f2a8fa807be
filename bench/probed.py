"""A thousand servers in one process, for `python -m bench probes`: one socket that answers on every address of its host.

Run as `python bench/probed.py KIND PORT HANG`: KIND is tcp or dns, and with HANG 1 every server of an odd address never
answers.  It ends when its input does, and then prints one line a server that answers: its address, and when each of its
probes began, in seconds.
"""

import contextlib
import selectors
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable

GREETING = b"ready\r\n"
ANSWER = (
    struct.pack("!HHIH", 6, 1, 60, 22) + b"\0\0" + struct.pack("!5I", 1, 1, 1, 1, 1)
)  # an SOA record's type to data
PKTINFO = struct.Struct("=I4s4s")
IP_PKTINFO, SO_RCVBUFFORCE = 8, 33  # linux/in.h, asm-generic/socket.h
HEADER = 12  # octets of a DNS message's header
Began = dict[str, list[float]]


def hangs(address: str) -> bool:
    """Whether the server of this address is one of those that may hang."""
    return int(address.rpartition(".")[2]) % 2 == 1


def tcp(sock: socket.socket, began: Began, *, hang: bool) -> Callable[[], None]:
    """Return what takes one connection: it is greeted, or left waiting until the client gives up."""
    open_ones: dict[int, socket.socket] = {}

    def take() -> None:
        client, _ = sock.accept()
        now, address = time.monotonic(), client.getsockname()[0]
        if hang and hangs(address):
            for number, one in list(open_ones.items())[:8]:  # those that the client has closed
                with contextlib.suppress(BlockingIOError):
                    if not one.recv(1):
                        open_ones.pop(number).close()
            client.setblocking(False)
            open_ones[client.fileno()] = client
            return
        began[address].append(now)
        with client, contextlib.suppress(OSError):
            client.sendall(GREETING)
            client.shutdown(socket.SHUT_WR)

    sock.listen(4096)
    return take


def dns(sock: socket.socket, began: Began, *, hang: bool) -> Callable[[], None]:
    """Return what takes one query for an SOA record: it is answered from the address that was asked, or not at all."""
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)

    def take() -> None:
        query, about, _, client = sock.recvmsg(512, 64)
        address = socket.inet_ntoa(PKTINFO.unpack(about[0][2])[2])
        if hang and hangs(address):
            return
        began[address].append(time.monotonic())
        head = query[:2] + struct.pack("!HHHHH", 0x8400, 1, 1, 0, 0)
        source = PKTINFO.pack(0, socket.inet_aton(address), bytes(4))
        reply = head + query[HEADER:] + b"\xc0\x0c" + ANSWER
        sock.sendmsg([reply], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, client)

    return take


def main(kind: str, port: str, hang: str) -> None:
    """Serve until the input ends."""
    began: Began = defaultdict(list)
    with socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", int(port)))
        take = (tcp if kind == "tcp" else dns)(sock, began, hang=hang == "1")
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ, take)
            selector.register(sys.stdin, selectors.EVENT_READ, None)
            print("ready", flush=True)
            while True:
                events = selector.select()
                if any(key.data is None for key, _ in events):
                    break
                for key, _ in events:
                    key.data()
    for address, times in began.items():
        print(address, *(f"{moment:.6f}" for moment in times))


if __name__ == "__main__":
    main(*sys.argv[1:])
