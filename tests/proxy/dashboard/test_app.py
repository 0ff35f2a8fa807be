"""proxy.dashboard.app: the program itself, driven by keys, against an installation that lives in this process."""

import asyncio
import time

import pytest

from proxy.dashboard.history import CURVE
from proxy.dashboard.pages import BackendPage, Confirm, HelpPage
from proxy.dashboard.text import plain
from proxy.dashboard.widgets import Lines, List
from tests.proxy.dashboard.driving import driving
from tests.proxy.dashboard.lively import NOW, Source, lively

SIZES = [(80, 24), (120, 40), (200, 60)]


@pytest.mark.parametrize("size", SIZES)
async def test_one_screen(size):
    """At each size the host, its router, every service, the worst backend with its reason, events and keys are in sight."""
    async with driving(size) as top:
        text = top.text
        assert len(top.screen) == size[1]
        assert top.screen[0].startswith(" lb1  steelyard 0.1.0")
        for part in ("inside ◆ active", "priority 90 = 150 -60 service smtp", "peer lb2 with 80", "10.0.0.10/24"):
            assert part in text
        for name in ("smtp", "dns", "ldap", "10.0.0.51", "421 4.3.2 [b]too busy[/b], come back later"):
            assert name in text
        assert "Events, the newest first" in text
        assert "priority 150 -> 90" in text
        assert "? " in top.screen[-1]
        assert "read-only" in top.screen[-1]


async def test_moving():
    """Keys move the selection by rows and by screens, and the list scrolls with it; a row stays selected by its name."""
    async with driving((80, 24)) as top:
        assert top.selected == ("smtp", None)
        await top.press("down", "j")
        assert top.selected == ("smtp", "mx2")
        await top.press("up", "k", "k")
        assert top.selected == ("smtp", None)
        await top.press("end")
        assert top.selected == ("syslog", None)
        assert "syslog" in top.text
        await top.press("home", "pagedown")
        assert top.selected not in {("smtp", None), ("syslog", None)}
        await top.press("pageup")
        assert top.selected == ("smtp", None)


async def test_folding():
    """Enter and Space fold a service; Space on a backend folds its own; z folds and unfolds all."""
    async with driving() as top:
        await top.press("enter")
        assert "10.0.0.51 " not in "".join(top.screen[5:20])
        await top.press("space")
        assert "10.0.0.51 " in "".join(top.screen[5:20])
        await top.press("down", "space")
        assert top.selected == ("smtp", None)
        assert "▸ smtp" in top.text
        await top.press("z")
        assert top.text.count("▸") == 6
        await top.press("z")
        assert "▸" not in top.text


async def test_filtering():
    """`/` takes words, which filter as they are typed; keys are text until Enter keeps them, and Esc ends the filter."""
    async with driving() as top:
        await top.press("slash", *"ldq", "backspace", "a", "p")
        assert "ldap" in top.screen[-1]
        assert "smtp" not in "".join(top.screen[5:12])
        await top.press("enter")
        assert "filter: ldap" in top.screen[-1]
        assert "10.0.0.21" in top.text
        await top.press("escape")
        assert "▾ smtp" in top.text
        await top.press("slash", "x", "escape")
        assert "▾ smtp" in top.text


async def test_markup_in_a_filter_is_text():
    """Words with brackets are words."""
    async with driving() as top:
        await top.press("slash", "left_square_bracket", "b", "right_square_bracket")
        assert "[b]" in top.screen[-1]
        assert "10.0.0.51" in top.text
        assert "ldap" not in "".join(top.screen[5:25])


async def test_sorting_and_trouble():
    """`s` goes through the orders, which the last line names; `t` leaves what is not simply up."""
    async with driving() as top:
        await top.press("s")
        assert "sort: name" in top.screen[-1]
        services = [line.split()[1] for line in top.screen if line.startswith("▾")]
        assert services == sorted(services)
        await top.press("t")
        assert "syslog" not in "".join(top.screen[5:25])


async def test_events_can_be_hidden():
    """`e` gives the room of the events to the list, and back."""
    async with driving((80, 24)) as top:
        before = top.app.query_one(List).size.height
        await top.press("e")
        await top.until(lambda: top.app.query_one(List).size.height == before + 5)
        assert "Events, the newest" not in top.text
        await top.press("e")
        await top.until(lambda: "Events, the newest" in top.text)


@pytest.mark.parametrize("size", SIZES)
async def test_help(size):
    """`?` explains every key, scrolls, and goes away again."""
    async with driving(size) as top:
        await top.press("question_mark")
        await top.until(lambda: isinstance(top.app.screen, HelpPage) and "fold all services" in top.text)
        await top.press("end")
        await top.until(lambda: "a router that has the addresses" in top.text)
        await top.press("home", "pagedown", "pageup", "down", "up", "escape")
        await top.until(lambda: "▾ smtp" in top.text)


