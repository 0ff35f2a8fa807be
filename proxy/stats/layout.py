"""Where each counter lies in a worker's shared memory [pure].

A worker's *column* is one run of aligned, signed, little-endian 64-bit cells::

    | header | service 0 | service 1 | ... | backend 0 | backend 1 | ... | clients |

A cell's address is the base of its block plus a constant of this module, so that the data path writes a counter with
one addition and one store::

    cells[service + SERVICE_QUERIES] += 1
    cells[backend + BACKEND_LATENCY + bucket(microseconds)] += 1

The constants are plain module-level integers because that is what CPython reads fastest; the tables `HEADER_CELLS`,
`SERVICE_CELLS` and `BACKEND_CELLS` give each its stable name (the one that status and metrics show) and its kind in the
same order. A *counter* only grows, and outlives its worker in the master's base column. A *gauge* says what is there
now and dies with its worker. Blocks have spare cells, so a counter may be added without moving another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from proxy.stats.histogram import CELLS as LATENCY_CELLS

Kind = Literal["counter", "gauge"]

MAGIC: Final = 0x31_4C_54_53  # "STL1": the layout's version, so that two versions never read each other's cells

# Header: one a column. Times are nanoseconds of CLOCK_MONOTONIC.
HEADER_MAGIC: Final = 0
HEADER_SERVICES: Final = 1  # how many service blocks this column has
HEADER_BACKENDS: Final = 2  # how many backend blocks this column has
HEARTBEAT: Final = 3  # when the worker's loop last came round; older than 1 s means stalled
PID: Final = 4
GENERATION: Final = 5  # the configuration that the worker runs
DRAINING: Final = 6  # 1 while the worker only finishes what it has
OPEN_FILES: Final = 7
OPEN_FILES_LIMIT: Final = 8
ACCEPT_PAUSED: Final = 9  # 1 while the worker, out of descriptors, accepts nothing
STARTED: Final = 10
MEMBERS: Final = 11  # listening sockets that this worker polls
SESSIONS: Final = 12  # connections, UDP sessions and DNS queries of all services
LOOP_WAKEUPS: Final = 13
LOOP_EVENTS: Final = 14
ACCEPT_PAUSES: Final = 15
INTERNAL_ERRORS: Final = 16  # exceptions caught at the pump's outermost edge: each is a bug of ours
LOG_LINES: Final = 17  # of the connection log, that were handed on to be written
LOG_LOST: Final = 18  # of the connection log, dropped or not written: too many, or nobody takes them

HEADER_SIZE: Final = 32

HEADER_CELLS: Final[tuple[tuple[str, Kind], ...]] = (
    ("magic", "gauge"),
    ("services", "gauge"),
    ("backends", "gauge"),
    ("heartbeat", "gauge"),
    ("pid", "gauge"),
    ("generation", "gauge"),
    ("draining", "gauge"),
    ("open_files", "gauge"),
    ("open_files_limit", "gauge"),
    ("accept_paused", "gauge"),
    ("started", "gauge"),
    ("members", "gauge"),
    ("sessions", "gauge"),
    ("loop_wakeups", "counter"),
    ("loop_events", "counter"),
    ("accept_pauses", "counter"),
    ("internal_errors", "counter"),
    ("log_lines", "counter"),
    ("log_lost", "counter"),
)

# Service block: what happened between clients and the service as a whole.
SERVICE_SESSIONS: Final = 0  # TCP connections and UDP sessions that are open
SERVICE_INFLIGHT: Final = 1  # DNS queries that wait for an answer
SERVICE_DRAINING: Final = 2  # sessions left on drained or removed backends
SERVICE_ACCEPTED: Final = 3  # TCP connections taken from the listener
SERVICE_DATAGRAMS: Final = 4  # UDP datagrams read from the listener, good or bad
SERVICE_QUERIES: Final = 5  # well-formed DNS queries
SERVICE_REPLIES: Final = 6  # datagrams sent to clients
SERVICE_SESSIONS_OPENED: Final = 7  # UDP sessions begun
SERVICE_REFUSED_NO_BACKEND: Final = 8
SERVICE_REFUSED_LIMIT: Final = 9
SERVICE_MALFORMED: Final = 10  # a client's datagram that is no DNS query
SERVICE_RESPONSE_AS_QUERY: Final = 11  # QR=1 from a client
SERVICE_SOURCE_PORT_ZERO: Final = 12
SERVICE_EMPTY_DATAGRAM: Final = 13
SERVICE_TABLE_FULL: Final = 14  # a new session or query dropped because the table is at its cap
SERVICE_EVICTED: Final = 15  # an idle session given up for a new one
SERVICE_EXPIRED: Final = 16  # a UDP session that was idle for idle-timeout
SERVICE_MOVED: Final = 17  # a UDP session that changed backend because its own went down
SERVICE_SERVFAIL: Final = 18  # SERVFAIL answers of our own making
SERVICE_GAVE_UP: Final = 19  # queries that no backend answered by give-up
SERVICE_RETRIES: Final = 20  # queries or connects tried on a further backend
SERVICE_JOINED: Final = 21  # a client's retransmit that joined its query in flight
SERVICE_COALESCED: Final = 22  # identical queries of several clients, above the cap, sent as one
SERVICE_LATE_REPLY: Final = 23  # an answer to a query that is over
SERVICE_WRONG_ID: Final = 24
SERVICE_WRONG_QUESTION: Final = 25
SERVICE_MALFORMED_REPLY: Final = 26
SERVICE_UNSENT_REPLIES: Final = 27  # the send to the client failed
SERVICE_CLIENT_GONE: Final = 28  # the client left while we were still connecting
SERVICE_CLIENT_RESET: Final = 29
SERVICE_BACKEND_RESET: Final = 30
SERVICE_CLIENT_TIMEOUT: Final = 31  # the kernel gave the client's connection up (user-timeout, keepalive)
SERVICE_BACKEND_TIMEOUT: Final = 32
SERVICE_IDLE_TIMEOUT: Final = 33
SERVICE_FIN_TIMEOUT: Final = 34
SERVICE_ACCEPT_PAUSED: Final = 35  # times that accepting paused for want of descriptors
SERVICE_REPLAYED: Final = 36  # queries that a dead worker had in flight, asked again
SERVICE_RESET_ON_DOWN: Final = 37  # connections reset because their backend went down (on-down = reset)
SERVICE_DRAINED_HARD: Final = 38  # connections cut at the end of drain-timeout or stop-timeout
SERVICE_NO_LOCAL_PORT: Final = 39  # our own ports ran out: never the backend's fault
SERVICE_NO_DESCRIPTOR: Final = 40  # our own descriptors ran out
SERVICE_NO_MEMORY: Final = 41  # ENOBUFS and ENOMEM on a socket of ours
SERVICE_ACCEPT_FAILED: Final = 42  # the connection was gone before it could be accepted
SERVICE_CLOSED: Final = 43  # connections that ended with both FINs
SERVICE_DENIED: Final = 44  # connections and datagrams of clients that `allow` and `deny` keep out
SERVICE_PROXY_MALFORMED: Final = 45  # connections of a listed source without a PROXY header
SERVICE_PROXY_TIMEOUT: Final = 46  # the same, whose header did not come in time
SERVICE_RESET_ON_FAILBACK: Final = 47  # connections reset because better backends serve again (on-failback = reset)
SERVICE_UNWANTED_REPLY: Final = 48  # what a backend sent where no answers are relayed (udp.per-datagram)
SERVICE_NO_SOURCE_ADDRESS: Final = 49  # this host has none of `source-addresses`: never the backend's fault
SERVICE_QUEUED: Final = 50  # TCP connections that wait for a slot of a backend
SERVICE_QUEUE_TIMEOUT: Final = 51  # those whose time was over before there was one
SERVICE_CONNECTIONS: Final = 52  # TCP connections that are open
SERVICE_REFUSED_CLIENT: Final = 53  # TCP connections of a client that has max-connections-per-client already
SERVICE_NO_TRANSPARENT_SOCKET: Final = 54  # the stock of prepared sockets was empty (transparent)
SERVICE_PERSISTED: Final = 55  # picks that followed a client's template (persistence)
SERVICE_PERSISTENCE_EVICTED: Final = 56  # templates given up before their time, because their bucket was full
SERVICE_PERSISTENCE_UNLOCKED: Final = 57  # templates made or moved without the lock, which another worker kept too long
SERVICE_RATE_LIMITED: Final = 58  # what a client asked for beyond its rate
SERVICE_RATE_UNKNOWN: Final = 59  # what passed because there was no place left to count its client
SERVICE_TRUNCATED: Final = 60  # answers of our own that send such a client to TCP
SERVICE_DISCONNECTED: Final = 61  # connections and UDP sessions that an operator ended

SERVICE_SIZE: Final = 96

TURN_ACCEPT: Final = 94  # no counter: since when this worker, at max-connections, lets clients wait; 0: it does not
TURN_QUEUE: Final = 95  # no counter: since when the first one in this worker's queue waits; 0: nobody does

SERVICE_CELLS: Final[tuple[tuple[str, Kind], ...]] = (
    ("sessions", "gauge"),
    ("inflight", "gauge"),
    ("draining", "gauge"),
    ("accepted", "counter"),
    ("datagrams", "counter"),
    ("queries", "counter"),
    ("replies", "counter"),
    ("sessions_opened", "counter"),
    ("refused_no_backend", "counter"),
    ("refused_limit", "counter"),
    ("malformed", "counter"),
    ("response_as_query", "counter"),
    ("source_port_zero", "counter"),
    ("empty_datagram", "counter"),
    ("table_full", "counter"),
    ("evicted", "counter"),
    ("expired", "counter"),
    ("moved", "counter"),
    ("servfail", "counter"),
    ("gave_up", "counter"),
    ("retries", "counter"),
    ("joined", "counter"),
    ("coalesced", "counter"),
    ("late_reply", "counter"),
    ("wrong_id", "counter"),
    ("wrong_question", "counter"),
    ("malformed_reply", "counter"),
    ("unsent_replies", "counter"),
    ("client_gone", "counter"),
    ("client_reset", "counter"),
    ("backend_reset", "counter"),
    ("client_timeout", "counter"),
    ("backend_timeout", "counter"),
    ("idle_timeout", "counter"),
    ("fin_timeout", "counter"),
    ("accept_paused", "counter"),
    ("replayed", "counter"),
    ("reset_on_down", "counter"),
    ("drained_hard", "counter"),
    ("no_local_port", "counter"),
    ("no_descriptor", "counter"),
    ("no_memory", "counter"),
    ("accept_failed", "counter"),
    ("closed", "counter"),
    ("denied", "counter"),
    ("proxy_malformed", "counter"),
    ("proxy_timeout", "counter"),
    ("reset_on_failback", "counter"),
    ("unwanted_reply", "counter"),
    ("no_source_address", "counter"),
    ("queued", "gauge"),
    ("queue_timeout", "counter"),
    ("connections", "gauge"),
    ("refused_client", "counter"),
    ("no_transparent_socket", "counter"),
    ("persisted", "counter"),
    ("persistence_evicted", "counter"),
    ("persistence_unlocked", "counter"),
    ("rate_limited", "counter"),
    ("rate_unknown", "counter"),
    ("truncated", "counter"),
    ("disconnected", "counter"),
)

# Backend block: what happened between this host and one backend of one service.
BACKEND_ACTIVE: Final = 0  # connections, UDP sessions or DNS queries that it has now
BACKEND_QUEUED: Final = 1  # connections that wait for one of its slots
BACKEND_TOTAL: Final = 2  # connections, UDP sessions or DNS queries that it was given
BACKEND_BYTES_IN: Final = 3  # from clients to the backend
BACKEND_BYTES_OUT: Final = 4  # from the backend to clients
BACKEND_REPLIES: Final = 5  # answers that counted (DNS), datagrams that came back (UDP)
BACKEND_CONNECT_REFUSED: Final = 8
BACKEND_CONNECT_TIMEOUT: Final = 9
BACKEND_CONNECT_RESET: Final = 10
BACKEND_CONNECT_UNREACHABLE: Final = 11
BACKEND_PORT_UNREACHABLE: Final = 12  # ICMP said that nobody listens (UDP)
BACKEND_NO_ANSWER: Final = 13
BACKEND_SEND_FAILED: Final = 14
BACKEND_RESET: Final = 15  # an established connection was reset by the backend
BACKEND_TIMEOUT: Final = 16  # an established connection that the kernel gave up
BACKEND_SERVFAIL: Final = 17  # the backend itself answered SERVFAIL
BACKEND_LATENCY: Final = 32  # the histogram: time to connect (TCP), to the answer (DNS)

BACKEND_SIZE: Final = BACKEND_LATENCY + LATENCY_CELLS

BACKEND_CELLS: Final[tuple[tuple[str, Kind], ...]] = (
    ("active", "gauge"),
    ("queued", "gauge"),
    ("total", "counter"),
    ("bytes_in", "counter"),
    ("bytes_out", "counter"),
    ("replies", "counter"),
    ("spare_6", "counter"),
    ("spare_7", "counter"),
    ("connect_refused", "counter"),
    ("connect_timeout", "counter"),
    ("connect_reset", "counter"),
    ("connect_unreachable", "counter"),
    ("port_unreachable", "counter"),
    ("no_answer", "counter"),
    ("send_failed", "counter"),
    ("reset", "counter"),
    ("timeout", "counter"),
    ("servfail", "counter"),
)

BACKEND_ERRORS: Final[tuple[tuple[str, int], ...]] = tuple(
    (name, offset) for offset, (name, _) in enumerate(BACKEND_CELLS) if offset >= BACKEND_CONNECT_REFUSED
)
"""(reason, offset) of each cell that counts a failure of the backend's: the `errors` of the status."""

