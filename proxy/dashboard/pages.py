"""The pages above the list: help, one backend, and the question before an act."""

from dataclasses import replace
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key as Pressed
from textual.events import Resize
from textual.screen import ModalScreen, Screen

from proxy.dashboard import detail, tail
from proxy.dashboard import help as helping
from proxy.dashboard.acts import FORCED, KEYS, Question
from proxy.dashboard.board import Scene
from proxy.dashboard.detail import Extra
from proxy.dashboard.text import Glyphs, Line, Segment, clipped, segment, width, wrapped
from proxy.dashboard.times import short
from proxy.dashboard.widgets import Lines

_TYPED: Final = 80  # characters of an address


class Page(Screen[None]):
    """A page of lines that scrolls, above a line of keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,backspace", "close", "Back"),
        Binding("down,j", "scroll(1)", "Down"),
        Binding("up,k", "scroll(-1)", "Up"),
        Binding("pagedown,space", "page(1)", "Page down"),
        Binding("pageup", "page(-1)", "Page up"),
        Binding("home", "end(-1)", "Top"),
        Binding("end", "end(1)", "Bottom"),
    ]

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Lines(id="title")
        yield Lines(id="page")
        yield Lines(id="keys")

    def action_close(self) -> None:
        """Go back to the list."""
        self.dismiss()

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        page = self.query_one("#page", Lines)
        page.scroll_to(y=page.scroll_offset.y + by, animate=False, immediate=True)

    def action_page(self, by: int) -> None:
        """Scroll by a screen."""
        self.action_scroll(by * max(1, self.query_one("#page", Lines).size.height - 1))

    def action_end(self, by: int) -> None:
        """Scroll to the top or to the end."""
        self.action_scroll(by * 1_000_000)

    def on_resize(self, event: Resize) -> None:
        """Draw it for the new size."""
        del event
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Show what there is to show now."""
        raise NotImplementedError


class HelpPage(Page):
    """The keys, the columns, the signs."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "close", "Back")]

    def __init__(self, glyphs: Glyphs, *, writable: bool) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._writable = writable

    def draw(self) -> None:
        """Show the page."""
        cells = self.size.width
        self.query_one("#title", Lines).show([(segment(" steelyard top: help", "title"),)])
        page = self.query_one("#page", Lines)
        page.show(helping.lines(page.room.width, self._glyphs, writable=self._writable))
        keys = (Segment(" Esc ", "key"), Segment(" back "), Segment(" up/down ", "key"), Segment(" scroll"))
        self.query_one("#keys", Lines).show([clipped(keys, cells, self._glyphs.cut)])


class BackendPage(Page):
    """All of one backend, live."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "app.help", "Help"),
        *(Binding(key, f"app.act('{command}')", command) for key, command in KEYS.items() if command != "add"),
    ]

    def __init__(self, scene: Scene, service: str, backend: str, *, writable: bool) -> None:
        super().__init__()
        self._scene = scene
        self.names = service, backend
        self._writable = writable
        self.extra = Extra(why="asking for connections and histogram")

    def draw(self) -> None:
        """Show the newest snapshot."""
        scene, (service, backend) = self._scene, self.names
        page = self.query_one("#page", Lines)
        row = None if scene.status is None else detail.find(scene.status, service, backend)
        head = [detail.title(service, backend, self.size.width, scene.now, scene.glyphs.cut)]
        if scene.away:
            head += away(scene, self.size.width)
        show(self.query_one("#title", Lines), head)
        gone: list[Line] = [(segment(f" {service} has no backend {backend} any more", "warn"),)]
        lines = gone if row is None else detail.lines(scene, row, self.extra, page.room.width)
        page.show(lines, pale=bool(scene.away))
        keys = bottom(scene, self.size.width, writable=self._writable, detail=True)
        self.query_one("#keys", Lines).show([keys])


