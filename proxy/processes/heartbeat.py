"""How long a process has been silent, by what its watcher saw itself.  Pure.

Laws:
- A beat that differs from the last one ends the silence, whatever it says.
- Silence grows by the time between two looks, but never by more than LOOK for one of them: a watcher that was itself
  stopped, or a machine that stood still as a whole, says nothing about the one that is watched.
"""

LOOK = 0.25  # s: the most that one look adds; the looks are meant to come each 0.1 s


class Pulse:
    """The heartbeat of one process, as one watcher sees it."""

    __slots__ = ("_beat", "_looked", "_silence")

    def __init__(self) -> None:
        self._beat: int | None = None
        self._looked = 0.0
        self._silence = 0.0

    def silence(self, beat: int, now: float) -> float:
        """Look: `beat` changes while the process lives, `now` is in monotonic seconds; how long it has not (s)."""
        if beat != self._beat:
            self._silence = 0.0
        else:
            self._silence += min(max(now - self._looked, 0.0), LOOK)
        self._beat = beat
        self._looked = now
        return self._silence
