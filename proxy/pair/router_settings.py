"""Turns the effective configuration into the settings of the vrrp process."""

from dataclasses import asdict, dataclass, field
from typing import Any

from health.secrets import NoSecret, read
from proxy.config.model import Auth, Config, Vrrp
from proxy.config.notify_choice import STATES, is_told
from vrrp.auth import decode_key
from vrrp.settings import AuthSettings, NotifySettings, RouterSettings, Settings, Track
from vrrp.trial import unfit

_STATES = {"stop": "init"}  # what `to` of [notify.NAME] calls what vrrp calls otherwise


class RouterError(Exception):
    """The routers cannot be run with these settings; the text says why."""


class KeyFileError(RouterError):
    """A key file of `auth` cannot be used; the text names the file and never shows its content."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the vrrp process must know of a configuration; nothing of it can fail any more."""

    config: Config
    settings: Settings = field(repr=False)  # it has keys
    tree: dict[str, Any] = field(repr=False)
    """The settings for the channel."""


def prepare(config: Config) -> Prepared:
    """Read the key files, and build an advert of each router; raises KeyFileError and RouterError."""
    made = settings(config)
    for router in made.routers:
        for family in router.families:
            if why := unfit(router, family):
                raise RouterError(f"vrrp {router.name}: {why}")
    tree = asdict(made)
    for router, values in zip(made.routers, tree["routers"], strict=True):
        values["auth"] = router.auth.to_tree()
    return Prepared(config, made, tree)


def settings(config: Config) -> Settings:
    """Return the settings of the vrrp process; raises KeyFileError."""
    return Settings(
        routers=tuple(_router(config, one) for one in config.vrrp),
        sync_groups={group.name: group.vrrp for group in config.sync_groups},
        notify=_notify(config),
    )


def _notify(config: Config) -> tuple[NotifySettings, ...]:
    """Return the notifications that are for a router or a sync group; the others are not this process's."""
    names = [*(one.name for one in config.vrrp), *(one.name for one in config.sync_groups)]
    return tuple(
        NotifySettings(
            one.on, tuple(_STATES.get(state, state) for state in one.to if state in STATES["router"]), one.command,
            one.fifo, one.batch, one.name,
        )
        for one in config.notify
        if is_told(one, "router", names)
    )  # fmt: skip


def _router(config: Config, router: Vrrp) -> RouterSettings:
    members = router.members or {}
    peers = tuple(address for node, addresses in members.items() if node != config.node.name for address in addresses)
    return RouterSettings(
        name=router.name,
        interface=router.interface,
        vrid=router.vrid,
        addresses=router.addresses,
        priority=router.priority,
        peers=None if router.members is None else peers,
        sources=members.get(config.node.name, ()),
        advert_interval=router.advert_interval,
        version=router.version,
        preempt=router.preempt,
        preempt_delay=router.preempt_delay,
        start_delay=router.start_delay,
        checksum=router.checksum,
        announce_count=router.announce.count,
        announce_repeat_after=router.announce.repeat_after,
        announce_refresh=router.announce.refresh,
        track=tuple(Track(one.interface, one.penalty) for one in router.track if one.interface is not None),
        awaits_verdicts=True,  # of what it tracks, and that a worker is there to serve
        virtual_mac=router.virtual_mac,
        owned=router.name in config.owned,
        auth=_auth(router.auth),
    )


def _auth(auth: Auth) -> AuthSettings:
    mode = auth.mode_in_force
    return AuthSettings(mode, () if mode == "off" else tuple((number, _key(path)) for number, path in auth.keys))


def _key(path: str) -> bytes:
    try:
        return decode_key(read(path))
    except NoSecret as why:
        raise KeyFileError(str(why).replace("password file", "key file", 1)) from None
    except ValueError as why:
        raise KeyFileError(f"key file {path}: {why}") from None


def longest_interval(config: Config) -> float:
    """Return the longest time between two adverts (s); 0 without routers."""
    return max((router.advert_interval for router in config.vrrp), default=0.0)
