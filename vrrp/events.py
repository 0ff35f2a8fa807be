"""Events for a router, and its commands: plain values between vrrp/router.py and vrrp/runner.py.

Times are monotonic seconds, priorities 0 to 255.  Reasons and texts end without a full stop.
"""

from dataclasses import dataclass
from typing import Literal

from vrrp.packet import Advert, IPAddress, Version

State = Literal["init", "backup", "active", "fault"]


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """One virtual router of one address family; durations in seconds.

    The RFC's Accept_Mode is always on, as a balancer must accept packets to its addresses.
    """

    name: str
    vrid: int
    addresses: tuple[IPAddress, ...]
    """The virtual addresses as configured, without prefixes, all of one family."""
    source: IPAddress | None
    """The primary (IPv4) or link-local (IPv6) address of the interface; None: it has none yet, which is a fault."""
    priority: int = 100
    advert_interval: float = 1.0
    version: Version = 3
    preempt: bool = True
    preempt_delay: float = 0.0
    start_delay: float = 0.0
    peers: frozenset[IPAddress] | None = None
    """The addresses of the other members (unicast); None: multicast."""
    awaits_verdicts: bool = False
    """Whether the router tracks services: its first election then waits for `FirstVerdicts`, at most `hold_off`."""
    hold_off: float = 3.0
    announce_count: int = 5
    announce_repeat_after: float = 5.0
    announce_refresh: float = 60.0
    """math.inf: never."""
    lease: float = 2.0
    """How long an installed address lives without a `LeaseRefreshed`."""

    @property
    def family(self) -> Literal[4, 6]:
        """4 or 6."""
        return self.addresses[0].version


@dataclass(frozen=True, slots=True)
class Peer:
    """The last advert of another host that counted."""

    source: IPAddress
    priority: int
    interval: float
    heard_at: float


# Events


@dataclass(frozen=True, slots=True)
class Startup:
    """Start.  `adopt` is the state of the previous process, which died at most a lease ago and left its addresses.

    `refreshed_at` is when that process last refreshed its lease (all processes of a host share the monotonic clock).
    If that is longer ago than a lease, an adopted "active" starts as backup.
    """

    adopt: Literal["active", "backup"] | None = None
    refreshed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Leave, and go to `init`.

    An active router first offers the addresses: it sends priority 0 and continues to answer until a peer's advert shows
    that the peer has taken over, at most an advert interval and 50 ms.  With `at_once` it does not wait.
    """

    reason: str = "shutting down"
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """An advert that `packet.parse` accepted (and the verifier, if adverts are signed), and its sender."""

    advert: Advert
    source: IPAddress


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has come.  An early or superfluous `Tick` does no harm.

    Read the sockets empty first: adverts that wait there arrived before the deadline.
    """


@dataclass(frozen=True, slots=True)
class PriorityChanged:
    """All amounts that are added to the configured priority, as (name, amount) pairs; penalties are negative."""

    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The interface went down or lost its carrier."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The interface is up and running."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A thing that is tracked without a penalty failed; `cause` names it ("service dns", "probe gateway")."""

    cause: str


@dataclass(frozen=True, slots=True)
class FaultCleared:
    """The fault of this cause is over."""

    cause: str


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """The interface's address that adverts leave from changed; None: it has none."""

    source: IPAddress | None


@dataclass(frozen=True, slots=True)
class LeaseRefreshed:
    """The kernel confirmed a refresh (or the installation) of the addresses."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The addresses have expired, or may have: the last refresh is older than the lease.

    A router that gets any event later than `lease` after the last `LeaseRefreshed` acts as if it had got this one
    first.
    """


@dataclass(frozen=True, slots=True)
class AddressRemoved:
    """Another program removed one of the addresses while its lease ran."""

    address: IPAddress


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another host claims an address, by an ARP or neighbour advertisement; `by` is its MAC."""

    address: IPAddress
    by: str


@dataclass(frozen=True, slots=True)
class Standby:
    """Hand the addresses over (as `Shutdown` does), and do not take them until `Resume`.

    With `if_taken` the router stays active, and is not in standby, if no peer takes them.
    """

    reason: str = "standby"
    if_taken: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """End a standby: take part in elections again."""


@dataclass(frozen=True, slots=True)
class MasterLost:
    """The master or all workers are dead or stalled: leave at once, and be backup at priority 1."""

    reason: str = "the master is gone"


@dataclass(frozen=True, slots=True)
class MasterBack:
    """Master and workers are alive again."""


@dataclass(frozen=True, slots=True)
class FirstVerdicts:
    """Every tracked service has its first verdict."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The settings of the same router (VRID, family) changed.  This alone causes no change of state.

    `parts` are as in `PriorityChanged`, so that both change in one step; None: they stay.
    """

    config: RouterConfig
    parts: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Regrouped:
    """The router has come into another group, or is alone now.  Only the group sends this.

    `leader`: it is the first router of its group, which decides ties.
    """

    grouped: bool
    leader: bool


@dataclass(frozen=True, slots=True)
class GroupPriority:
    """The lowest effective priority of the group's routers.  Only the group sends this."""

    priority: int


@dataclass(frozen=True, slots=True)
class GroupTakeOver:
    """Every router of the group wants to be active: take over.  Only the group sends this."""


@dataclass(frozen=True, slots=True)
class GroupYield:
    """Another router of the group is no longer active: yield.  Only the group sends this."""

    reason: str


Event = (
    Startup
    | Shutdown
    | AdvertReceived
    | Tick
    | PriorityChanged
    | LinkDown
    | LinkUp
    | Fault
    | FaultCleared
    | SourceChanged
    | LeaseRefreshed
    | LeaseLost
    | AddressRemoved
    | Conflict
    | Standby
    | Resume
    | MasterLost
    | MasterBack
    | FirstVerdicts
    | Reconfigured
    | Regrouped
    | GroupPriority
    | GroupTakeOver
    | GroupYield
)


# Commands; the runner performs them in order


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Send an advert of this priority, with the addresses and the interval of the configuration."""

    priority: int


@dataclass(frozen=True, slots=True)
class InstallAddresses:
    """Install the addresses for a lease, and refresh them from now on."""

    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    """Stop to refresh the addresses, and remove those that are installed."""

    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class DropAddresses:
    """Remove these addresses, which are no longer the router's; it holds its others."""

    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Send `count` gratuitous ARPs or unsolicited neighbour advertisements for each of the addresses."""

    addresses: tuple[IPAddress, ...]
    count: int


@dataclass(frozen=True, slots=True)
class ResetConnections:
    """Wait at most `grace` seconds for pending DNS answers, then destroy the sockets bound to the addresses (V22)."""

    addresses: tuple[IPAddress, ...]
    grace: float


@dataclass(frozen=True, slots=True)
class Notify:
    """The router changed its state: for the log, the timeline, status and notify scripts."""

    state: State
    previous: State
    reason: str


@dataclass(frozen=True, slots=True)
class Count:
    """Add one to the counter of this name (see `COUNTERS`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Tell:
    """A report to people that is not a change of state: one line of log and timeline."""

    text: str


Command = (
    SendAdvert
    | InstallAddresses
    | RemoveAddresses
    | DropAddresses
    | Announce
    | ResetConnections
    | Notify
    | Count
    | Tell
)

COUNTERS = (
    "not_peer",
    "own",
    "vrid",
    "version",
    "family",
    "interval_differs",
    "addresses_differ",
    "conflicts",
    "address_removed",
    "lease_lost",
    "stalled",
    "transitions",
)
"""The names that `Count` may have; the caller of the parser counts the parser's reasons (`packet.Reason`)."""
