"""The commands `drain`, `maint` and `ready`."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.admin_acts import ADMINS, Act
from proxy.backends.effective import written
from proxy.backends.errors import refuse_to_strand
from proxy.commands.arguments import answered, flag, seconds, text
from proxy.commands.find import find_keys
from proxy.commands.pair import ALONE, Sharing, told
from proxy.control.wire import BAD_REQUEST, ControlError

if TYPE_CHECKING:
    from proxy.backends.admin import Admins
    from proxy.backends.effective import Running
    from proxy.backends.readiness import Readiness
    from proxy.config.model import BackendKey
    from proxy.control.server import Handler, Request

LOOK: Final = 0.1  # s between two checks whether a drained backend is empty


def admin_handler(running: "Running", admins: "Admins", readiness: "Readiness", partner: Sharing = ALONE) -> "Handler":
    """Return the handler of `drain`, `maint` and `ready`: `service` ("*" for every one), `backend` by name or address.

    `timeout` in seconds cuts what is left of a drain, earlier than drain-timeout; `wait` answers when nothing is open;
    The other host of the pair has it as well, unless `here`.  `reason` in words; `save` to survive a restart; `force` takes the last that could serve as well.
    """

    async def answer(request: "Request") -> AsyncIterator[Mapping[str, Any]]:
        wanted = ADMINS[request.command]
        keys = find_keys(running.services, request.arguments.get("service"), request.arguments.get("backend"))
        if wanted == "ready":
            keys = _staying(admins, keys)
        reason, timeout = text(request, "reason"), seconds(request, "timeout")
        save, wait, force, here = (flag(request, name) for name in ("save", "wait", "force", "here"))

        def check(keys: "Collection[BackendKey]") -> None:
            if wanted != "ready" and not force:
                refuse_to_strand(readiness.stranded_by(keys))

        act = Act(wanted, f"uid {request.uid}", reason, time.time(), save)
        with answered():
            changed = await admins.act(keys, act, timeout, check)
        peer = None
        if not here:
            peer = await partner.share(wanted, keys, act.by, reason=reason, saved=save, timeout=timeout)
        if wait and wanted != "ready":
            longest = max((running.services[key[0]].drain_timeout for key in keys), default=0.0)
            limit = min(longest, math.inf if timeout is None else timeout)
            yield {"timeout": None if limit == math.inf else limit, "more": True}
            while any(admins.waits(key, wanted) for key in keys):  # noqa: ASYNC110 - shared counters
                await asyncio.sleep(LOOK)
        rows = [admins.row(key) for key in keys if key in running.backends]
        yield {"backends": rows, "changed": changed, **told(peer), "more": False}

    return answer


def _staying(admins: "Admins", keys: "list[BackendKey]") -> "list[BackendKey]":
    """Return the backends that are not to be removed; raises ControlError if all of them are."""
    staying = [key for key in keys if not admins.leaves(key)]
    if not staying:
        leaving = ", ".join(map(written, keys))
        raise ControlError(f"{leaving}: to be removed; `steelyard add` keeps it", BAD_REQUEST)
    return staying
