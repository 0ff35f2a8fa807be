"""The effective configuration of one node, which every process uses.

Node-keyed values are chosen, defaults are merged, router names in `listen` are resolved, and probes are complete. The
configuration contains no secrets and survives a round trip through JSON
(`Config.model_validate(config.model_dump(mode="json"))`).
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from health.spec import ProbeSpec
from health.units import AbsolutePath, Address, Bool, Duration, Int, Port, Table, format_duration, mistake
from proxy.config.positions import Tab
from proxy.config.settings import (
    ControlSettings,
    Count,
    LogSettings,
    NodeSettings,
    SendProxy,
    ServiceSettings,
    WebSettings,
)
from proxy.config.types import (
    MOST_KEYS,
    InterfaceAddress,
    InterfaceName,
    KeyFile,
    MemberAddress,
    Transport,
    join_endpoint,
    parse_key_file,
)
from vrrp.auth import Mode

MOST_WEIGHT: Final = 65535
Weight = Annotated[Int, Field(ge=0, le=MOST_WEIGHT)]
LEAST_REFRESH: Final = 1.0
"""s; announcements are for every host on the network."""


class Listener(Table):
    """One address, port and transport that a service answers on."""

    address: str
    """An IP address; "0.0.0.0" and "::" (IPv6 only) for `*`."""
    port: Port
    transport: Transport
    vrrp: str | None = None
    """The router that the address belongs to, if `listen` named one."""

    @property
    def text(self) -> str:
        """The listener as "10.0.0.10:53/udp" or "[2001:db8::1]:53/tcp"."""
        return f"{join_endpoint(self.address, self.port)}/{self.transport}"


class Backend(Table):
    """One real server of a service."""

    name: str
    address: Address
    port: Port | None = None
    """None: the port of the listener that the client connected to."""
    weight: Weight = 1
    tier: Annotated[Int, Field(ge=0, le=255)] = 0
    admin: Literal["ready", "drain", "maint"] = "ready"
    max_connections: Count = 0
    slow_start: Duration = 0.0
    send_proxy: SendProxy = "off"
    source_addresses: tuple[Address, ...] = ()
    probes: tuple[ProbeSpec, ...] = ()


class Service(ServiceSettings):
    """The listeners and backends of a service, and its settings."""

    name: str
    listeners: tuple[Listener, ...]
    backends: tuple[Backend, ...]


class Announce(Table):
    """Gratuitous ARP and unsolicited neighbour advertisements."""

    count: Annotated[Int, Field(ge=1, le=100)] = 5
    repeat_after: Duration = 5.0
    refresh: Duration = 60.0

    @model_validator(mode="after")
    def _paced(self) -> Self:
        if self.refresh < LEAST_REFRESH:
            raise mistake(f"refresh is at least {format_duration(LEAST_REFRESH)}", "refresh", 'for none write "never"')
        return self


class Track(Table):
    """An object whose failure lowers a router's priority, or puts the router into fault if there is no penalty."""

    interface: InterfaceName | None = None
    service: str | None = None
    probe: str | None = None
    penalty: Annotated[Int, Field(ge=1, le=254)] | None = None


class Auth(Table):
    """Signed adverts: keepalived's HMAC extension."""

    mode: Mode | None = None
    """None only if the file does not set it: then enforce with keys, otherwise off."""
    key_files: Annotated[tuple[KeyFile, ...], Field(max_length=MOST_KEYS)] = ()

    @property
    def mode_in_force(self) -> Mode:
        """The mode, explicit or by default."""
        return self.mode or ("enforce" if self.key_files else "off")

    @property
    def keys(self) -> tuple[tuple[int, str], ...]:
        """The id and file of each key, in the order of the list; a key without an id has the number of its position."""
        found = [parse_key_file(text) for text in self.key_files]
        return tuple((number or place, path) for place, (number, path) in enumerate(found, 1))


class VrrpSettings(Table):
    """The settings of [vrrp.NAME] (RFC 9568)."""

    interface: InterfaceName
    vrid: Annotated[Int, Field(ge=1, le=255)]
    addresses: Annotated[tuple[InterfaceAddress, ...], Field(min_length=1, max_length=510)]  # 255 of each IP version
    priority: Annotated[Int, Field(ge=1, le=255)] = 100
    members: dict[str, tuple[MemberAddress, ...]] | None = None
    advert_interval: Annotated[Duration, Field(ge=0.01, le=255.0)] = 1.0
    version: Literal[2, 3] = 3
    preempt: Bool = True
    preempt_delay: Annotated[Duration, Field(le=86400.0)] = 0.0
    start_delay: Annotated[Duration, Field(le=86400.0)] = 0.0
    checksum: Literal["pseudo", "plain"] = "pseudo"
    track: tuple[Track, ...] = ()
    virtual_mac: Bool = False
    announce: Announce = Announce()
    auth: Auth = Auth()


class Vrrp(VrrpSettings):
    """One virtual router of this node."""

    name: str


class SyncGroup(Table):
    """Routers that advertise the lowest effective priority among them."""

    name: str
    vrrp: Annotated[tuple[str, ...], Field(min_length=1)]


class NotifySettings(Table):
    """The settings of [notify.NAME]."""

    on: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    fifo: AbsolutePath | None = None
    batch: bool = False


class Notify(NotifySettings):
    """A command or FIFO that gets the changes."""

    name: str


class Config(Table):
    """The whole configuration of one node."""

    nodes: tuple[str, ...] = ()
    node: NodeSettings
    control: ControlSettings = ControlSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    services: tuple[Service, ...] = ()
    vrrp: tuple[Vrrp, ...] = ()
    sync_groups: tuple[SyncGroup, ...] = ()
    notify: tuple[Notify, ...] = ()
    probes: dict[str, ProbeSpec] = Field(default_factory=dict)
    """The named probes that a router tracks."""
    owned: tuple[str, ...] = ()
    """The routers whose addresses belong to a node itself, with priority 255."""
    sources: tuple[str, ...] = ()
    """The files it was read from, the main one first."""
    sha256: str = ""
    """The digest of the files' contents in that order: equal on two hosts with the same configuration."""

    _tree: Tab | None = PrivateAttr(
        default=None
    )  # the merged tables with their places, for support.py; never leaves the process

    def __eq__(self, other: object) -> bool:
        """Return True if the settings are equal, wherever they are in the files."""
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


BackendKey = tuple[str, str]
"""(service name, backend name)."""
