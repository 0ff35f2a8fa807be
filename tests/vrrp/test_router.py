"""The router's transcripts, and that the table has no row that none of them visits."""

import pytest

from tests.vrrp.transcript import DIRECTORY, Player, configuration
from vrrp import events as ev
from vrrp.router import Router, UnlistedPairError

FILES = sorted(DIRECTORY.glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_transcript(file, regenerate):
    """V3, V4, V5, V6, V7, V10, V11, V12, V18, V19, V24: a router does what the reviewed transcript says, to the last digit."""
    expected = file.read_text()
    played = Player().play(expected)
    if regenerate:
        file.write_text(played)
    assert played == expected or regenerate


def test_every_row_is_played():
    """V4, V5, V6: each listed pair of state and event comes up in a transcript, and what is not listed raises."""
    player = Player()
    for file in FILES:
        player.group, player.configs = None, []
        player.play(file.read_text())
    assert player.seen == {(state, kind) for state, row in Router.TABLE.items() for kind in row}


@pytest.mark.parametrize("event", [ev.GroupTakeOver(), object()])
def test_unlisted_pairs_raise(event):
    """V4: an event that cannot come in a state is a bug, and raises instead of being passed over."""
    router = Router(configuration(["r"]), 0.0)
    with pytest.raises(UnlistedPairError):
        router.handle(event, 0.0)


def test_startup_twice_raises():
    """V6: a router is started once, and again only after a shutdown."""
    for words in (["r"], ["r", "awaits_verdicts=true"], ["r", "priority=255"], ["r", "source=none"]):
        router = Router(configuration(words), 0.0)
        router.handle(ev.Startup(), 0.0)
        with pytest.raises(UnlistedPairError):
            router.handle(ev.Startup(), 1.0)
        router.handle(ev.Shutdown(at_once=True), 2.0)
        router.handle(ev.Startup(), 3.0)


def test_clock_origin_does_not_matter():
    """V16: the same hour of events gives the same commands wherever the clock began; no other clock is read."""
    runs = []
    for origin in (0.0, 2.0**20, 2.0**30):
        router = Router(configuration(["r", "advert_interval=0.5"]), origin)
        commands = list(router.handle(ev.Startup(), origin))
        while router.deadline < origin + 3600:
            commands += router.handle(ev.Tick(), router.deadline)
        runs.append(commands)
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) > 7190


def test_reload_is_of_the_same_router():
    """V12: a reload that changes the VRID is a new router, not a change of this one."""
    router = Router(configuration(["r"]), 0.0)
    with pytest.raises(ValueError):
        router.handle(ev.Reconfigured(configuration(["r", "vrid=52"])), 0.0)


def test_late_ticks_do_not_add_up():
    """V3: adverts that leave a little late do not stretch the interval."""
    router = Router(configuration(["r", "priority=255"]), 0.0)
    router.handle(ev.Startup(), 0.0)
    for number in range(1, 100):
        assert router.deadline == pytest.approx(number)
        router.handle(ev.Tick(), router.deadline + 0.005)
