"""The whole picture as lines: what `--once` prints, and what the shell shows part by part [pure]."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.dashboard import head, table, tail
from proxy.dashboard.history import History
from proxy.dashboard.rows import View, rows
from proxy.dashboard.tail import Event
from proxy.dashboard.text import UNICODE, Glyphs, Line
from proxy.status.schema import Status


@dataclass(slots=True)
class Scene:
    """Everything that a picture shows. `now` and `taken` are Unix seconds: of the picture, and of its snapshot."""

    history: History = field(default_factory=History)
    status: Status | None = None
    events: Sequence[Event] = ()
    taken: float = 0.0
    now: float = 0.0
    away: str = ""
    """Why no newer snapshot came; "" while the daemon answers."""
    events_away: str = ""
    """Why there are no events, while there are snapshots."""
    said: tuple[str, bool] | None = None
    """The outcome of the last act, for some seconds, and whether it was done."""
    view: View = field(default_factory=View)
    glyphs: Glyphs = UNICODE


def once(scene: Scene, cells: int, events: int) -> list[Line]:
    """Return the picture without an end below: every row, nothing folded but by the view, and the last events."""
    status = scene.status
    if status is None:
        return []
    everything = 1_000_000  # lines that are enough for all
    cols = table.columns(status, cells, scene.glyphs, scene.taken)
    found = head.lines(status, scene.history, scene.now, cells, everything, scene.glyphs)
    found += [(), table.heading(cols)]
    for row in rows(status, scene.view, scene.history, everything):
        found += table.lines(row, cols, scene.history)
    if events:
        found += [(), tail.heading(cells, scene.glyphs, silent=scene.events_away)]
        found += tail.events(scene.events, events, scene.now, cells, scene.glyphs)
    return found
