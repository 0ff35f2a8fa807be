"""The acts of operators that both hosts of a pair have [pure].

Laws:

- The last act on a subject wins, by its stamp.  So any order, loss, repetition and replay of messages ends in the same
  acts on both hosts, once each has seen what the other has.
- `overrides clear` is a floor: acts up to its stamp are over, whenever they arrive.
- An act that ended on one host, because a file changed what it was about, is kept as `ended`: it still loses and wins
  against others, but a host that does not know it does not put it into force.
- Only the newest acts are kept, `MOST` of them.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from proxy.peer.clock import ZERO, AheadError, Clock, Stamp

MOST: Final = 4096
"""Acts that are kept."""

Text = Annotated[str, Field(max_length=400)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Part = Literal["admin", "member", "weight"]


class Key(NamedTuple):
    """What an act is about: the admin state, the presence or the weight of a backend."""

    part: Part
    service: Name
    backend: Name


class Entry(BaseModel):
    """An act.  `seen` is the stamp of the act on the same subject that its host knew then.

    `at` is in Unix seconds; `timeout` in seconds from then cuts a drain; `ended`: it is not in force any more.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    key: Key
    stamp: Stamp
    seen: Stamp = ZERO
    act: Literal["drain", "maint", "ready", "add", "remove", "weight"]
    by: Text
    at: float
    reason: Text | None = None
    weight: Annotated[int, Field(ge=0, le=65535)] | None = None
    timeout: Annotated[float, Field(ge=0, le=1e9)] | None = None
    saved: bool = False
    force: bool = False
    ended: bool = False

    @property
    def value(self) -> tuple[str, int | None]:
        """What it sets."""
        return self.act, self.weight

    @property
    def text(self) -> str:
        """The act in words."""
        return self.act if self.act != "weight" else f"weight {self.weight}"


PARTS: Final[Mapping[str, Part]] = {
    **dict.fromkeys(("drain", "maint", "ready"), "admin"),
    **dict.fromkeys(("add", "remove"), "member"),
    "weight": "weight",
}
"""The part of a backend that an act is about."""


class Crossing(NamedTuple):
    """Two acts on the same subject, of which neither host knew the other's."""

    winner: Entry
    loser: Entry


@dataclass(frozen=True, slots=True)
class Merged:
    """What a peer's acts change here: the acts to put into force, the acts that crossed, whether all before was cleared.

    `refused` says why acts were not taken.
    """

    news: list[Entry] = field(default_factory=list)
    crossed: list[Crossing] = field(default_factory=list)
    cleared: bool = False
    refused: str = ""

    @property
    def empty(self) -> bool:
        """Returns True if nothing changes."""
        return not (self.news or self.cleared)


class Acts:
    """The acts that the host `node` knows."""

    def __init__(self, node: str, most: int = MOST) -> None:
        self.node = node
        self.clock = Clock(node)
        self.floor = ZERO
        self._entries: dict[Key, Entry] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """Return the last act on a subject."""
        return self._entries.get(key)

    @property
    def entries(self) -> Collection[Entry]:
        """All acts."""
        return self._entries.values()

    def add(self, entry: Entry, now: int) -> Entry:
        """Take an act of this host, of which the stamps are set here; returns it with them."""
        before = self._entries.get(entry.key)
        stamps = {"stamp": self.clock.tick(now), "seen": ZERO if before is None else before.stamp}
        entry = entry.model_copy(update=stamps)
        self._keep(entry)
        return entry

    def clear(self, now: int) -> None:
        """End all acts."""
        self._raise_floor(self.clock.tick(now))

    def end(self, key: Key) -> None:
        """Note that the act on a subject is not in force here any more, though nobody has acted."""
        entry = self._entries.get(key)
        if entry is not None and not entry.ended:
            self._entries[key] = entry.model_copy(update={"ended": True})

    def restore(self, floor: Stamp, entries: Iterable[Entry]) -> None:
        """Take what this host has known before."""
        self.floor = max(self.floor, floor)
        self.clock.restore(self.floor)
        for entry in entries:
            self.clock.restore(entry.stamp)
            if self._is_newer(entry):
                self._keep(entry)

    def merge(self, floor: Stamp, entries: Iterable[Entry], now: int) -> Merged:
        """Take what a peer knows."""
        merged, cleared = Merged(), False
        try:
            self.clock.observe(floor, now)
        except AheadError as error:
            return Merged(refused=str(error))
        if floor > self.floor:
            cleared = True
            self._raise_floor(floor)
        refused = ""
        for entry in entries:
            try:
                self.clock.observe(entry.stamp, now)
            except AheadError as error:
                refused = str(error)
                continue
            self._take(entry, merged)
        return Merged(merged.news, merged.crossed, cleared, refused)

    def _take(self, entry: Entry, merged: Merged) -> None:
        before = self._entries.get(entry.key)
        if before is not None and before.stamp != entry.stamp and before.value != entry.value:
            older, newer = sorted((before, entry), key=lambda one: one.stamp)
            if newer.seen < older.stamp and older.stamp > self.floor:
                merged.crossed.append(Crossing(newer, older))
        if not self._is_newer(entry):
            return
        if before is not None and not before.ended:
            entry = entry.model_copy(update={"ended": False})  # what it replaces is in force here
        self._keep(entry)
        if not entry.ended and entry.key in self._entries:
            merged.news.append(entry)

    def _is_newer(self, entry: Entry) -> bool:
        before = self._entries.get(entry.key)
        return entry.stamp > self.floor and (before is None or entry.stamp > before.stamp)

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        if len(self._entries) > self._most:
            del self._entries[min(self._entries.values(), key=lambda one: one.stamp).key]

    def _raise_floor(self, floor: Stamp) -> None:
        self.floor = floor
        self._entries = {key: entry for key, entry in self._entries.items() if entry.stamp > floor}

    # -- catching up

    def digest(self) -> str:
        """Return a text that is equal on two hosts if they know the same acts."""
        lines = sorted(f"{entry.key} {entry.stamp}" for entry in self._entries.values())
        return hashlib.sha256("\n".join([str(self.floor), *lines]).encode()).hexdigest()[:32]

    def stamps(self) -> list[tuple[Key, Stamp]]:
        """Return what this host knows, to be told what it does not."""
        return [(key, entry.stamp) for key, entry in self._entries.items()]

    def missing(self, known: Iterable[tuple[Key, Stamp]]) -> list[Entry]:
        """Return the acts that a host does not know, which knows these, oldest first."""
        theirs = dict(known)
        found = [entry for key, entry in self._entries.items() if entry.stamp > theirs.get(key, ZERO)]
        return sorted(found, key=lambda one: one.stamp)

    # -- over a restart

    def rows(self) -> dict[str, Any]:
        """Return all as JSON."""
        return {
            "version": 1,
            "floor": list(self.floor),
            "acts": [entry.model_dump(mode="json") for entry in self._entries.values()],
        }
