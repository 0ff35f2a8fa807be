"""Reacts when another process of this host claims a router of this one, or gives a router up (vrrp/claims.py)."""

from collections.abc import Callable, Collection, Iterator

from vrrp.claims import Claims
from vrrp.events import Event, Fault, FaultCleared
from vrrp.instance import Instance
from vrrp.roster import Pair, Roster
from vrrp.router import Router
from vrrp.settings import Key

_TAKEN = "taken over by"


class Rivals:
    """Puts a router into fault while another process has claimed it.

    `feed(router, event)` hands an event over; `on_tell(name, words)` reports to people; `on_taken()` is called when
    other processes have claimed all of our routers.
    """

    def __init__(
        self,
        roster: Roster,
        feed: Callable[[Router, Event], None],
        on_tell: Callable[[str, str], None],
        on_taken: Callable[[], None],
    ) -> None:
        self._claims = Claims((), on_lost=self._lost, on_regained=self._regained, on_taken=self._took)
        self._roster = roster
        self._feed = feed
        self._on_tell = on_tell
        self._on_taken = on_taken

    def claim(self, keys: Collection[Key]) -> None:
        """Claim these routers; if that fails, report it."""
        self._claims.change(keys)
        try:
            self._claims.take()
        except OSError as error:
            self._on_tell(
                "process",
                f"the routers cannot be claimed, so another process of this host with the same routers would go unnoticed: {error}",
            )

    def change(self, keys: Collection[Key]) -> None:
        """Claim these routers and no others."""
        self._claims.change(keys)

    @property
    def taken(self) -> bool:
        """Whether other processes of this host have claimed all of our routers."""
        return self._claims.all_lost

    def spare(self, instance: Instance) -> bool:
        """Return True if no other process of this host has claimed an instance's router."""
        return self._claims.held(instance.key)

    def close(self) -> None:
        """Give up all claims."""
        self._claims.close()

    def _claimed(self, key: Key) -> Iterator[Pair]:
        """Yield the router of a claim, or nothing if the router does not exist yet."""
        instance = self._roster.on_wire(key)
        if instance is not None:
            yield self._roster.router_of(instance), instance

    def _lost(self, key: Key, pid: int) -> None:
        for router, instance in self._claimed(key):
            instance.abandon()
            self._feed(router, Fault(_taken_by(pid)))
        if self._claims.all_lost:
            self._on_taken()

    def _regained(self, key: Key) -> None:
        for router, _ in self._claimed(key):
            for cause in [one for one in router.faults if one.startswith(_TAKEN)]:
                self._feed(router, FaultCleared(cause))

    def _took(self, keys: Collection[Key], pid: int) -> None:
        for key in sorted(keys):
            for _, instance in self._claimed(key):
                text = f"IPv{instance.family}: taken over from process {pid} of this host, which no longer acts for it"
                self._on_tell(instance.settings.name, text)


def _taken_by(pid: int) -> str:
    """Return the fault of a router that another process has claimed; 0 is a process that we cannot see."""
    return f"{_TAKEN} process {pid} of this host" if pid else f"{_TAKEN} another process of this host"
