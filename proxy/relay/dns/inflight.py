"""DNS queries in flight: when each is sent again, and when it is given up.  No I/O.

A query goes through phases, each of which ends a fixed time after the query began: the first at `retry-after`, each
further one twice that later, the last at `give-up`.  `proxy.relay.native.dns_phases` has the queries.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.relay.native.dns_listener import Listener
    from proxy.relay.proxy_header.header import Header
    from proxy.relay.sockets.address import Client
    from proxy.relay.target import Target

ASKED_AGAIN = 8  # the most times that a query is sent again
ANEW = 2  # times that a query is sent to the same backends again, because a packet may be lost
GRAIN = 0.005  # s between two looks at one phase
RIPE = 256  # queries handled in one look: thousands may be due at once
LARGE = 1024  # octets: a longer query is an UPDATE or an attack
SLIP = 2  # of this many queries above a client's rate one is answered, as in BIND's response rate limiting


@dataclass(frozen=True, slots=True)
class Refused:
    """A query that was answered with the relay's own SERVFAIL."""

    listener: "Listener"
    client: "Client"
    message: bytes
    end: int
    started: float
    told: "Header | None"
    target: "Target | None"
    """The backend that was asked last."""
    tries: int


def moments(retry_after: float, give_up: float) -> tuple[float, ...]:
    """Return the times at which a query is sent again and, last, given up, in seconds after it began.

    From the third on, a time is left out if less than `retry-after` would remain for an answer.
    """
    again = [retry_after * (2 * turn + 1) for turn in range(ASKED_AGAIN)]
    return (
        *(when for when in again[:2] if when < give_up),
        *(when for when in again[2:] if when + retry_after <= give_up),
        give_up,
    )
