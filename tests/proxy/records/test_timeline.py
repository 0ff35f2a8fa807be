"""proxy.records.timeline: the timeline."""

import asyncio
import json
import logging
import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.records.timeline import FOLLOWERS, QUEUE, TEXT_MAX, Event, Timeline


class Clock:
    """Unix seconds that stand still until told."""

    now = 1_000_000.0

    def __call__(self):
        """Return the time."""
        return self.now


@pytest.fixture
def clock():
    """Make a clock."""
    return Clock()


def texts(timeline, *between):
    """Return the texts in the timeline."""
    return [event.text for event in timeline.between(*between)]


def test_a_change_carries_its_reason(tmp_path, caplog, clock):
    """H13: the reason of a verdict reaches the timeline, its file, and one log line."""
    caplog.set_level(logging.INFO, "steelyard")
    timeline = Timeline(tmp_path, clock=clock)
    reason = "no answer within 1 s (3 of 3 failed)"
    timeline.add("verdict", "dns/10.0.0.11", f"down: {reason}", level="warning", previous="up", reason=reason)
    timeline.close()
    entry = json.loads((tmp_path / "events.jsonl").read_text())
    assert entry == {
        "at": clock.now, "kind": "verdict", "subject": "dns/10.0.0.11", "text": f"down: {reason}", "level": "warning",
        "previous": "up", "reason": reason,
    }  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [f"verdict dns/10.0.0.11: down: {reason}"]
    assert caplog.records[0].levelname == "WARNING"


def test_the_timeline_survives_a_restart(tmp_path, clock):
    """What was recorded before a restart is there afterwards, in order, beside what comes then."""
    first = Timeline(tmp_path, clock=clock)
    first.add("worker", "worker 0", "died: signal 9", signal=9)
    first.close()
    second = Timeline(tmp_path, clock=clock)
    second.add("worker", "worker 0", "restarted")
    assert texts(second) == ["died: signal 9", "restarted"]
    assert next(second.between()).fields == {"signal": 9}
    second.close()


def test_garbage_in_the_file_is_passed_over(tmp_path, clock):
    """A torn last line, binary rubbish and foreign objects in the file cost those lines and nothing else."""
    good = json.dumps(Event(1.0, "verdict", "a", "kept").as_dict()).encode()
    rubbish = [
        b"",
        b"\x00\xff\xfe",
        b"[]",
        b"{}",
        b'{"at": true}',
        b"[" * 100_000,
        b'{"at": 1e999, "kind": 3}',
        b"null",
    ]
    foreign = [
        b'{"at": %s, "kind": "k", "subject": "s", "text": "t", "level": %s}' % (at, level)
        for at, level in (
            (b"1", b'"loud"'),
            (b"1", b"[]"),
            (b"1" * 400, b'"info"'),
            (b"NaN", b'"info"'),
            (b"1e999", b'"info"'),
        )
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join([good, *rubbish, *foreign, good, good[:-10]]))
    timeline = Timeline(tmp_path, clock=clock)
    timeline.add("verdict", "a", "new")
    assert texts(timeline) == ["kept", "kept", "new"]
    timeline.close()
    assert texts(Timeline(tmp_path, clock=clock)) == ["kept", "kept", "new"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_file_can_be_read(tmp_path, rubbish):
    """Whatever bytes the file holds, the timeline starts and records."""
    (tmp_path / "events.jsonl").write_bytes(rubbish)
    timeline = Timeline(tmp_path)
    timeline.add("k", "s", "recorded")
    timeline.close()
    assert texts(Timeline(tmp_path))[-1] == "recorded"


def test_memory_is_bounded(clock):
    """The ring keeps the newest events, and an endless reason is cut."""
    timeline = Timeline(None, limit=3, clock=clock)
    for number in range(10):
        timeline.add("k", "s", str(number))
    assert texts(timeline) == ["7", "8", "9"]
    event = timeline.add("k", "s" * 10_000, "t" * 10_000, reason="r" * 10_000)
    assert len(event.subject) == len(event.text) == len(event.fields["reason"]) == TEXT_MAX


def test_since_and_until(clock):
    """A span takes its first moment in and leaves its last out, by the events' own times."""
    timeline = Timeline(None, clock=clock)
    for at in (10.0, 20.0, 15.0, 30.0):
        clock.now = at
        timeline.add("k", "s", str(at))
    assert texts(timeline, 15.0, 30.0) == ["20.0", "15.0"]
    assert texts(timeline, 20.0) == ["20.0", "30.0"]
    assert texts(timeline, None, 15.0) == ["10.0"]


def test_an_unwritable_directory_costs_one_warning(tmp_path, caplog, clock):
    """Where the state directory cannot be used there is one warning, and the timeline goes on in memory."""
    (tmp_path / "file").touch()
    timeline = Timeline(tmp_path / "file" / "state", clock=clock)
    for number in range(3):
        timeline.add("k", "s", str(number), level="debug")
    assert texts(timeline) == ["0", "1", "2"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"events are kept in memory only: {tmp_path / 'file' / 'state' / 'events.jsonl'}: Not a directory"
    ]


def test_a_full_disk_costs_one_warning_at_a_time(tmp_path, caplog, clock):
    """Events that find the disk full are told once, kept in memory, and written again as soon as there is room."""
    timeline = Timeline(tmp_path, clock=clock)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for repeat in range(2):
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "events.jsonl").stat().st_size, limits[1]))
        try:
            for number in range(3):
                timeline.add("k", "s", f"full {number}", level="debug")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        timeline.add("k", "s", "room", level="debug")
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == repeat + 1
    assert len(timeline) == 8
    timeline.close()
    assert texts(Timeline(tmp_path, clock=clock)) == ["room", "room"]


def test_fields_cannot_forge_an_event(clock):
    """A field named like a part of the event does not replace that part."""
    event = Timeline(None, clock=clock).add("verdict", "a", "down", at_all=1, at=5)
    assert (event.at, event.fields) == (clock.now, {"at_all": 1})


async def test_followers_hear_of_everything(clock):
    """A follower gets each event from then on, in order, and its end when the timeline closes."""
    timeline = Timeline(None, clock=clock)
    timeline.add("k", "s", "before")
    follower = timeline.follow()
    waiting = asyncio.create_task(follower.next())
    await asyncio.sleep(0)
    for text in ("one", "two"):
        timeline.add("k", "s", text)
    assert (await waiting).text == "one"
    timeline.close()
    assert [event.text async for event in follower] == ["two"]


async def test_a_slow_follower_loses_the_oldest_and_is_told(clock):
    """A follower that does not read costs a bounded queue; it is told how many events it lost."""
    timeline = Timeline(None, clock=clock)
    follower = timeline.follow()
    for number in range(QUEUE + 7):
        timeline.add("k", "s", str(number))
    first = await follower.next()
    assert (first.kind, first.fields) == ("lost", {"lost": 7})
    assert (await follower.next()).text == "7"
    follower.close()


async def test_followers_are_limited(clock):
    """So many follow and no more; one that leaves makes room."""
    timeline = Timeline(None, clock=clock)
    followers = [timeline.follow() for _ in range(FOLLOWERS)]
    with pytest.raises(RuntimeError, match="follow the events already"):
        timeline.follow()
    followers[0].close()
    timeline.follow()
