"""Resetting the connections of an address before it goes, so that their clients learn of it (V22).

sock_diag(7): the kernel lists the TCP sockets that are bound to the address, and destroys each (SOCK_DESTROY), which
sends an RST.  Once the address is gone no RST could leave from it, and clients would wait for their own timeouts.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_SOURCE = 7  # INET_DIAG_BC_S_COND
_TIME_WAIT, _CLOSE, _LISTEN = 6, 7, 10
_STATES = 0x1FFE & ~(1 << _TIME_WAIT | 1 << _CLOSE | 1 << _LISTEN)
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ID, _ID_INTERFACE = 48, 36  # octets of inet_diag_sockid, and where in it the interface is
_SLICE = 128  # sockets before others have their turn: about 1.5 ms
_MOST = 1 << 16


async def reset_connections(address: str, index: int = 0) -> int:
    """Reset every TCP connection of this host whose own address it is; how many.  Listening sockets stay.

    `index` is the interface of a link-local address, which another interface may have as well.
    OSError where the kernel cannot (CONFIG_INET_DIAG_DESTROY) or we may not (CAP_NET_ADMIN).
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(0.2)  # it answers in the call itself; this is for a kernel that does not
        kernel.bind((0, 0))
        found = list(_connections(kernel, address, index))
        count = 0
        for row, (family, wanted) in enumerate(found):
            if row % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            count += _destroy(kernel, family, wanted)
        return count


def _connections(kernel: socket.socket, address: str, index: int) -> Iterator[tuple[int, bytes]]:
    """Yield family and identity of each connection; an IPv6 socket may have an IPv4 address (::ffff:192.0.2.1)."""
    ip = ip_address(address)
    is_old = isinstance(ip, IPv4Address)
    own = socket.AF_INET if is_old else socket.AF_INET6
    condition = struct.pack("=BBxxi", own, 8 * len(ip.packed), -1) + ip.packed
    size = 4 + len(condition)
    program = struct.pack("=BBH", _SOURCE, size, size + 4) + condition
    attribute = struct.pack("=HH", 4 + len(program), _BYTECODE) + program
    for family in (socket.AF_INET, socket.AF_INET6) if is_old else (socket.AF_INET6,):
        body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _STATES) + bytes(_ID) + attribute
        kernel.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, 1, 0) + body)
        for kind, content in _answers(kernel):
            if kind == _SOCK_DIAG_BY_FAMILY:
                identity = content[4 : 4 + _ID]
                if not index or struct.unpack_from("=I", identity, _ID_INTERFACE) == (index,):
                    yield family, identity


def _destroy(kernel: socket.socket, family: int, wanted: bytes) -> bool:
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _STATES) + wanted
    kernel.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DESTROY, _REQUEST | _ACK, 2, 0) + body)
    with contextlib.suppress(FileNotFoundError):  # it ended by itself
        for _ in _answers(kernel):
            pass
        return True
    return False


def _answers(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each message, until the kernel is done; OSError for what it refused."""
    while True:
        data = kernel.recv(_MOST)
        while data:
            size, kind, _, _, _ = _HEADER.unpack_from(data)
            content, data = data[_HEADER.size : size], data[(size + 3) & ~3 :]
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                (code,) = struct.unpack_from("=i", content) if len(content) >= 4 else (0,)  # noqa: PLR2004 - an int
                if code:
                    raise OSError(-code, f"sock_diag: {errno.errorcode.get(-code, -code)}")
                return
            yield kind, content
