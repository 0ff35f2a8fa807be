"""maglev (ipvsadm: mh): consistent hashing by lookup table (Eisenbud et al., NSDI 2016, section 3.4).

The table is laid out over all configured backends, from their names and weights alone, so every host and worker has the
same one. Each backend walks the slots in its own order and takes the next free one at each of its turns; its weight is
the number of turns. If the set of configured backends or a weight changes, few more keys move than necessary.

A verdict does not change the layout: only the slots of an unusable backend are given away, each to the owner of the
slot that its hash leads to. Exactly the keys of that backend move, spread by weight over all others, and come back with
it. The cost is proportional to the number of these slots, about 1 us each.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.hashing import rehash
from proxy.balance.source_hash import by_name, first_left
from proxy.balance.trivial import Heedless

SIZES: Final = ((64, 4093), (1024, 16381), (4096, 65521), (16384, 262139))
"""(the most configured backends, number of slots): each number is a prime, and at least 16 a backend. The number of
configured backends, not of usable ones, sets the size, because another size moves nearly every key. Layout takes about
size x ln(size) steps: 2 ms, 10 ms, 50 ms."""

HOPS: Final = 6
"""The most slots that a slot without owner, or a retry, tries before it is hashed over the usable backends only."""

FEW: Final = 4
"""If fewer than one in this many backends are usable, slots are hashed over the usable ones at once: trying would take
long, and would keep few displaced keys in place."""


class Layout:
    """The owner of each slot if all backends are usable; successive selectors share it."""

    __slots__ = ("_slots", "backends", "owners", "weights")

    def __init__(self, backends: tuple[Backend, ...]) -> None:
        self.backends = backends
        self.weights = tuple(backend.weight for backend in backends)
        size = next((size for most, size in SIZES if len(backends) <= most), SIZES[-1][1])
        places = populate([backend.name for backend in backends], quotas(self.weights, size), size)
        self.owners = tuple(map(backends.__getitem__, places))
        slots: list[list[int]] = [[] for _ in backends]
        for slot, place in enumerate(places):
            slots[place].append(slot)
        self._slots = tuple(map(tuple, slots))

    def without(self, usable: frozenset[Backend]) -> tuple[Backend, ...]:
        """Return the owners of all slots if only `usable` backends may own slots."""
        owners = self.owners
        size = len(owners)
        left = tuple([backend for backend in self.backends if backend in usable])
        if len(left) == 1:
            return left * size
        ends = tuple(accumulate([backend.weight for backend in left]))
        total = ends[-1]
        table = list(owners)
        hops = range(HOPS if len(left) * FEW >= len(self.backends) else 0)
        for backend, slots in zip(self.backends, self._slots, strict=True):
            if backend in usable:
                continue
            for slot in slots:
                key = slot
                for _ in hops:
                    key = rehash(key)
                    owner = owners[key % size]
                    if owner in usable:
                        break
                else:
                    owner = left[bisect_right(ends, rehash(key) % total)]
                table[slot] = owner
        return tuple(table)


class Maglev(Heedless):
    """Consistent hashing by table. O(1)."""

    __slots__ = ("_layout", "_size", "_table")

    needs_key = True

    def __init__(
        self, usable: Sequence[Backend], configured: Sequence[Backend], previous: "Maglev | None" = None
    ) -> None:
        members = frozenset(usable)
        super().__init__(by_name(members))
        layout = by_name(members.union(configured))
        self._layout: Layout
        if previous is not None and previous.holds_for(layout):
            self._layout = previous._layout  # noqa: SLF001 - its own class
        else:
            self._layout = Layout(layout)
        self._table = self._layout.owners if len(members) == len(layout) else self._layout.without(members)
        self._size = len(self._table)

    def holds_for(self, backends: tuple[Backend, ...]) -> bool:
        """Return True if the layout is that of these backends with their weights."""
        layout = self._layout
        return layout.backends == backends and layout.weights == tuple(backend.weight for backend in backends)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the key's backend, or its next one: always the same for the same key, `exclude` and members."""
        backend = self._table[key % self._size]
        return self._next(key, exclude) if backend in exclude else backend

    def _next(self, key: int, exclude: Collection[Backend]) -> Backend | None:
        for _ in range(HOPS):
            key = rehash(key)
            backend = self._table[key % self._size]
            if backend not in exclude:
                return backend
        count = len(self.backends)
        return first_left(self.backends, rehash(key) % count, exclude)


def quotas(weights: Sequence[int], size: int) -> list[int]:
    """Return how many of `size` slots each weight gets: its share, rounded by largest remainder, at least 1."""
    total = sum(weights)
    shares = [max(1, weight * size // total) for weight in weights]
    remainders = sorted(range(len(weights)), key=lambda place: (-(weights[place] * size % total), place))
    missing = size - sum(shares)
    for place in remainders[: max(0, missing)]:
        shares[place] += 1
    while missing < 0:  # the least shares were rounded up to 1: the greatest share pays, because it changes least
        place = shares.index(max(shares))
        paid = min(-missing, max(1, shares[place] // 2))
        shares[place] -= paid
        missing += paid
    return shares


def populate(names: Sequence[str], shares: Sequence[int], size: int) -> list[int]:
    """Return the place of the owner of each slot. `size` is a prime and the sum of `shares`; `names` are sorted.

    Turns are taken in rounds of about one turn each, in which every backend gets part of its share: so no backend gets
    only the last free slots.
    """
    at = []
    steps = []
    for name in names:
        digest = blake2b(name.encode(), digest_size=16).digest()
        at.append(int.from_bytes(digest[:8], "big") % size)
        steps.append(int.from_bytes(digest[8:], "big") % (size - 1) + 1)
    table = [-1] * size
    taken = bytearray(size)
    rounds = max(1, size // len(names))
    for turn in range(rounds):
        for place, share in enumerate(shares):
            for _ in range(share * (turn + 1) // rounds - share * turn // rounds):
                slot = at[place]
                step = steps[place]
                while taken[slot]:
                    slot += step
                    if slot >= size:
                        slot -= size
                taken[slot] = 1
                table[slot] = place
                at[place] = slot
    return table
