"""The Textual shell: it asks, takes keys, and hands lines to widgets.  What they say is made by the pure modules."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key as Pressed
from textual.events import Resize

from proxy.dashboard import head, pace, rows, table, tail
from proxy.dashboard.acts import KEYS, Question, outcome, question
from proxy.dashboard.asking import extra, in_thread, look, merged
from proxy.dashboard.board import Scene
from proxy.dashboard.detail import find
from proxy.dashboard.pages import BackendPage, Confirm, HelpPage, away, bottom, show
from proxy.dashboard.palette import CHOSEN, GROUND, RAISED
from proxy.dashboard.rows import Row
from proxy.dashboard.source import Source
from proxy.dashboard.text import UNICODE, Glyphs, Line, Segment, clipped, segment
from proxy.dashboard.times import seconds
from proxy.dashboard.widgets import Lines, List

_SLOWEST: Final = 5.0
"""Seconds between two questions for the connections of a backend."""
_CALM: Final = 30
"""Looks for which the top stays as high as it was: a picture that jumps is hard to read."""
_FOLLOWED: Final = 5.0
"""Seconds that the outcome of an act stays in sight."""


class Dashboard(App[None]):
    """`steelyard top`."""

    TITLE = "steelyard top"
    ENABLE_COMMAND_PALETTE = False
    CSS = f"""
    Screen {{ background: {GROUND}; }}
    Lines {{ background: {GROUND}; height: 1; overflow: hidden; }}
    List, #page {{
        height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
        scrollbar-background: {GROUND}; scrollbar-background-hover: {GROUND}; scrollbar-background-active: {GROUND};
        scrollbar-color: {CHOSEN}; scrollbar-color-hover: {CHOSEN}; scrollbar-color-active: {CHOSEN};
    }}
    #columns, #keys, #title {{ background: {RAISED}; }}
    Confirm {{ align: center middle; background: {GROUND} 60%; }}
    #box {{ height: auto; padding: 1 2; border: round #6cb6ff; background: {GROUND}; }}
    #question {{ height: auto; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "interrupt", "Quit", priority=True),
        Binding("question_mark", "help", "Help"),
        Binding("down,j", "move(1)", "Down"),
        Binding("up,k", "move(-1)", "Up"),
        Binding("pagedown", "leap(1)", "Page down"),
        Binding("pageup", "leap(-1)", "Page up"),
        Binding("home", "move(-1000000)", "First"),
        Binding("end", "move(1000000)", "Last"),
        Binding("enter", "open", "Open"),
        Binding("space", "fold", "Fold"),
        Binding("z", "fold_all", "Fold all"),
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("t", "trouble", "Trouble"),
        Binding("e", "events", "Events"),
        Binding("escape", "plain", "Back"),
        *(Binding(key, f"act('{command}')", command) for key, command in KEYS.items()),
    ]

    def __init__(
        self,
        source: Source,
        *,
        writable: bool = False,
        glyphs: Glyphs = UNICODE,
        colour: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._source = source
        self._writable = writable
        self._colour = colour
        self.scene = Scene(glyphs=glyphs)
        self._typing = False
        self._shown_events = True
        self._heights: list[int] = []
        self._wake = asyncio.Event()
        self._asked = 0.0

    def compose(self) -> ComposeResult:
        """Make the widgets, from top to bottom."""
        yield Lines(id="head")
        yield Lines(id="columns")
        yield List(id="list")
        yield Lines(id="events")
        yield Lines(id="keys")

    def on_mount(self) -> None:
        """Begin to ask."""
        self.query_one(List).colour = self._colour
        self.run_worker(self._asking(), name="asking", exit_on_error=True)

    # -- asking

    async def _asking(self) -> None:
        """Look again and again: as often as it costs little, and at once after an act."""
        failures, events = 0, list[dict[str, Any]]()
        while True:
            self._wake.clear()
            began = time.monotonic()
            newest = seconds(events[-1].get("at")) if events else None
            found = await in_thread(partial(look, self._source, newest))
            waited, spent = time.monotonic() - began, time.thread_time()
            scene = self.scene
            scene.now = self._clock()
            scene.away, scene.events_away = found.away, found.events_away
            if found.status is not None:
                failures, scene.status, scene.taken = 0, found.status, scene.now
                scene.history.take(found.status, time.monotonic())
                scene.events = events = merged(events, found.events)
            else:
                failures += 1
            self.draw(looked=True)
            spent = time.thread_time() - spent + found.spent
            if not failures:
                await self._ask_more()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pace.again(failures) if failures else pace.interval(spent, waited)):
                    await self._wake.wait()

    async def _ask_more(self) -> None:
        """Ask for what the page of a backend shows, less often than for the snapshot."""
        page = self._page()
        if page is None or time.monotonic() < self._asked:
            return
        self._asked = time.monotonic() + _SLOWEST
        page.extra = await in_thread(lambda: extra(self._source, *page.names))
        self.draw()

    def _page(self) -> BackendPage | None:
        return next((one for one in reversed(self.screen_stack) if isinstance(one, BackendPage)), None)

    # -- drawing

    def on_resize(self, event: Resize) -> None:
        """Draw it for the new size."""
        del event
        self._heights.clear()
        self.call_after_refresh(self.draw)

    def draw(self, *, looked: bool = False) -> None:
        """Show the scene on the list, and on the page above it."""
        main = self.screen_stack[0]
        size, scene = self.size, self.scene
        if not main.is_mounted or size.width < 1:
            return
        cells, pale = size.width, bool(scene.away)
        self._draw_head(cells, size.height, looked=looked)
        listed = main.query_one(List)
        if scene.status is not None:
            room = listed.room
            cols = table.columns(scene.status, max(1, room.width), scene.glyphs, scene.taken)
            show(main.query_one("#columns", Lines), [table.heading(cols)])
            found = rows.rows(scene.status, scene.view, scene.history, room.height)
            listed.fill(found, cols, scene.history, pale=pale)
        self._draw_events(cells, size.height, pale=pale)
        main.query_one("#keys", Lines).show([self._bottom(cells)])
        page = self.screen
        if isinstance(page, BackendPage) and page.is_mounted:
            page.draw()

    def _draw_head(self, cells: int, height: int, *, looked: bool) -> None:
        scene = self.scene
        found: list[Line] = []
        if scene.status is not None:
            found = head.lines(scene.status, scene.history, scene.now, cells, height, scene.glyphs)
            self._heights = [*self._heights, len(found)][-_CALM:] if looked else self._heights or [len(found)]
            found += [()] * (max(self._heights, default=0) - len(found))
        widget = self.screen_stack[0].query_one("#head", Lines)
        if scene.away:
            found = [tuple(part._replace(style="dim") for part in line) for line in found]
            found += away(scene, cells)
        elif scene.status is None:
            found.append((segment(f" asking {self._source.where}", "dim"),))
        show(widget, found)
        widget.pale = False

    def _draw_events(self, cells: int, height: int, *, pale: bool) -> None:
        scene, most = self.scene, tail.room(height) if self._shown_events else 0
        widget = self.screen_stack[0].query_one("#events", Lines)
        lines: list[Line] = []
        if most:
            silent = f"({scene.events_away}) " if scene.events_away else ""
            lines = [tail.heading(cells, scene.glyphs, silent=silent)]
            lines += tail.events(scene.events, most, scene.now, cells, scene.glyphs)
            lines += [()] * (most + 1 - len(lines))
        show(widget, lines, pale=pale)

    def _bottom(self, cells: int) -> Line:
        scene = self.scene
        if self._typing:
            typed = (Segment(" / ", "key"), segment(f" {scene.view.words}", "bold"), Segment(scene.glyphs.bar, "info"),
                     Segment("  Enter keeps it, Esc ends it", "dim"))  # fmt: skip
            return clipped(typed, cells, scene.glyphs.cut)
        keys = bottom(scene, cells, writable=self._writable)
        if not scene.view.words or scene.said is not None:
            return keys
        kept = (segment(f" filter: {scene.view.words} ", "warn"), Segment("Esc", "key"), Segment(" ends it "))
        return clipped((*kept, *keys), cells, scene.glyphs.cut)

    def say(self, text: str, *, well: bool) -> None:
        """Show a line below for some seconds."""
        self.scene.said = said = text, well

        def forget() -> None:
            if self.scene.said is said:
                self.scene.said = None
                self.draw()

        self.set_timer(_FOLLOWED, forget)
        self.draw()

    # -- keys

    def on_key(self, event: Pressed) -> None:
        """Take the text of the filter, while it is typed."""
        if not self._typing:
            return
        event.stop()
        event.prevent_default()
        view = self.scene.view
        if event.key in {"enter", "escape"}:
            self._typing = False
            view = view if event.key == "enter" else replace(view, words="")
        elif event.key == "backspace":
            view = replace(view, words=view.words[:-1])
        elif event.character and event.character.isprintable() and len(view.words) < 60:  # noqa: PLR2004 - a line
            view = replace(view, words=view.words + event.character)
        self.scene.view = view
        self.draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let no key act while the filter is typed."""
        del parameters
        return not self._typing or action == "interrupt"

    def action_interrupt(self) -> None:
        """End at once, also while something is typed."""
        self.exit()

    def action_move(self, by: int) -> None:
        """Select another row."""
        self.query_one(List).move(by)

    def action_leap(self, by: int) -> None:
        """Select a row a screen further."""
        self.query_one(List).leap(by)

    def action_help(self) -> None:
        """Show the keys and the columns."""
        self.push_screen(HelpPage(self.scene.glyphs, writable=self._writable))

    def action_open(self) -> None:
        """Open a backend, or fold a service."""
        row = self.query_one(List).row
        if row is None:
            return
        if row.backend is None:
            self.action_fold()
            return
        self._asked = 0.0
        page = BackendPage(self.scene, row.service["name"], row.backend["name"], writable=self._writable)
        self.push_screen(page)
        self._wake.set()

    def on_list_opened(self, message: List.Opened) -> None:
        """Open the row that was clicked."""
        message.stop()
        self.action_open()

    def action_fold(self) -> None:
        """Fold the service of the row, or unfold it."""
        listed = self.query_one(List)
        row = listed.row
        if row is None:
            return
        name = row.service["name"]
        fold = row.backend is not None or not row.folded
        self.scene.view = self.scene.view.folding([name], fold=fold)
        if row.backend is not None:
            listed.selected = (name, None)
        self.draw()

    def action_fold_all(self) -> None:
        """Fold every service, or unfold every one if they are."""
        status = self.scene.status
        if status is None:
            return
        room = self.query_one(List).room.height
        open_ = any(row.backend is not None for row in rows.rows(status, self.scene.view, self.scene.history, room))
        self.scene.view = self.scene.view.folding([one["name"] for one in status["services"]], fold=open_)
        listed = self.query_one(List)
        if open_ and listed.selected is not None:
            listed.selected = (listed.selected[0], None)
        self.draw()

    def action_filter(self) -> None:
        """Take the next keys as words."""
        self._typing = True
        self.draw()

    def action_sort(self) -> None:
        """Sort by the next order."""
        self.scene.view = self.scene.view.next_order()
        self.draw()

    def action_trouble(self) -> None:
        """Show only what is not simply up, or all."""
        self.scene.view = replace(self.scene.view, trouble=not self.scene.view.trouble)
        self.draw()

    def action_events(self) -> None:
        """Hide the events, or show them."""
        self._shown_events = not self._shown_events
        self.draw()
        self.call_after_refresh(self.draw)

    def action_plain(self) -> None:
        """End the filter."""
        self.scene.view = replace(self.scene.view, words="", trouble=False)
        self.draw()

    # -- acts

    def action_act(self, command: str) -> None:
        """Ask before an act; without --rw say why there is none."""
        if not self._writable:
            self.say(f"{command} needs `steelyard top --rw`: without it nothing is changed", well=False)
            return
        status, row = self.scene.status, self._target()
        if status is None or row is None:
            return
        asked = question(command, row, status["node"])
        if asked is None:
            self.say(f"{command} is for a backend: select one", well=False)
            return
        self.push_screen(Confirm(asked, self.scene.glyphs), self._confirmed)

    def _target(self) -> Row | None:
        page = self._page()
        if page is None or self.scene.status is None:
            return self.query_one(List).row
        return find(self.scene.status, *page.names)

    def _confirmed(self, asked: Question | None) -> None:
        if asked is not None:
            self.run_worker(self._do(asked), name="act", exit_on_error=True)

    async def _do(self, asked: Question) -> None:
        """Send a command, and say what came of it."""

        def send() -> dict[str, Any]:
            *_, answer = self._source.stream(asked.command, **asked.arguments())
            return answer

        try:
            self.say(outcome(asked, await in_thread(send)), well=True)
        except Exception as error:
            self.say(f"{asked.title}: {error}", well=False)
        self._wake.set()