class Confirm(ModalScreen[Question | None]):
    """Says what an act will do, takes what it needs, and returns it once it is confirmed."""

    def __init__(self, asked: Question, glyphs: Glyphs) -> None:
        super().__init__()
        self.asked = asked
        self._glyphs = glyphs
        self._wrong = ""

    def compose(self) -> ComposeResult:
        """Make the box."""
        with Vertical(id="box"):
            yield Lines(id="question")

    def on_mount(self) -> None:
        """Show the question."""
        self.call_after_refresh(self._draw)

    def on_resize(self, event: Resize) -> None:
        """Draw it for the new size."""
        del event
        self.call_after_refresh(self._draw)

    def on_key(self, event: Pressed) -> None:
        """Take a key: everything that is not one of its keys is text, or nothing."""
        event.stop()
        event.prevent_default()
        self._wrong = ""
        asked = self.asked
        match event.key:
            case "escape":
                self.dismiss(None)
                return
            case "ctrl+s":
                self.asked = replace(asked, save=not asked.save)
            case "ctrl+f" if asked.command in FORCED:
                self.asked = replace(asked, force=not asked.force)
            case "backspace":
                self.asked = replace(asked, text=asked.text[:-1])
            case "n" if not asked.asks:
                self.dismiss(None)
                return
            case "enter" if asked.asks:
                self._wrong = asked.wrong()
                if not self._wrong:
                    self.dismiss(asked)
                    return
            case "y" if not asked.asks:
                self.dismiss(asked)
                return
            case _ if asked.asks and event.character and event.character.isprintable() and len(asked.text) < _TYPED:
                self.asked = replace(asked, text=asked.text + event.character)
        self._draw()

    def _draw(self) -> None:
        box = self.query_one("#question", Lines)
        cells = max(20, min(72, self.size.width - 6))
        asked = self.asked
        lines: list[Line] = [(segment(asked.title[:1].upper() + asked.title[1:], "title"),), ()]
        for text in asked.says:
            lines += [(segment(part),) for part in wrapped(text, cells, 6, self._glyphs.cut)]
        if asked.asks:
            lines += [
                (),
                (segment(f"{asked.asks}: ", "dim"), segment(asked.text, "bold"), segment(self._glyphs.bar, "info")),
            ]
        lines += [(), self._option("ctrl+s", "save it: it holds over a restart", on=asked.save)]
        if asked.command in FORCED:
            lines.append(self._option("ctrl+f", "force it, even if no other backend can serve", on=asked.force))
        yes = "Enter" if asked.asks else "y"
        lines += [(), (Segment(f" {yes} ", "key"), Segment(" do it   "), Segment(" Esc ", "key"), Segment(" leave it"))]
        if self._wrong:
            lines.append((segment(self._wrong, "bad"),))
        box.styles.height = len(lines)
        self.query_one("#box").styles.width = cells + 6
        self.call_after_refresh(box.show, lines)

    def _option(self, key: str, text: str, *, on: bool) -> Line:
        return (Segment(f" {key} ", "key"), Segment(f" [{'x' if on else ' '}] {text}", "bold" if on else ""))


def away(scene: Scene, cells: int) -> list[Line]:
    """Return the lines that are said while the daemon does not answer."""
    age = f"; this picture is {short(scene.now - scene.taken)} old" if scene.status is not None else ""
    room, texts = max(10, cells - 4), (f"No answer, trying again{age}.", scene.away)
    whole = " ".join(texts)
    said = (
        [whole] if width(whole) <= room else [one for text in texts for one in wrapped(text, room, 2, scene.glyphs.cut)]
    )
    return [(segment(f" {scene.glyphs.warning if not at else ' '} {text}", "bad"),) for at, text in enumerate(said)]


def bottom(scene: Scene, cells: int, *, writable: bool, detail: bool = False) -> Line:
    """Return the last line: the keys, or what the last act has come to."""
    if scene.said is None:
        return tail.keys(scene.view, cells, scene.glyphs, writable=writable, detail=detail)
    text, well = scene.said
    return clipped((segment(f" {text}", "good" if well else "bad"),), cells, scene.glyphs.cut)


def show(widget: Lines, lines: list[Line], *, pale: bool = False) -> None:
    """Show lines in a widget that is as high as they are."""
    if widget.styles.height is None or widget.styles.height.value != len(lines):
        widget.styles.height = len(lines)
    widget.show(lines, pale=pale)
