"""PROXY headers of TCP connections: read from the sources in `accept-proxy`, and written for backends with `send-proxy`."""

from proxy.relay.native.tcp_connection import Connection
from proxy.relay.native.tcp_pair import State
from proxy.relay.proxy_header.header import LONGEST, HeaderError, build, parse
from proxy.stats.layout import SERVICE_CLIENT_GONE, SERVICE_PROXY_MALFORMED


def read_header(conn: Connection, *, near: bool) -> None:
    """Read the header when all of it has arrived, and no octet after it; `near`: the peer has sent its FIN.

    The header names the client and the address that it connected to.
    """
    try:
        data = conn.peek(LONGEST)
        header = parse(data)
        if header is not None:
            conn.skip(header.size)
    except BlockingIOError:
        return
    except HeaderError:
        conn.ends(SERVICE_PROXY_MALFORMED)
        conn.close(reset=True)
        return
    except OSError:
        _gone(conn)
        return
    if header is None:
        if near or not data:
            _gone(conn)
        return
    conn.source = header.client or conn.source
    conn.asked = header.asked
    conn.deadline = float("inf")
    conn.state = State.WAITING
    conn.admit()


def header(conn: Connection, version: str) -> bytes:
    """Return the header that a backend gets before anything else."""
    member = conn.listener.member
    return build(version, conn.source[:2], conn.asked or conn.local or (member.address, member.port))


def _gone(conn: Connection) -> None:
    conn.ends(SERVICE_CLIENT_GONE)
    conn.close(reset=True)
