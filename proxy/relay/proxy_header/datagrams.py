"""PROXY headers before datagrams, which name the client: read from listed sources, written for backends.

Each datagram has its own header; answers have none (dnsdist, PowerDNS and unbound agree).
"""

from collections.abc import Sequence
from typing import TypeVar

from proxy.relay.clients.access import Blocks
from proxy.relay.plan import Member
from proxy.relay.proxy_header.header import LONGEST, Header, HeaderError, build, parse_datagram
from proxy.relay.sockets.address import Client
from proxy.relay.sockets.datagram import asked
from proxy.relay.target import Target
from proxy.stats.layout import SERVICE_DATAGRAMS, SERVICE_PROXY_MALFORMED

Data = TypeVar("Data", bytes, memoryview)


class Introducers:
    """The sources of a service that must send a header; false if there are none."""

    __slots__ = ("_base", "_blocks", "_cells")

    def __init__(self, accept_proxy: Sequence[str], cells: "memoryview[int]", base: int) -> None:
        """Expect headers from these networks; `base` is the first cell of the service's counters."""
        self._blocks = Blocks(accept_proxy)
        self._cells = cells
        self._base = base

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def read(self, datagram: Data, source: Client) -> tuple[Header | None, Data] | None:
        """Return (header, the datagram behind it); None, and counted, if a listed source sent no valid header.

        The header is None if the source is not listed, or if its header names no client.
        """
        if source[0] not in self._blocks:
            return None, datagram
        try:
            header = parse_datagram(bytes(datagram[:LONGEST]))
        except HeaderError:
            self._cells[self._base + SERVICE_DATAGRAMS] += 1
            self._cells[self._base + SERVICE_PROXY_MALFORMED] += 1
            return None
        return (header if header.client else None), datagram[header.size :]


def who(source: Client, told: Header | None) -> Client:
    """Return the client's address and port: from the header, or the datagram's source if there is none."""
    return source if told is None or told.client is None else told.client


def header_for(target: Target, member: Member, source: Client, told: Header | None) -> bytes:
    """Return the header to put before a client's datagram to this backend; empty without `send-proxy`."""
    if target.send_proxy == "off":
        return b""
    client = who(source, told)
    at = asked(member, source) if told is None or told.asked is None else told.asked
    return build("v2", (client[0], client[1]), at, datagram=True)
