"""The verdicts of the other host, and what they are good for [pure].

Laws:

- A message whose number is not above the last one's changes nothing.  After a gap the peer is asked for all.
- `seen_up` says that the peer sees a backend up.  It never says that one is down: the peer's word alone takes no
  backend out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from proxy.peer.framing import LARGEST
from proxy.peer.messages import CHUNK, VerdictRow, Verdicts

ROOM: Final = LARGEST - (1 << 10)
"""Octets of a message for rows."""
ROW: Final = 128
"""Octets of a row besides its texts, of which a character takes four at most: none of them is a control character."""
MOST: Final = 100_000
"""Backends of which the peer's verdict is kept."""

Key = tuple[str, str]


class PeerVerdicts:
    """What the peer sees."""

    def __init__(self) -> None:
        self._rows: dict[Key, VerdictRow] = {}
        self._number = 0
        self._whole = False

    def restart(self) -> None:
        """Forget all: another life of the peer, or another connection, counts anew."""
        self._rows, self._number, self._whole = {}, 0, False

    @property
    def whole(self) -> bool:
        """Returns True if nothing is missing that was sent."""
        return self._whole

    def is_behind(self, number: int) -> bool:
        """Returns True if the peer has sent more than has come, by the number of its last message."""
        return not self._whole or number > self._number

    def take(self, message: Verdicts) -> set[Key]:
        """Take a message; returns the backends of which something has changed."""
        if message.number <= self._number:
            return set()
        gap = message.number > self._number + 1
        self._number = message.number
        changed: set[Key] = set()
        if message.first:
            changed = set(self._rows)
            self._rows, self._whole = {}, True
        elif gap:
            self._whole = False
        for row in message.rows:
            key = (row.service, row.backend)
            if key in self._rows or len(self._rows) < MOST:
                self._rows[key] = row
                changed.add(key)
        return changed

    def get(self, key: Key) -> VerdictRow | None:
        """Return the peer's verdict on a backend."""
        return self._rows.get(key)

    def seen_up(self, key: Key) -> bool:
        """Returns True if the peer sees a backend up."""
        row = self._rows.get(key)
        return self._whole and row is not None and row.state in {"up", "reserve"}


class OurVerdicts:
    """What the peer was told of ours: only changes are sent."""

    def __init__(self) -> None:
        self._sent: dict[Key, VerdictRow] = {}
        self.number = 0
        """Of the last message."""

    def restart(self) -> None:
        """Send all the next time."""
        self._sent = {}
        self.number = 0

    def again(self) -> None:
        """Send all the next time, on the same connection."""
        self._sent = {}

    def news(self, rows: Mapping[Key, VerdictRow]) -> Iterator[Verdicts]:
        """Yield the messages that tell the peer what has changed since the last call."""
        first = not self._sent or not self._sent.keys() <= rows.keys()
        changed = [row for key, row in rows.items() if first or self._sent.get(key) != row]
        self._sent = dict(rows)
        if not (changed or first):
            return
        for part in parts(changed):
            self.number += 1
            yield Verdicts(number=self.number, first=first, rows=tuple(part))
            first = False


def parts(rows: Sequence[VerdictRow]) -> Iterable[Sequence[VerdictRow]]:
    """Cut rows into what a message has room for, by their number and by their octets; at least one part."""
    part: list[VerdictRow] = []
    room = ROOM
    for row in rows:
        size = ROW + 4 * (len(row.service) + len(row.backend) + len(row.reason))
        if part and (size > room or len(part) == CHUNK):
            yield part
            part, room = [], ROOM
        part.append(row)
        room -= size
    yield part