@pytest.mark.parametrize("size", SIZES)
async def test_a_backend(size):
    """Enter on a backend shows all of it, live, with histogram and clients; Esc goes back to where one was."""
    async with driving(size) as top:
        await top.press("slash", *"10.0.0.21", "enter", "down", "enter")
        await top.until(lambda: isinstance(top.app.screen, BackendPage) and "found dc=example" in top.text)
        page = top.app.screen.query_one("#page", Lines)
        await top.until(lambda: any("Connected: the first 200" in plain(line) for line in page._lines))
        assert any("Latency of the last minute in ms, 4920 samples" in plain(line) for line in page._lines)
        assert any("192.0.2.7:40000" in plain(line) for line in page._lines)
        looks = top.source.looks
        await top.until(lambda: top.source.looks > looks)
        await top.press("escape")
        await top.until(lambda: "▾ ldap" in top.text)
        assert top.selected == ("ldap", "10.0.0.21")


async def test_a_backend_that_is_removed_while_it_is_open():
    """Its page says that it is gone."""
    async with driving() as top:
        await top.press("down", "enter")
        await top.until(lambda: "421 4.3.2" in top.text)

        def without(status):
            del status["services"][-1]["backends"][0]
            return status

        top.source.change = without
        await top.until(lambda: "smtp has no backend 10.0.0.51 any more" in top.text)


async def test_without_rw_nothing_is_changed():
    """Each act's key says that --rw is needed, and nothing is sent."""
    async with driving() as top:
        for key in "dmrwax":
            await top.press("down", key)
            assert "needs `steelyard top --rw`" in top.screen[-1]
        assert top.source.sent == []


@pytest.mark.parametrize(
    ("key", "typed", "sent"),
    [
        ("d", [], ("drain", {"service": "smtp", "backend": "10.0.0.51"})),
        ("m", [], ("maint", {"service": "smtp", "backend": "10.0.0.51"})),
        ("r", [], ("ready", {"service": "smtp", "backend": "10.0.0.51"})),
        ("x", [], ("remove", {"service": "smtp", "backend": "10.0.0.51"})),
        ("w", ["5"], ("weight", {"service": "smtp", "backend": "10.0.0.51", "weight": 5})),
        ("a", [*"10.0.0.53"], ("add", {"service": "smtp", "address": "10.0.0.53"})),
    ],
)
@pytest.mark.parametrize("size", SIZES[:2])
async def test_an_act(size, key, typed, sent):
    """With --rw a key asks, Esc leaves it, and only the confirmation sends the command; its outcome is shown."""
    async with driving(size, writable=True) as top:
        await top.press("down", key)
        await top.until(lambda: isinstance(top.app.screen, Confirm) and "on lb1" in top.text)
        await top.press("escape")
        assert top.source.sent == []
        await top.press(key)
        await top.until(lambda: isinstance(top.app.screen, Confirm) and "leave it" in top.text)
        await top.press(*typed, "enter" if typed else "y")
        await top.until(lambda: top.source.sent == [sent])
        await top.until(lambda: ": changed" in top.screen[-1])


async def test_saved_and_forced():
    """Ctrl+S and Ctrl+F are shown as chosen, and are sent."""
    async with driving(writable=True) as top:
        await top.press("down", "d", "ctrl+s", "ctrl+f")
        await top.until(lambda: top.text.count("[x]") == 2)
        await top.press("y")
        wanted = {"service": "smtp", "backend": "10.0.0.51", "save": True, "force": True}
        await top.until(lambda: top.source.sent == [("drain", wanted)])


async def test_what_was_typed_wrongly_is_not_sent():
    """A weight that is none is said to be none, and n in a text is a letter."""
    async with driving(writable=True) as top:
        await top.press("down", "w", "n", "enter")
        await top.until(lambda: "a weight is a whole number" in top.text)
        await top.press("backspace", "3", "enter")
        await top.until(lambda: top.source.sent and top.source.sent[0][1]["weight"] == 3)


async def test_what_the_daemon_refuses_is_shown():
    """A refusal stands in the last line, in the daemon's words, markup and all."""
    source = Source()
    source.answers["drain"] = ValueError("[red]no other[/red] backend of smtp can serve")
    async with driving(writable=True, source=source) as top:
        await top.press("down", "d", "y")
        await top.until(lambda: "[red]no other[/red] backend of smtp can serve" in top.screen[-1])


async def test_an_act_from_the_page_of_a_backend():
    """On the page of a backend keys act on that one, and the outcome is shown there."""
    async with driving(writable=True) as top:
        await top.press("down", "down", "enter")
        await top.until(lambda: isinstance(top.app.screen, BackendPage))
        await top.press("m")
        await top.until(lambda: isinstance(top.app.screen, Confirm))
        await top.press("y")
        await top.until(lambda: top.source.sent == [("maint", {"service": "smtp", "backend": "mx2"})])
        await top.until(lambda: "maint smtp/mx2 on lb1: changed" in top.text)


