"""The widgets of the dashboard: lines, of which only what has changed is drawn again."""

from collections.abc import Sequence
from typing import Any, Final

from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from proxy.dashboard import table
from proxy.dashboard.drawing import changes
from proxy.dashboard.history import History, Key
from proxy.dashboard.palette import strip
from proxy.dashboard.rows import Row
from proxy.dashboard.text import Line

_NOTHING: Final[Line] = ()


class Lines(ScrollView, can_focus=False):
    """Lines of text, which scroll if there are more than there is room for."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._drawn: dict[int, tuple[Line, bool]] = {}
        """What each line was when it was last drawn, and whether it was selected."""
        self._lines: Sequence[Line] = ()
        self.pale = False
        self.colour = True

    @property
    def room(self) -> Size:
        """The cells that lines have, without the scrollbar."""
        return self.scrollable_content_region.size

    def show(self, lines: Sequence[Line], *, pale: bool = False) -> None:
        """Show these lines; what is the same as before is not drawn again."""
        self._lines = lines
        self._settle(len(lines), pale=pale)

    def line(self, at: int) -> Line:
        """Return a line of the content; an empty one behind its end."""
        return self._lines[at] if 0 <= at < len(self._lines) else _NOTHING

    def chosen(self, at: int) -> bool:
        """Return True if a line is selected."""
        del at
        return False

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen."""
        at = y + self.scroll_offset.y
        self._drawn[at] = line, chosen = self.line(at), self.chosen(at)
        return strip(line, self.room.width, pale=self.pale, chosen=chosen, colour=self.colour)

    def _settle(self, count: int, *, pale: bool) -> None:
        """Take the new number of lines, and have drawn what differs on the screen."""
        size = Size(self.room.width, count)
        if pale != self.pale or size != self.virtual_size:
            self.pale, self.virtual_size = pale, size
            self._drawn.clear()
            self.refresh()
            return
        self._redraw()

    def _redraw(self) -> None:
        top, regions = self.scroll_offset.y, []
        for y in range(self.room.height):
            before = self._drawn.get(top + y)
            line, chosen = self.line(top + y), self.chosen(top + y)
            if before is None or before[1] != chosen:
                regions.append(Region(0, y, self.room.width, 1))
                continue
            for start, end in changes(before[0], line):
                # The least that differs; Textual 8 still sends the rest of the line with it.
                regions.append(Region(start, y, min(end, self.room.width) - start, 1))
        if regions:
            self.refresh(*(region for region in regions if region.width > 0))


class List(Lines):
    """The services and backends.  Lines are made when they are looked at: of two thousand rows, fifty."""

    class Opened(Message):
        """A row was clicked while it was selected."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._rows: Sequence[Row] = ()
        self._starts: list[tuple[int, int]] = []
        """Of each line: the number of its row, and which line of this row it is."""
        self._first: list[int] = []
        """Of each row: its first line."""
        self._made: dict[int, list[Line]] = {}
        self._cols: table.Columns | None = None
        self._history: History | None = None
        self.selected: Key | None = None

    def fill(self, rows: Sequence[Row], cols: table.Columns, history: History, *, pale: bool) -> None:
        """Show these rows.  The selected one stays selected, and where it is on the screen if it can."""
        at = self.at
        before = self._first[at] - self.scroll_offset.y if at is not None and self._first else 0
        self._rows, self._cols, self._history = rows, cols, history
        self._made.clear()
        self._starts, self._first = [], []
        for number, row in enumerate(rows):
            self._first.append(len(self._starts))
            self._starts += [(number, line) for line in range(table.height(row, cols))]
        if rows and self.at is None:  # the selected row is gone: its neighbour is selected
            self.selected = rows[min(at or 0, len(rows) - 1)].key
        after = self.at
        moved = at is not None and after is not None and at != after
        self._settle(len(self._starts), pale=pale)
        if moved and self.scroll_offset.y and 0 <= before < self.room.height:
            self.scroll_to(y=self._first[after or 0] - before, animate=False, immediate=True)

    @property
    def row(self) -> Row | None:
        """The selected row."""
        at = self.at
        return None if at is None else self._rows[at]

    @property
    def at(self) -> int | None:
        """The number of the selected row."""
        return next((at for at, row in enumerate(self._rows) if row.key == self.selected), None)

    def move(self, by: int) -> None:
        """Select a row further down, or up, and bring it into view."""
        if not self._rows:
            return
        at = min(len(self._rows) - 1, max(0, (self.at or 0) + by))
        self.selected = self._rows[at].key
        self._reveal(at)
        self._redraw()

    def leap(self, by: int) -> None:
        """Select the row a screen further down, or up."""
        at = self.at or 0
        if self._rows:
            line = self._first[at] + by * max(1, self.room.height - 1)
            to = self._starts[min(len(self._starts) - 1, max(0, line))][0]
            self.move(to - at or by)

    def _reveal(self, at: int) -> None:
        row, top = self._rows[at], self.scroll_offset.y
        first = self._first[at]
        last = first + (table.height(row, self._cols) if self._cols else 1)
        if first < top:
            self.scroll_to(y=first, animate=False, immediate=True)
        elif last > top + self.room.height:
            self.scroll_to(y=last - self.room.height, animate=False, immediate=True)

    def line(self, at: int) -> Line:
        """Return a line, made now if it was not made since the last snapshot."""
        if not 0 <= at < len(self._starts) or self._cols is None or self._history is None:
            return _NOTHING
        number, part = self._starts[at]
        if number not in self._made:
            self._made[number] = table.lines(self._rows[number], self._cols, self._history)
        lines = self._made[number]
        return lines[part] if part < len(lines) else _NOTHING

    def chosen(self, at: int) -> bool:
        """Return True for the lines of the selected row."""
        return 0 <= at < len(self._starts) and self._rows[self._starts[at][0]].key == self.selected

    def on_click(self, event: Click) -> None:
        """Select the row that was clicked; a click on the selected one opens it."""
        at = event.y + self.scroll_offset.y
        if not 0 <= at < len(self._starts):
            return
        key = self._rows[self._starts[at][0]].key
        if key == self.selected:
            self.post_message(self.Opened())
        self.selected = key
        self._redraw()
