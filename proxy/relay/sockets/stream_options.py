"""Options of TCP sockets: of those to backends, and of listeners, whose options clients' sockets inherit."""

import errno
import math
import socket

TCP_USER_TIMEOUT = 18  # linux/tcp.h; milliseconds
KEEPALIVE_PROBES = 3
MAX_KEEPIDLE = 32767  # s; net/tcp.h: more is EINVAL
MAX_USER_TIMEOUT = 2**31 - 1  # ms

OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})
"""Errors that mean that this process or host has run out of something (ENOSPC: epoll's watches)."""


def tune(sock: socket.socket, keepalive: float, user_timeout: float) -> None:
    """Set the options of every TCP socket: no delay for small writes, keepalive, a limit on unacknowledged data.

    After `keepalive` s of silence the kernel probes the peer.  A peer that acknowledges nothing for `user_timeout` s is
    given up (RFC 5482), and so is one that keeps its window closed for that long although it answers (Linux counts
    window probes too).  `inf` turns either off, also on a socket that had it.  Values above the kernel's limits are clamped.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalive != math.inf))
    if keepalive != math.inf:
        idle = min(max(1, round(keepalive)), MAX_KEEPIDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(idle / KEEPALIVE_PROBES)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    limit = 0 if user_timeout == math.inf else min(max(1, round(user_timeout * 1000)), MAX_USER_TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, limit)
