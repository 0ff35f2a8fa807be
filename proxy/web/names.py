"""The metrics: their names, kinds, labels and meanings; the reference page, the collector and the tests read this [pure].

Names and labels are a public contract: dashboards and alerts use them.  Each metric has the label `node`.
"""

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "steelyard_"

Kind = Literal["gauge", "counter", "histogram", "info"]


@dataclass(frozen=True, slots=True)
class Name:
    """A metric: `name` without the prefix; a counter's name without `_total`."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def written(self) -> str:
        """The name as queries have it; that of a histogram has `_bucket`, `_sum` and `_count` after it."""
        ending = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return f"{PREFIX}{self.name}{ending}"


_BACKEND: Final = ("service", "backend")
_PROBE: Final = ("service", "backend", "probe", "type")

INFO = Name("version", "info", "The version that runs; always 1.", ("version",))
UPTIME = Name("uptime_seconds", "gauge", "How long the daemon has run; a reexec begins anew.")

BACKEND_STATE = Name(
    "backend_state", "gauge", "1 for the backend's state (up, down, reserve, unknown), 0 for the others.",
    (*_BACKEND, "state"),
)  # fmt: skip
BACKEND_READY = Name(
    "backend_ready", "gauge", "1 while no operator and no file drains the backend or has it in maintenance.", _BACKEND
)
BACKEND_STANDBY = Name(
    "backend_standby", "gauge",
    "1 while a healthy backend is down only because it has another role than the wanted one.", _BACKEND,
)  # fmt: skip
BACKEND_CONNECTIONS = Name(
    "backend_connections", "gauge", "Connections, UDP sessions or DNS queries that are open to the backend.", _BACKEND
)
BACKEND_CONNECT = Name(
    "backend_connect_seconds", "histogram", "Time to connect (TCP) or to the answer (DNS).", _BACKEND
)
BACKEND_ERRORS = Name(
    "backend_errors", "counter", "Failures of the backend under real traffic, by reason.", (*_BACKEND, "reason")
)
SERVICE_BACKENDS = Name(
    "service_backends", "gauge",
    "Backends that count: ready, with a weight, and in the wanted role, whether they are up or not.", ("service",),
)  # fmt: skip
SERVICE_USABLE = Name("service_backends_usable", "gauge", "Backends that count and are up or in reserve.", ("service",))
SERVICE_QUORUM = Name(
    "service_quorum_met", "gauge", "1 while a tier has as many usable backends as the quorum asks for.", ("service",)
)
SERVICE_REFUSED = Name(
    "service_refused", "counter", "Clients, sessions and queries that were turned away, by reason.",
    ("service", "reason"),
)  # fmt: skip
SERVICE_ACCEPTED = Name(
    "service_accepted", "counter", "Connections, UDP sessions and DNS queries that were taken.", ("service",)
)
DNS_RETRIES = Name("dns_retries", "counter", "Queries that were tried on a further backend.", ("service",))
DNS_SERVFAIL = Name("dns_servfail", "counter", "SERVFAIL answers that the balancer itself gave.", ("service",))
UDP_SESSIONS = Name("udp_sessions", "gauge", "UDP sessions that are open.", ("service",))
UDP_SESSIONS_LIMIT = Name("udp_sessions_limit", "gauge", "UDP sessions that may be open.", ("service",))

PROBE_SUCCESS = Name("probe_success", "gauge", "1 if the last run of the probe passed.", _PROBE)
PROBE_SECONDS = Name("probe_seconds", "histogram", "Time of the probe's runs, whatever their result.", _PROBE)
PROBE_LAG = Name(
    "probe_lag_seconds", "gauge", "How far the backend's data is behind, where the probe measures it.", _PROBE
)
PROBE_REJECTED = Name(
    "probe_credentials_rejected", "gauge", "1 if the server refused the probe's login at its last run.", _PROBE
)

VRRP_ACTIVE = Name("vrrp_active", "gauge", "1 while this host has the addresses.", ("vrrp",))
VRRP_PRIORITY = Name("vrrp_effective_priority", "gauge", "The priority in force, after all penalties.", ("vrrp",))
VRRP_TRANSITIONS = Name("vrrp_transitions", "counter", "Changes of state: active, backup, fault.", ("vrrp",))
VRRP_PEER_AGE = Name(
    "vrrp_peer_advert_age_seconds", "gauge",
    "How long ago the peer's last advert came; a backup hears the active host, and an active host hears nobody.",
    ("vrrp",),
)  # fmt: skip
VRRP_CONFLICTS = Name("vrrp_conflicts", "counter", "Adverts and ARP that claim the addresses of this host.", ("vrrp",))

RELOAD_OK = Name("config_reload_ok", "gauge", "0 if the last reload was refused.")
CONFIG_INFO = Name("config", "info", "The digest of the file in force; always 1.", ("sha256",))
OVERRIDES = Name("overrides", "gauge", "Changes of operators that differ from the file.")
OVERRIDE_AGE = Name("override_age_seconds", "gauge", "The age of the oldest of them; absent without any.")
RESTARTS = Name("worker_restarts", "counter", "Workers that died and were replaced.")
OPEN_FILES = Name("open_files", "gauge", "Descriptors that a process has open.", ("process",))
OPEN_FILES_LIMIT = Name("open_files_limit", "gauge", "Descriptors that the process may have open.", ("process",))
WEB_REFUSED = Name("web_refused", "counter", "Requests and clients that HTTP refused, by reason.", ("reason",))
SNAPSHOT_AGE = Name("snapshot_age_seconds", "gauge", "The age of the snapshot that these metrics are of.")

ALL: Final[tuple[Name, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Name))
"""In the order of the page."""

REFUSED: Final = {
    "refused_no_backend": "no_backend",
    "refused_limit": "limit",
    "refused_client": "client_limit",
    "queue_timeout": "queue_timeout",
    "denied": "denied",
    "rate_limited": "rate",
    "table_full": "table_full",
}
"""The counters of a service that count somebody turned away, and the reason that the metric has for each."""
ACCEPTED: Final = ("accepted", "sessions_opened", "queries")
STATES: Final = ("up", "down", "reserve", "unknown")
"""In the schema's order."""
