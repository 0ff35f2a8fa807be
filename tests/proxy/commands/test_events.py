"""proxy.commands.events: the command `events`."""

import asyncio

import pytest

from proxy.commands.events import CHUNK, events_handler
from proxy.control.server import Request
from proxy.control.wire import ControlError
from proxy.records.timeline import FOLLOWERS, Timeline


@pytest.fixture
def timeline():
    """Make a timeline whose clock counts its events."""
    made = Timeline(clock=iter(range(1_000_000)).__next__)
    yield made
    made.close()


def ask(timeline, **arguments):
    """Return the answer's lines, to come."""
    return events_handler(timeline)(Request("events", arguments, 1, 0))


async def test_the_whole_history(timeline):
    """A long history comes in several lines, complete and in order, of which the last says that it is."""
    for number in range(2 * CHUNK + 5):
        timeline.add("k", "s", str(number))
    lines = [line async for line in ask(timeline)]
    assert [len(line["events"]) for line in lines] == [CHUNK, CHUNK, 5]
    assert [line["more"] for line in lines] == [True, True, False]
    assert [event["text"] for line in lines for event in line["events"]] == [str(n) for n in range(2 * CHUNK + 5)]


async def test_an_empty_history(timeline):
    """Where nothing happened the one line is empty."""
    assert [line async for line in ask(timeline, since=5)] == [{"events": [], "more": False}]


async def test_a_span(timeline):
    """`since` and `until` cut the history by time."""
    for number in range(10):
        timeline.add("k", "s", str(number))
    (line,) = [line async for line in ask(timeline, since=3, until=5.5)]
    assert [event["text"] for event in line["events"]] == ["3", "4", "5"]


async def test_following(timeline):
    """A follower gets the history and then each event, none twice and none left out, until the timeline closes."""
    timeline.add("k", "s", "before")
    lines = ask(timeline, follow=True)
    first = await anext(lines)
    assert ([event["text"] for event in first["events"]], first["more"]) == (["before"], True)
    coming = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    timeline.add("k", "s", "then")
    assert [event["text"] for event in (await coming)["events"]] == ["then"]
    timeline.close()
    assert [line async for line in lines] == [{"events": [], "more": False}]


async def test_a_follower_that_leaves_makes_room(timeline):
    """An abandoned answer gives its place back; too many at a time are refused in words."""
    answers = [ask(timeline, follow=True) for _ in range(FOLLOWERS)]
    for lines in answers:
        await anext(lines)
    with pytest.raises(ControlError, match="follow the events already"):
        await anext(ask(timeline, follow=True))
    await answers[0].aclose()
    await anext(ask(timeline, follow=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {"since": "yesterday"},
        {"since": True},
        {"until": float("nan")},
        {"until": float("inf")},
        {"since": []},
        {"follow": 1},
        {"follow": True, "until": 5},
    ],
)
async def test_bad_arguments_are_refused(timeline, arguments):
    """What is no time or makes no sense is the client's fault, in words."""
    with pytest.raises(ControlError) as caught:
        await anext(ask(timeline, **arguments))
    assert caught.value.code == "bad-request"