CLIENT_SIZE: Final = 2  # a client's key, and its connections

CELL_BYTES: Final = 8
LEAST_SERVICES: Final = 16
LEAST_BACKENDS: Final = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """How many blocks a column has; the same in every process of a daemon, for as long as the daemon lives.

    `services` and `backends` are capacities in blocks, not what is configured: see `roomy`.  `clients` is how many
    clients' connections can be told to other workers (`proxy.relay.clients.connection_counts`), 0 where no service bounds them.
    """

    services: int
    backends: int
    clients: int = 0

    @classmethod
    def roomy(cls, services: int, backends: int, clients: int = 0) -> "Layout":
        """Return a layout for this many configured services and backends that leaves a reload room to grow."""
        return cls(max(LEAST_SERVICES, 2 * services), max(LEAST_BACKENDS, 2 * backends), clients)

    @property
    def counted(self) -> int:
        """How many cells are counters and gauges; the clients follow."""
        return HEADER_SIZE + self.services * SERVICE_SIZE + self.backends * BACKEND_SIZE

    @property
    def cells(self) -> int:
        """The column's length in cells."""
        return self.counted + self.clients * CLIENT_SIZE

    @property
    def size(self) -> int:
        """The column's length in bytes."""
        return self.cells * CELL_BYTES

    def service(self, slot: int) -> int:
        """Return the first cell of a service's block; IndexError for a slot that the layout has not."""
        if not 0 <= slot < self.services:
            raise IndexError(f"service slot {slot} of {self.services}")
        return HEADER_SIZE + slot * SERVICE_SIZE

    def backend(self, slot: int) -> int:
        """Return the first cell of a backend's block; IndexError for a slot that the layout has not."""
        if not 0 <= slot < self.backends:
            raise IndexError(f"backend slot {slot} of {self.backends}")
        return HEADER_SIZE + self.services * SERVICE_SIZE + slot * BACKEND_SIZE

    def gauges(self) -> Iterator[slice]:
        """Yield the cells that are gauges, each as a slice over all blocks of its kind."""
        backends = HEADER_SIZE + self.services * SERVICE_SIZE
        for first, stop, stride, names in (
            (0, HEADER_SIZE, HEADER_SIZE, HEADER_CELLS),
            (HEADER_SIZE, backends, SERVICE_SIZE, SERVICE_CELLS),
            (backends, self.counted, BACKEND_SIZE, BACKEND_CELLS),
        ):
            for offset, (_, kind) in enumerate(names):
                if kind == "gauge":
                    yield slice(first + offset, stop, stride)
