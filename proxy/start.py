"""Checks before a daemon starts: the user of its children, the group of its socket, its privileges and limits.

And that its state directory is its own: that comes before anything is bound.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.backends.saved import SAVED
from proxy.config.model import Config
from proxy.control.path import group_id
from proxy.control.wire import ControlError
from proxy.host import descriptors, privileges
from proxy.notify.notifications import NOTIFIED
from proxy.pair.pair import STANDBY
from proxy.processes.child import Identity
from proxy.records.document import StateError
from proxy.records.state_directory import StateDirectory
from proxy.workers import transparent_sockets


class StartError(Exception):
    """The daemon cannot start; one line a reason."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whom the children run as, and the group that may read."""

    identity: Identity
    group: int | None


def standing(config: Config, open_files: int, warn: Callable[[str, str], None]) -> Standing:
    """Return what was found; StartError with all that is wrong.  `warn(kind, text)` hears what is merely worth knowing."""
    reasons: list[str] = []
    uid: int | None = None
    gid: int | None = None
    group: int | None = None
    try:
        uid, gid = _children_user(config.node.user, warn)
    except StartError as error:
        reasons.append(str(error))
    try:
        group = group_id(config.control.group)
    except ControlError as error:
        reasons.append(str(error))
    if config.vrrp and not privileges.holds(privileges.CAP_NET_ADMIN, privileges.CAP_NET_RAW):
        reasons.append("[vrrp.NAME] needs root, or CAP_NET_ADMIN and CAP_NET_RAW: addresses are to be moved")
    see_through = [service.name for service in config.services if service.transparent]
    if see_through and not transparent_sockets.possible():
        reasons.append(
            f"[service.{see_through[0]}] transparent needs root, CAP_NET_ADMIN or CAP_NET_RAW: "
            "sockets are to have the clients' addresses"
        )
    least = descriptors.least_files(config)
    if open_files < least:
        reasons.append(
            f"the limit of open files is {open_files}, this configuration with {config.node.workers} "
            f"workers needs {least}: raise it (ulimit -Hn, LimitNOFILE)"
        )
    if reasons:
        raise StartError("\n".join(reasons))
    return Standing(Identity(uid, gid, config.log.level, config.log.format), group)


async def own_state(config: Config, lock: int = -1) -> StateDirectory:
    """Return the state directory, locked, with what it remembers read; StartError where that cannot be had.

    `lock`, which is owned here, is the descriptor of a predecessor's lock on this directory.  A daemon that cannot read
    the saved acts of operators does not start, as it would ignore them.
    """
    state, path = None, Path(config.node.state_dir)
    try:
        state = StateDirectory.adopt(path, lock) if lock >= 0 else await StateDirectory.take(path, config.node.name)
        for name in (SAVED, STANDBY):
            await state.document(name).load()
        with contextlib.suppress(StateError):  # without it some changes are told again
            await state.document(NOTIFIED).load()
    except StateError as error:
        if state is not None:
            await state.close()
        raise StartError(f"node.state-dir: {error}") from error
    return state


def _children_user(name: str, warn: Callable[[str, str], None]) -> tuple[int | None, int | None]:
    if os.geteuid() != 0:
        return None, None
    if privileges.alone():
        warn("security", "children keep our user: this user namespace has no other")
        return None, None
    try:
        uid, gid = privileges.user_ids(name)
    except KeyError:
        raise StartError(f'node.user: this host has no user "{name}"') from None
    if uid == 0:
        raise StartError("node.user: workers must not run as root")
    if not privileges.can_become(uid, gid):
        raise StartError(f"node.user: {name} (uid {uid}) does not exist in this user namespace")
    return uid, gid
