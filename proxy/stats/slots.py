"""Assigns the blocks of the columns to services and backends [pure].

A block outlives its owner: a worker that has not yet received a reload still writes to it. So a slot is *assigned* by
the configuration and *held* by workers, and gets a new owner only when it is neither. The caller must make its cells
read as zero for the new owner (`Columns.forget`): `assign` returns the slots with new owners.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class SlotsFullError(Exception):
    """The configuration needs more blocks than the columns have, or than retiring workers have released."""


@dataclass(slots=True)
class _Slot(Generic[Key]):
    key: Key
    assigned: bool = True
    holders: set[Hashable] = field(default_factory=set)


class Slots(Generic[Key]):
    """Gives each key a slot from 0 to `capacity` - 1 and keeps it while the key or a worker needs it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._slots: dict[int, _Slot[Key]] = {}
        self._by_key: dict[Key, int] = {}
        self._freed: dict[int, int] = {}  # slot -> a growing number that tells when it lost its owner
        self._ends = 0

    def __getitem__(self, key: Key) -> int:
        """Return the slot of a configured key; raise KeyError for any other."""
        return self._by_key[key]

    def __contains__(self, key: Key) -> bool:
        return key in self._by_key

    def __len__(self) -> int:
        return len(self._slots)

    def key_at(self, slot: int) -> Key | None:
        """Return the configured key of a slot; None if it has none."""
        entry = self._slots.get(slot)
        return entry.key if entry is not None and entry.assigned else None

    def assign(self, keys: Iterable[Key]) -> list[int]:
        """Make `keys` the configured keys: a key that stays keeps its slot, a new one gets a free slot.

        An unused slot comes first, then the one that has been free for longest, so that stale references to its last
        owner, such as a client's template, hardly ever meet a new owner.  Returns the slots with new owners, whose
        cells must read as zero from now on. Raises SlotsFullError and changes nothing if there are too few slots.
        """
        new, leaving, taken = self._planned(keys)
        for key in leaving:
            slot = self._by_key.pop(key)
            self._ends += 1
            self._freed[slot] = self._ends
            self._slots[slot].assigned = False
            self._collect(slot)
        for key, slot in zip(new, taken, strict=True):
            self._slots[slot] = _Slot(key)
            self._by_key[key] = slot
        return taken

    def rows(self) -> list[tuple[Key, int, bool]]:
        """Return (key, slot, whether the key is configured) for every slot that is in use."""
        return [(entry.key, slot, entry.assigned) for slot, entry in self._slots.items()]

    def restore(self, rows: Iterable[tuple[Key, int, bool]], holder: Hashable) -> None:
        """Give keys the slots that they had in another daemon, where `holder` still uses them all.

        Rows that do not fit are left out.  Call it before the first `assign`.
        """
        for key, slot, assigned in rows:
            if 0 <= slot < self.capacity and slot not in self._slots and not (assigned and key in self._by_key):
                self._slots[slot] = _Slot(key, assigned, {holder})
                if assigned:
                    self._by_key[key] = slot

    def check(self, keys: Iterable[Key]) -> None:
        """Raise SlotsFullError if `assign` would; change nothing."""
        self._planned(keys)

    def hold(self, holder: Hashable) -> None:
        """Note that `holder`, a worker life, uses every slot assigned now, besides those it held before."""
        for slot in self._by_key.values():
            self._slots[slot].holders.add(holder)

    def settle(self, holder: Hashable) -> None:
        """Note that `holder` confirmed the configuration: it uses the slots assigned now, and no others."""
        self.release(holder)
        self.hold(holder)

    def release(self, holder: Hashable) -> None:
        """Note that `holder` is gone and uses no slots."""
        for slot in list(self._slots):
            self._slots[slot].holders.discard(holder)
            self._collect(slot)

    def _planned(self, keys: Iterable[Key]) -> tuple[list[Key], list[Key], list[int]]:
        """Return the new keys, those that lose their slots, and the slots for the new ones; SlotsFullError."""
        wanted = list(dict.fromkeys(keys))
        staying = set(wanted) & self._by_key.keys()
        new = [key for key in wanted if key not in staying]
        leaving = [key for key in self._by_key if key not in staying]
        kept = {
            slot for slot, entry in self._slots.items() if entry.holders or (entry.assigned and entry.key in staying)
        }
        freed = self._freed | {self._by_key[key]: self._ends + 1 for key in leaving}
        free = (slot for slot in range(self.capacity) if slot not in kept)
        taken = sorted(free, key=lambda slot: freed.get(slot, 0))[: len(new)]
        if len(taken) < len(new):
            raise SlotsFullError(
                f"{len(wanted)} configured, and {len(kept) - len(staying)} removed but still in use by workers: "
                f"the counters have room for {self.capacity} only: `steelyard reexec` makes room for more"
            )
        return new, leaving, taken

    def _collect(self, slot: int) -> None:
        entry = self._slots[slot]
        if not entry.assigned and not entry.holders:
            del self._slots[slot]
