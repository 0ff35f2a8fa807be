"""The settings of a `Runner`: plain frozen values, durations in seconds, addresses as text."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Self, get_args

from vrrp.auth import Mode

SCRIPT_TIMEOUT: Final = 60.0
"""s that one run of a script may take, and at the end all that wait; then the process group is killed."""


Key = tuple[str, int, int]
"""What a router is known by on the wire: interface, VRID, IP version.  It stays what it is as long as that stays."""


@dataclass(frozen=True, slots=True)
class Track:
    """An interface that the router tracks.  While it is down, `penalty` applies; None: the router is in fault."""

    interface: str
    penalty: int | None = None


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How adverts are signed (vrrp/auth.py): each key with its id, 1 to 255.  The first key signs."""

    mode: Mode = "off"
    keys: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Read a mode and keys in hexadecimal.  Raises TypeError, ValueError and KeyError."""
        made = cls(tree["mode"], tuple((number, bytes.fromhex(key)) for number, key in tree["keys"]))
        if made.mode not in get_args(Mode) or (made.mode != "off" and not made.keys):
            raise ValueError(f"no keys for mode {made.mode}, or no such mode")
        return made

    def to_tree(self) -> dict[str, Any]:
        """Return what `from_tree` reads."""
        return {"mode": self.mode, "keys": [[number, key.hex()] for number, key in self.keys]}


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """One [vrrp.NAME]: one router for each IP version among its addresses.

    `addresses` are written as "192.0.2.1/24"; without a prefix, that of a host is used.  `peers` are the addresses of
    the other hosts, IPv4 and IPv6 (unicast); None: multicast.  `sources` are the addresses of this host that the peers
    expect adverts from; without them the interface's primary IPv4 and link-local IPv6 addresses are used.  With
    `awaits_verdicts` there is no election before `Runner.first_verdicts`, or 3 s.  `owned`: a member has the addresses
    for good (priority 255), and may send from one of them.
    """

    name: str
    interface: str
    vrid: int
    addresses: tuple[str, ...]
    priority: int = 100
    peers: tuple[str, ...] | None = None
    sources: tuple[str, ...] = ()
    advert_interval: float = 1.0
    version: Literal[2, 3] = 3
    preempt: bool = True
    preempt_delay: float = 0.0
    start_delay: float = 0.0
    checksum: Literal["pseudo", "plain"] = "pseudo"
    announce_count: int = 5
    announce_repeat_after: float = 5.0
    announce_refresh: float = 60.0
    track: tuple[Track, ...] = ()
    awaits_verdicts: bool = False
    virtual_mac: bool = False
    owned: bool = False
    auth: AuthSettings = AuthSettings()

    @property
    def families(self) -> tuple[int, ...]:
        """The IP versions among its addresses, 4 and 6; each is a separate router."""
        return tuple(family for family in (4, 6) if self.of_family(family))

    @property
    def keys(self) -> tuple["Key", ...]:
        """The keys of its routers, one for each IP version."""
        return tuple((self.interface, self.vrid, family) for family in self.families)

    def of_family(self, family: int) -> tuple[str, ...]:
        """Return the addresses of one IP version, 4 or 6, in their order."""
        return tuple(one for one in self.addresses if (":" in one) == (family == 6))  # noqa: PLR2004 - the version of IP


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """One [notify.NAME]: `on` are globs of names of routers and sync groups, `to` states; empty: all.

    `command` is an absolute path and its arguments, `fifo` an absolute path.  With `batch` the command gets all changes
    that wait as lines on its standard input.
    """

    on: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    fifo: str | None = None
    batch: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings: the routers, the names of each sync group, the notify scripts and FIFOs."""

    routers: tuple[RouterSettings, ...]
    sync_groups: Mapping[str, tuple[str, ...]]
    notify: tuple[NotifySettings, ...] = ()

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Read a tree from JSON or a channel: lists for tuples, keys in hexadecimal.

        Raises TypeError, ValueError and KeyError.
        """
        return cls(
            routers=tuple(_router(one) for one in tree["routers"]),
            sync_groups={name: tuple(names) for name, names in tree.get("sync_groups", {}).items()},
            notify=tuple(NotifySettings(**_tuples(one)) for one in tree.get("notify", ())),
        )


def former(old: Settings, new: Settings) -> dict[str, str]:
    """Return new name -> old name of each router that stays, because one of its keys does."""
    names = {key: one.name for one in old.routers for key in one.keys}
    found = {one.name: next((names[key] for key in one.keys if key in names), "") for one in new.routers}
    return {name: before for name, before in found.items() if before}


def _router(tree: Mapping[str, Any]) -> RouterSettings:
    values = _tuples(tree)
    unknown = values.keys() - {one.name for one in fields(RouterSettings)}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    values["track"] = tuple(Track(**one) for one in values.get("track", ()))
    if "auth" in values:
        values["auth"] = AuthSettings.from_tree(values["auth"])
    return RouterSettings(**values)


def _tuples(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}
