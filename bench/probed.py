"""A thousand servers in one process, for `python -m bench probes`: one socket that answers on all addresses of a host.

Run as `python bench/probed.py KIND PORT`; KIND is tcp or dns.  At the end of its standard input it prints one line for
each server, with its address and the time at which each of its probes began, in seconds, and exits.
"""

import selectors
import socket
import struct
import sys
import time
from collections import defaultdict

SOA = struct.pack("!HHIH", 6, 1, 60, 22) + b"\0\0" + struct.pack("!5I", 1, 1, 1, 1, 1)  # a record from its type on
PKTINFO = struct.Struct("=I4s4s")
IP_PKTINFO, SO_RCVBUFFORCE = 8, 33  # linux/in.h, asm-generic/socket.h
HEADER = 12  # octets of a DNS message's header
Began = dict[str, list[float]]


def take_connection(sock: socket.socket, began: Began) -> None:
    """Accept one connection, record its time, and close it."""
    client, _ = sock.accept()
    began[client.getsockname()[0]].append(time.monotonic())
    client.close()


def take_query(sock: socket.socket, began: Began) -> None:
    """Answer one query for an SOA record, from the address to which it was sent."""
    query, about, _, client = sock.recvmsg(512, 64)
    asked = PKTINFO.unpack(about[0][2])[2]
    began[socket.inet_ntoa(asked)].append(time.monotonic())
    reply = query[:2] + struct.pack("!HHHHH", 0x8400, 1, 1, 0, 0) + query[HEADER:] + b"\xc0\x0c" + SOA
    sock.sendmsg([reply], [(socket.IPPROTO_IP, IP_PKTINFO, PKTINFO.pack(0, asked, bytes(4)))], 0, client)


def main(kind: str, port: str) -> None:
    """Serve until standard input ends."""
    began: Began = defaultdict(list)
    with socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", int(port)))
        if kind == "tcp":
            sock.listen(4096)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        take = take_connection if kind == "tcp" else take_query
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(sys.stdin, selectors.EVENT_READ)
            print("ready", flush=True)
            while not any(key.fileobj is sys.stdin for key, _ in selector.select()):
                take(sock, began)
    for address, times in began.items():
        print(address, *(f"{moment:.6f}" for moment in times))


if __name__ == "__main__":
    main(*sys.argv[1:])
