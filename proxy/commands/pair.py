"""The commands about the other host of the pair, and what it says to those of this host."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.control.wire import BAD_REQUEST, ControlError
from proxy.peer_questions import NoAnswerError

if TYPE_CHECKING:
    from proxy.config.model import BackendKey
    from proxy.control.server import Request
    from proxy.partner import Partner
    from proxy.peer_questions import Questions

NO_PAIR: Final = "there is no [pair] in the file: this host has no link to another one"


class PairCommands:
    """The handlers of `pair status` and `pair diff`."""

    def __init__(self, partner: "Partner", questions: "Questions") -> None:
        self._partner = partner
        self._questions = questions

    def status(self, _: "Request") -> Mapping[str, Any]:
        """Answer `pair-status`: the state of the link and of the peer."""
        found = self._partner.status()
        if found is None:
            raise ControlError(NO_PAIR, BAD_REQUEST)
        return {"pair": found}

    async def diff(self, _: "Request") -> AsyncIterator[Mapping[str, Any]]:
        """Answer `pair-diff`: a line for each host, and one for each file of each host."""
        if self._partner.status() is None:
            raise ControlError(NO_PAIR, BAD_REQUEST)
        try:
            hosts = await self._questions.files()
        except NoAnswerError as error:
            raise ControlError(str(error)) from None
        for host in hosts:
            files = host.get("files")
            yield {"host": {name: host.get(name) for name in ("node", "version", "sha256")}, "more": True}
            for row in files if isinstance(files, list) else ():
                yield {"file": row, "more": True}
        yield {"more": False}


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
