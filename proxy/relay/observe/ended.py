"""The record of a connection, session or query that has ended, and its line in the connection log.  Pure.

A line is one JSON object, or text: the time, then `name=value` with the same names.  Text from clients (a query's name)
is quoted and ASCII, so it can neither forge a line nor send control codes to a terminal.
"""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from proxy.relay.dns.message import HEADER
from proxy.stats import layout

WHY: Final[dict[int, tuple[str, bool]]] = {
    layout.SERVICE_CLIENT_RESET: ("client-reset", True),
    layout.SERVICE_CLIENT_TIMEOUT: ("client-timeout", True),
    layout.SERVICE_CLIENT_GONE: ("client-gone", True),
    layout.SERVICE_BACKEND_RESET: ("backend-reset", True),
    layout.SERVICE_BACKEND_TIMEOUT: ("backend-timeout", True),
    layout.SERVICE_IDLE_TIMEOUT: ("idle-timeout", True),
    layout.SERVICE_FIN_TIMEOUT: ("fin-timeout", True),
    layout.SERVICE_MAX_LIFETIME: ("max-lifetime", False),
    layout.SERVICE_DENIED: ("denied", True),
    layout.SERVICE_REFUSED_NO_BACKEND: ("no-backend", True),
    layout.SERVICE_PROXY_MALFORMED: ("proxy-malformed", True),
    layout.SERVICE_PROXY_TIMEOUT: ("proxy-timeout", True),
    layout.SERVICE_RESET_ON_DOWN: ("backend-down", True),
    layout.SERVICE_RESET_ON_FAILBACK: ("failback", True),
    layout.SERVICE_RATE_LIMITED: ("rate-limited", True),
    layout.SERVICE_REFUSED_CLIENT: ("client-limit", True),
    layout.SERVICE_REFUSED_LIMIT: ("backends-full", True),
    layout.SERVICE_QUEUE_TIMEOUT: ("queue-timeout", True),
    layout.SERVICE_DRAINED_HARD: ("drained", True),
    layout.SERVICE_DISCONNECTED: ("disconnected", True),
    layout.SERVICE_EXPIRED: ("idle", False),
    layout.SERVICE_EVICTED: ("evicted", True),
    layout.SERVICE_MOVED: ("moved", True),
    layout.SERVICE_GAVE_UP: ("no-answer", True),
    layout.SERVICE_TABLE_FULL: ("table-full", True),
    layout.SERVICE_REPLAYED: ("not-repeated", True),
}
"""Counter of a service -> (the reason of the end in one word, whether it is a failure)."""

CLIENT_FIN: Final = ("client-fin", False)
BACKEND_FIN: Final = ("backend-fin", False)
OTHER: Final = ("other", True)
"""Ends without a counter: an orderly end by either side, and any other end."""

_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")  # ASCII without spaces, quotes, equals signs, backslashes
_TYPES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 64: "SVCB", 65: "HTTPS",
    251: "IXFR", 252: "AXFR", 255: "ANY",
}  # fmt: skip


class Ended(NamedTuple):
    """A connection, session or query that has ended.  The fields of the log have these names and this order.

    `at` is the time of its acceptance in Unix seconds.  `bytes_in` went to the backend, `bytes_out` came from it.
    `connect_ms` is the time from its acceptance to the backend's connection; None if there was none.  `tries` is the
    number of backends that were tried.
    """

    at: float
    kind: str
    node: str
    service: str
    client: str
    listener: str
    backend: str | None
    backend_address: str | None
    bytes_in: int
    bytes_out: int
    connect_ms: float | None
    duration_s: float
    tries: int
    closed: str
    failed: bool
    query: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of the log and of `steelyard connections`; it has `query` only for DNS."""
        fields = self._asdict()
        fields["at"] = moment(self.at)
        if self.query is None:
            del fields["query"]
        return fields


def endpoint(host: str, port: int) -> str:
    """Return "192.0.2.1:53" or "[2001:db8::1]:53"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def moment(at: float) -> str:
    """Return Unix seconds as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line(ended: Ended, form: str) -> bytes:
    """Return the line in `form` ("text" or "json"), newline included."""
    fields = ended.as_dict()
    if form == "json":
        return json.dumps(fields).encode() + b"\n"
    at = fields.pop("at")
    return f"{at} connection {' '.join(f'{name}={_value(value)}' for name, value in fields.items())}\n".encode()


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        return str(value)
    return value if _PLAIN.fullmatch(value) and value != "-" else json.dumps(value)


def asked(message: bytes, end: int) -> str:
    """Return a query's question, "www.example.net A"; octets outside host names are escaped (RFC 1035, section 5.1)."""
    if end < HEADER + 5:
        return ""
    labels = []
    at = HEADER
    while (size := message[at]) and at < end:
        labels.append("".join(_octet(octet) for octet in message[at + 1 : at + 1 + size]))
        at += size + 1
    kind = int.from_bytes(message[end - 4 : end - 2], "big")
    return f"{'.'.join(labels) or '.'} {_TYPES.get(kind, f'TYPE{kind}')}"


def _octet(octet: int) -> str:
    char = chr(octet)
    return char if char.isascii() and (char.isalnum() or char in "-_*/") else f"\\{octet:03d}"
