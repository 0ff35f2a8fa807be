"""The commands `standby`, `resume` and `is-active`."""

import math
from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING, Any

from proxy.commands.arguments import answered
from proxy.control.wire import BAD_REQUEST, UNKNOWN_NAME, ControlError

if TYPE_CHECKING:
    from proxy.control.server import Request
    from proxy.pair.pair import Redundancy
    from proxy.pair.routers import Routers


class StandbyCommands:
    """The handlers of `standby`, `resume` and `is-active`."""

    def __init__(self, pair: "Redundancy") -> None:
        self._pair = pair

    async def standby(self, request: "Request") -> AsyncIterator[Mapping[str, Any]]:
        """Answer `standby`: hand over the addresses of `vrrp` (all by default), after at most `drain` seconds."""
        routers, names = self._asked(request)
        drain = request.arguments.get("drain", 0.0)
        if isinstance(drain, bool) or not isinstance(drain, int | float) or not 0 <= drain < math.inf:
            raise ControlError("drain must be a number of seconds", BAD_REQUEST)
        yield {"timeout": drain + self._pair.patience, "more": True}
        with answered():
            changed, left = await self._pair.standby(names, drain, _who(request))
        if left:
            raise ControlError(f"no other host has taken the addresses of {', '.join(left)}: they stay here")
        yield {**_answer(routers, names), "changed": changed, "more": False}

    async def resume(self, request: "Request") -> Mapping[str, Any]:
        """Answer `resume`: let the routers of `vrrp` (all by default) take their addresses again."""
        routers, names = self._asked(request)
        with answered():
            changed = await self._pair.resume(names, _who(request))
        return {**_answer(routers, names), "changed": changed}

    def is_active(self, request: "Request") -> Mapping[str, Any]:
        """Answer `is-active`: whether the addresses of `vrrp` (all by default) are here."""
        routers, _ = self._asked(request)
        wanted = request.arguments.get("vrrp")
        names = {wanted} if isinstance(wanted, str) else set(routers.names)
        answer = _answer(routers, names)
        return {**answer, "active": all(one["state"] == "active" for one in answer["vrrp"])}

    def _asked(self, request: "Request") -> "tuple[Routers, set[str]]":
        """Return the routers, and the names that a command is about: those of a sync group move together."""
        routers = self._pair.routers
        if routers is None:
            raise ControlError("this daemon has no [vrrp.NAME]: there is no address to move", UNKNOWN_NAME)
        wanted = request.arguments.get("vrrp")
        known = routers.names
        if wanted is None:
            return routers, set(known)
        if wanted not in known:
            raise ControlError(f"there is no [vrrp.{str(wanted)[:60]}]: only {', '.join(known[:10])}", UNKNOWN_NAME)
        return routers, self._pair.moving_with(wanted)


def _answer(routers: "Routers", names: Collection[str]) -> dict[str, Any]:
    return {
        "vrrp": [
            {"name": name, "state": state, "standby": name in routers.in_standby}
            for name, state in routers.states.items()
            if name in names
        ]
    }


def _who(request: "Request") -> str:
    return f"uid {request.uid} (pid {request.pid})"
