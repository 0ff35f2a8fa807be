"""The numbers of signed adverts of all routers of this host: those that it has used, and those that it has seen."""

from collections.abc import Callable, Mapping

from vrrp.numbers import Keeper, Numbers, Store
from vrrp.packet import IPAddress
from vrrp.roster import Roster
from vrrp.settings import RouterSettings, Settings

_FILE = 0.5  # s that the numbers may take to be read or written


class SignedNumbers:
    """Keeps the numbers in `store` from the first router on that signs; `tell(name, words)` reports to people."""

    def __init__(self, store: Store | None, roster: Roster, tell: Callable[[str, str], None]) -> None:
        self._store = store
        self._roster = roster
        self._tell = tell
        self._keeper: Keeper | None = None
        self._stored = Numbers()
        self._following = False
        self._highest = 0

    @property
    def sent(self) -> int:
        """The highest number that this host has stored or shown."""
        return max(self._stored.sent, self._highest)

    def seen(self, settings: RouterSettings, family: int) -> Mapping[IPAddress, int] | None:
        """Return the highest stored number of each sender to a router."""
        return self._stored.seen.get(_place(settings, family))

    async def load(self, settings: Settings) -> None:
        """Read the stored numbers once the first router signs its adverts."""
        if self._store is None or self._keeper is not None or all(one.auth.mode == "off" for one in settings.routers):
            return
        self._keeper = Keeper(self._store, lambda words: self._tell("auth", words))
        self._stored = await self._keeper.load(_FILE)
        for instance in self._roster.instances.values():
            seen = self._stored.seen.get(_place(instance.settings, instance.family), {})
            instance.signing.know(self._stored.sent, seen)

    def follow(self) -> None:
        """Store the numbers from now on, if they were read."""
        if self._keeper is not None and not self._following:
            self._following = True
            self._keeper.follow(self._present)

    def abandon(self) -> None:
        """Write nothing any more: another process of this host does."""
        self._keeper = None

    async def close(self) -> None:
        """Write the last numbers, and stop."""
        if self._keeper is not None:
            await self._keeper.close(_FILE)

    def _present(self) -> Numbers:
        instances = self._roster.instances.values()
        seen = {_place(one.settings, one.family): dict(one.signing.seen) for one in instances if one.signing.seen}
        self._highest = max((self._highest, *(one.signing.sent for one in instances)))
        return Numbers(self._highest, seen)


def _place(settings: RouterSettings, family: int) -> str:
    """Return the key of a router in the stored numbers; it does not depend on the router's name."""
    return f"{settings.interface}/{settings.vrid}/{family}"
