"""What a router is told, and what it wants done: values only, between vrrp/router.py and the one executor of commands.

Times are monotonic seconds, priorities 0 to 255, reasons and texts words without a trailing full stop.
"""

from dataclasses import dataclass
from typing import Literal

from vrrp.packet import Advert, IPAddress, Version

State = Literal["init", "backup", "active", "fault"]


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """One virtual router of one address family; durations in seconds.

    The RFC's Accept_Mode is always on: a balancer that did not accept packets to its addresses would be of no use.
    """

    name: str
    vrid: int
    addresses: tuple[IPAddress, ...]
    """The virtual addresses as configured, without prefixes, all of one family."""
    source: IPAddress | None
    """Our own primary (IPv4) or link-local (IPv6) address on the interface; None: there is none yet, which is a fault."""
    priority: int = 100
    advert_interval: float = 1.0
    version: Version = 3
    preempt: bool = True
    preempt_delay: float = 0.0
    start_delay: float = 0.0
    peers: frozenset[IPAddress] | None = None
    """The addresses of the other members (unicast); None: multicast."""
    awaits_verdicts: bool = False
    """Whether it tracks services: no election before their first verdicts (`FirstVerdicts`), or `hold_off`."""
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
    """The last advert that counted, of somebody else."""

    source: IPAddress
    priority: int
    interval: float
    heard_at: float


# Events


@dataclass(frozen=True, slots=True)
class Startup:
    """Begin.  `adopt`: the state of the process before us, which died at most a lease ago and whose address is still there.

    `refreshed_at` is when that process refreshed its lease last (the monotonic clock is the host's); older than the
    lease, an adopted "active" begins as backup.
    """

    adopt: Literal["active", "backup"] | None = None
    refreshed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Leave, and be in `init` afterwards.

    An active router first offers the address: it sends priority 0 and keeps answering until a peer's advert says that it
    has taken over, at most an advert interval and 50 ms.  `at_once` goes without waiting.
    """

    reason: str = "shutting down"
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """An advert that `packet.parse` let through (and the verifier, if adverts are signed), and who sent it."""

    advert: Advert
    source: IPAddress


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has been reached.  Early or superfluous ones do no harm.

    Read the sockets empty before: what waits there arrived earlier.
    """


@dataclass(frozen=True, slots=True)
class PriorityChanged:
    """What is added to the configured priority: (name, amount) pairs, all of them each time; penalties are negative."""

    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The interface went down or lost its carrier."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The interface is up and running."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something tracked without a penalty failed; `cause` names it ("service dns", "probe gateway")."""

    cause: str


@dataclass(frozen=True, slots=True)
class FaultCleared:
    """The fault of this cause is over."""

    cause: str


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """Our own address on the interface changed; None: it has none."""

    source: IPAddress | None


@dataclass(frozen=True, slots=True)
class LeaseRefreshed:
    """The kernel confirmed a refresh (or the installation) of the addresses."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The addresses lapsed, or may have: the last refresh is older than the lease.

    A router that is handed any event later than `lease` after the last `LeaseRefreshed` comes to this by itself.
    """


@dataclass(frozen=True, slots=True)
class AddressRemoved:
    """Something else removed one of the addresses while its lease ran."""

    address: IPAddress


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else claims an address (an ARP or neighbour advertisement that is not ours); `by` names its MAC."""

    address: IPAddress
    by: str


@dataclass(frozen=True, slots=True)
class Standby:
    """Hand the address over (as `Shutdown` does) and do not take it until `Resume`.

    `if_taken`: only if a peer takes it; if none does, go on as active, and no standby.
    """

    reason: str = "standby"
    if_taken: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """End a standby: take part in elections again."""


@dataclass(frozen=True, slots=True)
class MasterLost:
    """The master or all workers are dead or stalled: leave at once, then backup at priority 1."""

    reason: str = "the master is gone"


@dataclass(frozen=True, slots=True)
class MasterBack:
    """Master and workers are alive again."""


@dataclass(frozen=True, slots=True)
class FirstVerdicts:
    """Every tracked service has its first verdict."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """A reload: the same router (name, VRID, family, version) with other settings; no transition comes of it alone."""

    config: RouterConfig


@dataclass(frozen=True, slots=True)
class GroupPriority:
    """From the group alone: the lowest effective priority of its routers."""

    priority: int


@dataclass(frozen=True, slots=True)
class GroupTakeOver:
    """From the group alone: every router of it wants to be active."""


@dataclass(frozen=True, slots=True)
class GroupYield:
    """From the group alone: one of its routers is no longer active."""

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
    | GroupPriority
    | GroupTakeOver
    | GroupYield
)


# Commands, to be performed in the order given


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
    """Stop refreshing the addresses, and remove them if they are there."""

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
    """The router moved: for the log, the timeline, status and notify scripts."""

    state: State
    previous: State
    reason: str


@dataclass(frozen=True, slots=True)
class Count:
    """Add one to the counter of this name (see `COUNTERS`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Something that people should know and that is no move: one line of log and timeline."""

    text: str


Command = SendAdvert | InstallAddresses | RemoveAddresses | Announce | ResetConnections | Notify | Count | Tell

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
"""What `Count` may name; the parser's reasons (`packet.Reason`) are counted by who calls the parser."""
