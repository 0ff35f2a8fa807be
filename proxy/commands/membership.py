"""The commands `add`, `remove` and `weight`."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.edits import Edit
from proxy.backends.membership import Membership
from proxy.commands.arguments import answered, flag
from proxy.commands.find import find_backends, find_service
from proxy.commands.pair import ALONE, Sharing, told
from proxy.config.model import MOST_WEIGHT, BackendKey
from proxy.control.wire import BAD_REQUEST, ControlError

if TYPE_CHECKING:
    from proxy.backends.admin import Admins
    from proxy.backends.effective import Running
    from proxy.control.server import Request

_WEIGHT: Final = f"weight must be a whole number from 0 to {MOST_WEIGHT}"


class MembershipCommands:
    """The handlers of `add`, `remove` and `weight`; each takes `save`, to survive a restart, and `here`, for this host alone."""

    def __init__(self, running: "Running", admins: "Admins", membership: Membership, partner: Sharing = ALONE) -> None:
        self._partner = partner
        self._running = running
        self._admins = admins
        self._membership = membership

    async def add(self, request: "Request") -> Mapping[str, Any]:
        """Answer `add`: a backend at `address` for a `service`, with `weight` if given; a removed one comes back."""
        service = find_service(self._running.services, request.arguments.get("service"))
        address = request.arguments.get("address")
        if not isinstance(address, str):
            raise ControlError("address must be a text", BAD_REQUEST)
        with answered():
            key, changed = await self._membership.add(service.name, address, _weight(request), edit(request))
        return await self._answer(request, [key], changed=changed, weight=_weight(request))

    async def remove(self, request: "Request") -> Mapping[str, Any]:
        """Answer `remove`: a `backend` of a `service`.  `force` cuts its connections, and removes even the last one."""
        service = find_service(self._running.services, request.arguments.get("service"))
        wanted, force = request.arguments.get("backend"), flag(request, "force")
        listed = any(wanted in (one.name, one.address) for one in service.backends)
        names = [] if listed else self._membership.removed(service.name, wanted)
        names = names or sorted({one.name for one in find_backends(service, wanted)})
        with answered():
            changed = await self._membership.remove(service.name, names, edit(request), force=force)
        return await self._answer(request, [(service.name, name) for name in names], changed=changed, force=force)

    async def weight(self, request: "Request") -> Mapping[str, Any]:
        """Answer `weight`: a `backend` of a `service` has this `weight` from now on, whatever its probe asks for.

        `force` gives 0 to the last that could serve as well.
        """
        service = find_service(self._running.services, request.arguments.get("service"))
        weight = _weight(request)
        if weight is None:
            raise ControlError(_WEIGHT, BAD_REQUEST)
        keys = [(service.name, one.name) for one in find_backends(service, request.arguments.get("backend"))]
        with answered():
            changed = await self._membership.weigh(keys, weight, edit(request), force=flag(request, "force"))
        return await self._answer(request, keys, changed=changed, weight=weight)

    async def _answer(
        self, request: "Request", keys: Sequence[BackendKey], *, changed: bool, **shared: Any
    ) -> dict[str, Any]:
        """Have the other host do the same, and say what is so now."""
        peer, here = None, edit(request)
        if not flag(request, "here"):
            peer = await self._partner.share(request.command, keys, here.by, saved=here.saved, **shared)
        rows = [
            {
                "service": key[0],
                "backend": key[1],
                "weight": self._running.backends[key].weight,
                "admin": self._admins.state(key),
                "leaving": self._admins.leaves(key),
                "active": self._membership.active(key),
            }
            for key in keys
            if key in self._running.backends
        ]
        return {"backends": rows, "changed": changed, **told(peer)}


def edit(request: "Request") -> Edit:
    """Return the author and the time of a change, and whether it is to be saved."""
    return Edit(f"uid {request.uid}", time.time(), flag(request, "save"))


def _weight(request: "Request") -> int | None:
    value = request.arguments.get("weight")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_WEIGHT:
        raise ControlError(_WEIGHT, BAD_REQUEST)
    return value