async def test_an_act_on_a_service_needs_a_backend():
    """A service cannot be drained as a whole: the last line says what to do."""
    async with driving(writable=True) as top:
        await top.press("d")
        assert "drain is for a backend: select one" in top.screen[-1]


async def test_a_daemon_that_is_away_and_comes_back():
    """While it is away the last picture stays, says so with its age, and is alive again with the next answer."""
    async with driving((80, 24)) as top:
        top.source.away = OSError("control.sock: connection refused")
        await top.until(lambda: "No answer, trying again" in top.text)
        assert "control.sock: connection refused" in top.text
        assert "▾ smtp" in top.text
        assert top.app.query_one(List).pale
        top.source.away = None
        await top.until(lambda: "No answer" not in top.text)
        assert not top.app.query_one(List).pale


async def test_a_daemon_that_is_away_from_the_start():
    """Before the first answer the program says why there is none, and shows the picture as soon as there is one."""
    source = Source()
    source.away = OSError("control.sock: no such file")
    async with driving(source=source) as top:
        await top.until(lambda: "control.sock: no such file" in top.text)
        await top.press("down", "enter", "space", "z", "s", "d")
        source.away = None
        await top.until(lambda: "▾ smtp" in top.text)


async def test_a_slow_daemon_stops_nothing():
    """Keys work while an answer is awaited."""
    source = Source()
    async with driving(source=source) as top:
        source.change = lambda status: time.sleep(3) or status
        await top.pilot.pause(1.2)
        await top.press("question_mark")
        await top.until(lambda: "fold all services" in top.text)


async def test_only_what_changed_is_drawn():
    """A look that brings nothing new draws no line of the list; one changed figure draws its cells alone."""
    source = Source()
    source.change = lambda _: lively(60, NOW)
    async with driving(source=source) as top:
        for at in range(CURVE):  # curves that grow are a change
            top.app.scene.history.take(lively(60, NOW), time.monotonic() - CURVE + at)
        listed = top.app.query_one(List)
        drawn = []
        refresh = listed.refresh
        listed.refresh = lambda *regions, **more: drawn.append(regions) or refresh(*regions, **more)
        looks = source.looks
        await top.until(lambda: source.looks >= looks + 2)
        await top.pilot.pause(0.2)
        drawn.clear()  # errors were not known before

        def one_more(_):
            status = lively(60, NOW)
            status["services"][0]["backends"][0]["active"] = 4
            return status

        source.change = one_more
        looks = source.looks
        await top.until(lambda: source.looks >= looks + 2)
        await top.pilot.pause(0.2)
        regions = [region for call in drawn for region in call]
        assert regions
        assert len({region.y for region in regions}) == 2  # the service, and its backend
        assert all(region.width < 20 for region in regions)


async def test_it_fits_a_new_size():
    """When the terminal changes its size the picture fits it, however small it is."""
    async with driving((200, 60)) as top:
        for size in ((80, 24), (40, 12), (20, 5), (1, 1), (120, 40)):
            await top.pilot.resize_terminal(*size)
            await top.pilot.pause(0.1)
        await top.until(lambda: "Events, the newest first" in top.text and "▾ smtp" in top.text)


async def test_a_click_selects_and_opens():
    """A row is selected by a click, and opened by another."""
    async with driving() as top:
        await top.pilot.click(List, offset=(4, 1))
        assert top.selected == ("smtp", "10.0.0.51")
        await top.pilot.click(List, offset=(4, 1))
        await top.until(lambda: isinstance(top.app.screen, BackendPage))


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_quitting(key):
    """`q` and Ctrl+C end the program at once, Ctrl+C also while something is typed."""
    async with driving() as top:
        if key == "ctrl+c":
            await top.press("slash", "x")
        await top.pilot.press(key)
        await asyncio.sleep(0.1)
        assert not top.app.is_running


async def test_without_colour(monkeypatch):
    """With NO_COLOR nothing has a colour, and the selected row is reversed."""
    monkeypatch.setenv("NO_COLOR", "1")
    async with driving(colour=False) as top:
        assert "✖ down" in top.text
        listed = top.app.query_one(List)
        assert any(part.style.reverse for part in listed.render_line(0))


async def test_a_service_over_http_is_read_only():
    """A source that is only read shows no connections, and says where they are."""
    async with driving(source=Source(writable=False)) as top:
        await top.press("down", "enter")
        await top.until(lambda: isinstance(top.app.screen, BackendPage))
        page = top.app.screen.query_one("#page", Lines)
        await top.until(lambda: any("over the control socket only" in plain(line) for line in page._lines))
