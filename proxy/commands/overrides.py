"""The commands `overrides` and `overrides clear`: show and undo what differs from the file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from proxy.backends.errors import refuse_to_strand
from proxy.commands.arguments import answered, flag
from proxy.commands.membership import edit
from proxy.commands.pair import ALONE, Sharing, told

if TYPE_CHECKING:
    from proxy.backends.admin import Admins
    from proxy.backends.membership import Membership
    from proxy.backends.readiness import Readiness
    from proxy.control.server import Request


class OverrideCommands:
    """The handlers of `overrides` and `overrides clear`."""

    def __init__(
        self, admins: "Admins", membership: "Membership", readiness: "Readiness", partner: Sharing = ALONE
    ) -> None:
        self._partner = partner
        self._readiness = readiness
        self._admins = admins
        self._membership = membership

    def overrides(self, _: "Request") -> Mapping[str, Any]:
        """Answer `overrides`: a row for each backend that differs from the file."""
        return {"overrides": self._rows()}

    async def clear(self, request: "Request") -> Mapping[str, Any]:
        """Answer `overrides clear`: restore the file's settings; with `force` even if no backend can serve then."""
        changed = bool(self._rows())
        author, force = edit(request), flag(request, "force")
        with answered():
            refuse_to_strand(() if force else self._readiness.stranded_by_file())
            await self._membership.clear(author)
        peer = None if flag(request, "here") else await self._partner.share_clear()
        return {"overrides": self._rows(), "changed": changed, **told(peer)}

    def _rows(self) -> list[dict[str, Any]]:
        return [*self._admins.rows(), *self._membership.rows()]
