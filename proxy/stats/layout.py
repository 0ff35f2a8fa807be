"""The layout of the counters in a worker's shared memory [pure].

A worker's *column* is one run of aligned, signed, little-endian 64-bit cells::

    | header | service 0 | service 1 | ... | backend 0 | backend 1 | ... | clients |

A cell's address is the base of its block plus a constant of this module, so that the data path writes a counter with
one addition and one store::

    cells[service + SERVICE_QUERIES] += 1
    cells[backend + BACKEND_LATENCY + bucket(microseconds)] += 1

The constants are plain module-level integers because CPython reads these fastest. The tables `HEADER_CELLS`,
`SERVICE_CELLS` and `BACKEND_CELLS` give each cell its stable name, which status and metrics show, and its kind, in the
same order. A *counter* only grows, and outlives its worker in the master's base column. A *gauge* is a present value
and ends with its worker. Blocks have spare cells, so a counter can be added without moving another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from proxy.stats.histogram import CELLS as LATENCY_CELLS

Kind = Literal["counter", "gauge"]

MAGIC: Final = 0x31_4C_54_53  # "STL1": the layout's version, so that two versions never read each other's cells

# Header: one per column. Times are nanoseconds of CLOCK_MONOTONIC.
HEADER_MAGIC: Final = 0
HEADER_SERVICES: Final = 1  # the number of service blocks in this column
HEADER_BACKENDS: Final = 2  # the number of backend blocks in this column
HEARTBEAT: Final = 3  # the time of the worker's last heartbeat; older than 1 s means stalled
PID: Final = 4
GENERATION: Final = 5  # the configuration that the worker runs
DRAINING: Final = 6  # 1 while the worker drains
OPEN_FILES: Final = 7
OPEN_FILES_LIMIT: Final = 8
ACCEPT_PAUSED: Final = 9  # 1 while the worker accepts nothing, because it has run out of descriptors
STARTED: Final = 10
MEMBERS: Final = 11  # listening sockets that this worker polls
SESSIONS: Final = 12  # connections, UDP sessions and DNS queries of all services
LOOP_WAKEUPS: Final = 13
LOOP_EVENTS: Final = 14
ACCEPT_PAUSES: Final = 15
INTERNAL_ERRORS: Final = 16  # exceptions that the poller caught: each is a bug
LOG_LINES: Final = 17  # lines of the connection log that were handed on to be written
LOG_LOST: Final = 18  # lines of the connection log that were dropped or could not be written

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

# Service block: events between clients and the service as a whole; `meanings` says what each is.
SERVICE_SESSIONS: Final = 0
SERVICE_INFLIGHT: Final = 1
SERVICE_DRAINING: Final = 2
SERVICE_ACCEPTED: Final = 3
SERVICE_DATAGRAMS: Final = 4
SERVICE_QUERIES: Final = 5
SERVICE_REPLIES: Final = 6
SERVICE_SESSIONS_OPENED: Final = 7
SERVICE_REFUSED_NO_BACKEND: Final = 8
SERVICE_REFUSED_LIMIT: Final = 9
SERVICE_MALFORMED: Final = 10
SERVICE_RESPONSE_AS_QUERY: Final = 11
SERVICE_SOURCE_PORT_ZERO: Final = 12
SERVICE_EMPTY_DATAGRAM: Final = 13
SERVICE_TABLE_FULL: Final = 14
SERVICE_EVICTED: Final = 15
SERVICE_EXPIRED: Final = 16
SERVICE_MOVED: Final = 17
SERVICE_SERVFAIL: Final = 18
SERVICE_GAVE_UP: Final = 19
SERVICE_RETRIES: Final = 20
SERVICE_JOINED: Final = 21
SERVICE_COALESCED: Final = 22
SERVICE_LATE_REPLY: Final = 23
SERVICE_WRONG_ID: Final = 24
SERVICE_WRONG_QUESTION: Final = 25
SERVICE_MALFORMED_REPLY: Final = 26
SERVICE_UNSENT_REPLIES: Final = 27
SERVICE_CLIENT_GONE: Final = 28
SERVICE_CLIENT_RESET: Final = 29
SERVICE_BACKEND_RESET: Final = 30
SERVICE_CLIENT_TIMEOUT: Final = 31
SERVICE_BACKEND_TIMEOUT: Final = 32
SERVICE_IDLE_TIMEOUT: Final = 33
SERVICE_FIN_TIMEOUT: Final = 34
SERVICE_ACCEPT_PAUSED: Final = 35
SERVICE_REPLAYED: Final = 36
SERVICE_RESET_ON_DOWN: Final = 37
SERVICE_DRAINED_HARD: Final = 38
SERVICE_NO_LOCAL_PORT: Final = 39
SERVICE_NO_DESCRIPTOR: Final = 40
SERVICE_NO_MEMORY: Final = 41
SERVICE_ACCEPT_FAILED: Final = 42
SERVICE_CLOSED: Final = 43
SERVICE_DENIED: Final = 44
SERVICE_PROXY_MALFORMED: Final = 45
SERVICE_PROXY_TIMEOUT: Final = 46
SERVICE_RESET_ON_FAILBACK: Final = 47
SERVICE_UNWANTED_REPLY: Final = 48
SERVICE_NO_SOURCE_ADDRESS: Final = 49
SERVICE_QUEUED: Final = 50
SERVICE_QUEUE_TIMEOUT: Final = 51
SERVICE_CONNECTIONS: Final = 52
SERVICE_REFUSED_CLIENT: Final = 53
SERVICE_NO_TRANSPARENT_SOCKET: Final = 54
SERVICE_PERSISTED: Final = 55
SERVICE_PERSISTENCE_EVICTED: Final = 56
SERVICE_PERSISTENCE_UNLOCKED: Final = 57
SERVICE_RATE_LIMITED: Final = 58
SERVICE_RATE_UNKNOWN: Final = 59
SERVICE_TRUNCATED: Final = 60
SERVICE_DISCONNECTED: Final = 61
SERVICE_SESSIONS_ADOPTED: Final = 62
SERVICE_SESSIONS_DROPPED: Final = 63
SERVICE_MAX_LIFETIME: Final = 64

SERVICE_SIZE: Final = 96

TURN_ACCEPT: Final = 94  # not a counter: since when this worker's clients wait at max-connections; 0: none waits
TURN_QUEUE: Final = 95  # not a counter: since when the head of this worker's queue waits; 0: the queue is empty

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
    ("sessions_adopted", "counter"),
    ("sessions_dropped", "counter"),
    ("max_lifetime", "counter"),
)

# Backend block: events between this host and one backend of one service.
BACKEND_ACTIVE: Final = 0
BACKEND_QUEUED: Final = 1
BACKEND_TOTAL: Final = 2
BACKEND_BYTES_IN: Final = 3
BACKEND_BYTES_OUT: Final = 4
BACKEND_REPLIES: Final = 5
BACKEND_CONNECT_REFUSED: Final = 8
BACKEND_CONNECT_TIMEOUT: Final = 9
BACKEND_CONNECT_RESET: Final = 10
BACKEND_CONNECT_UNREACHABLE: Final = 11
BACKEND_PORT_UNREACHABLE: Final = 12
BACKEND_NO_ANSWER: Final = 13
BACKEND_SEND_FAILED: Final = 14
BACKEND_RESET: Final = 15
BACKEND_TIMEOUT: Final = 16
BACKEND_SERVFAIL: Final = 17
BACKEND_LATENCY: Final = 32  # histogram of the time to connect (TCP) or to answer (DNS)

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
"""(reason, offset) of each cell that counts failures of the backend: the `errors` of the status."""

CLIENT_SIZE: Final = 2  # a client's key and its number of connections

CELL_BYTES: Final = 8
LEAST_SERVICES: Final = 16
LEAST_BACKENDS: Final = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """The number of blocks in a column; the same in every process of a daemon during the daemon's life.

    `services` and `backends` are capacities in blocks, not configured numbers: see `roomy`.  `clients` is the number of
    clients whose connections can be published to other workers (`proxy.relay.clients.connection_counts`).
    """

    services: int
    backends: int
    clients: int = 0

    @classmethod
    def roomy(cls, services: int, backends: int, clients: int = 0) -> "Layout":
        """Return a layout for this many configured services and backends, with room for reloads that add more."""
        return cls(max(LEAST_SERVICES, 2 * services), max(LEAST_BACKENDS, 2 * backends), clients)

    @property
    def counted(self) -> int:
        """Return the number of cells before the clients' cells."""
        return HEADER_SIZE + self.services * SERVICE_SIZE + self.backends * BACKEND_SIZE

    @property
    def cells(self) -> int:
        """Return the column's length in cells."""
        return self.counted + self.clients * CLIENT_SIZE

    @property
    def size(self) -> int:
        """Return the column's length in bytes."""
        return self.cells * CELL_BYTES

    def service(self, slot: int) -> int:
        """Return the first cell of a service's block; raise IndexError for a slot outside the layout."""
        if not 0 <= slot < self.services:
            raise IndexError(f"service slot {slot} of {self.services}")
        return HEADER_SIZE + slot * SERVICE_SIZE

    def backend(self, slot: int) -> int:
        """Return the first cell of a backend's block; raise IndexError for a slot outside the layout."""
        if not 0 <= slot < self.backends:
            raise IndexError(f"backend slot {slot} of {self.backends}")
        return HEADER_SIZE + self.services * SERVICE_SIZE + slot * BACKEND_SIZE

    def gauges(self) -> Iterator[slice]:
        """Yield a slice for each gauge, over all blocks of its kind."""
        backends = HEADER_SIZE + self.services * SERVICE_SIZE
        for first, stop, stride, names in (
            (0, HEADER_SIZE, HEADER_SIZE, HEADER_CELLS),
            (HEADER_SIZE, backends, SERVICE_SIZE, SERVICE_CELLS),
            (backends, self.counted, BACKEND_SIZE, BACKEND_CELLS),
        ):
            for offset, (_, kind) in enumerate(names):
                if kind == "gauge":
                    yield slice(first + offset, stop, stride)
