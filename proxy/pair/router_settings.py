"""From the effective configuration to what the vrrp process is told, and from what it tells to the status."""

from dataclasses import asdict
from typing import Any

from health.secrets import NoSecret, read
from proxy.config.model import Config, Vrrp
from vrrp.settings import NotifySettings, RouterSettings, Settings, Track

_STATES = {"stop": "init"}  # what `to` of [notify.NAME] calls what vrrp calls otherwise
_LEAST_KEY = 16  # octets


class KeyFileError(Exception):
    """An auth-key-file cannot be used; the words name it, never what it holds."""


def settings(config: Config) -> dict[str, Any]:
    """Return `vrrp.settings.Settings` as a tree for the channel; KeyFileError."""
    made = Settings(
        routers=tuple(_router(config, one) for one in config.vrrp),
        sync_groups={group.name: group.vrrp for group in config.sync_groups},
        notify=tuple(
            NotifySettings(one.on, tuple(_STATES.get(state, state) for state in one.to), one.command, one.fifo)
            for one in config.notify
        ),
    )
    tree = asdict(made)
    for router in tree["routers"]:
        router["auth_keys"] = [key.hex() for key in router["auth_keys"]]
    return tree


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
        auth_keys=tuple(_key(path) for path in router.auth_key_files),
    )


def _key(path: str) -> bytes:
    try:
        key = read(path).strip()
    except NoSecret as why:
        raise KeyFileError(str(why).replace("password file", "key file", 1)) from None
    if len(key) < _LEAST_KEY:
        raise KeyFileError(f"key file {path} holds less than {_LEAST_KEY} octets")
    return key


def longest_interval(config: Config) -> float:
    """Return the longest time between two adverts (s); 0 without routers."""
    return max((router.advert_interval for router in config.vrrp), default=0.0)
