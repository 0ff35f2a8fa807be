"""Runs a daemon: finds what it begins with, and refuses in order if it cannot begin."""

import contextlib
from asyncio import CancelledError
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.config.model import Config
from proxy.host import privileges
from proxy.host.service_manager import ServiceManager
from proxy.master import Master
from proxy.start import StartError, own_state, standing
from proxy.succession import taking_over
from proxy.succession.document import DocumentError
from proxy.succession.keeping import Kept
from proxy.succession.predecessor import NoPredecessorError, Predecessor

if TYPE_CHECKING:
    from proxy.succession.legacy import Legacy


async def serve(
    config: Config, node: str | None, manager: ServiceManager, predecessor: Predecessor | None = None
) -> None:
    """Run a daemon in this process, in the place of another one if there is one; StartError if it cannot begin.

    It runs under this service manager.  `node` is the value of `--node`, for a reload.
    """
    try:
        await _serve(config, node, manager, predecessor)
    except StartError as error:
        if predecessor is not None:
            predecessor.refuse(str(error), 1)
        raise


async def _serve(config: Config, node: str | None, manager: ServiceManager, predecessor: Predecessor | None) -> None:
    warnings: list[tuple[str, str]] = []
    ours = standing(config, privileges.raise_open_files(), lambda kind, text: warnings.append((kind, text)))
    lock = -1
    legacy: Legacy | None = predecessor or _kept(manager, lambda text: warnings.append(("start", text)))
    if predecessor is not None:
        try:
            inherited = await predecessor.receive()
        except NoPredecessorError as error:
            raise StartError(str(error)) from error
        if taking_over.is_same_directory(inherited, config):
            lock = predecessor.take("lock")
    state = await own_state(config, lock)
    try:
        master = Master(config, ours, state, warnings, node, manager, legacy)
        with contextlib.suppress(CancelledError):
            await master.run()
    finally:
        await state.close()
        manager.close()


def _kept(manager: ServiceManager, warn: Callable[[str], None]) -> Kept | None:
    """Return what a service manager has kept of the daemon before this one; None if there is nothing that can be used."""
    if not manager.restored:
        return None
    try:
        return Kept(manager.restored)
    except DocumentError as error:
        for name in manager.restored:
            manager.unstore(name)
        warn(str(error))
        return None
