"""The commands about the other host of the pair, and what it says to those of this host."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.control.wire import BAD_REQUEST, ControlError

if TYPE_CHECKING:
    from proxy.config.model import BackendKey
    from proxy.control.server import Request
    from proxy.partner import Partner

NO_PAIR: Final = "there is no [pair] in the file: this host has no link to another one"


class PairCommands:
    """The handlers of `pair status` and `pair diff`."""

    def __init__(self, partner: "Partner") -> None:
        self._partner = partner

    def status(self, _: "Request") -> Mapping[str, Any]:
        """Answer `pair-status`: the state of the link and of the peer."""
        found = self._partner.status()
        if found is None:
            raise ControlError(NO_PAIR, BAD_REQUEST)
        return {"pair": found}


class Sharing(Protocol):
    """Has the other host of the pair do what an operator has done here, as `Partner` does."""

    async def share(self, command: str, keys: "Sequence[BackendKey]", by: str, **more: Any) -> dict[str, Any] | None:
        """Share an act; returns what the peer says, None if there is none."""

    async def share_clear(self) -> dict[str, Any] | None:
        """Share that all acts have ended."""


class Alone:
    """Shares nothing: for a host without a pair."""

    async def share(self, command: str, keys: "Sequence[BackendKey]", by: str, **more: Any) -> None:
        """Do nothing."""

    async def share_clear(self) -> None:
        """Do nothing."""


ALONE: Final = Alone()


def told(peer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what an answer says of the peer: nothing without a pair."""
    return {} if peer is None else {"peer": dict(peer)}
