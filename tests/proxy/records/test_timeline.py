"""proxy.records.timeline: the timeline."""

import asyncio
import contextlib
import json
import logging
import os
import resource
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.moments import rfc3339
from proxy.records.disk_thread import QUEUE as WAITING
from proxy.records.disk_thread import DiskThread
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


@contextlib.asynccontextmanager
async def kept(directory, **more):
    """Make a timeline that is kept in a directory; all of it is written when this ends."""
    disk, timeline = DiskThread("disk"), Timeline(**more)
    await timeline.keep(directory, disk)

    async def written():
        await disk.close(10)  # the next event starts another thread
        await asyncio.sleep(0)  # the loop takes what the thread has told it

    timeline.written = written
    try:
        yield timeline
    finally:
        timeline.close()
        await disk.close(10)


def texts(timeline, *between):
    """Return the texts in the timeline."""
    return [event.text for event in timeline.between(*between)]


async def test_a_change_carries_its_reason(tmp_path, caplog, clock):
    """H13: the reason of a verdict reaches the timeline, its file, and one log line."""
    caplog.set_level(logging.INFO, "steelyard")
    reason = "no answer within 1 s (3 of 3 failed)"
    async with kept(tmp_path, clock=clock) as timeline:
        timeline.add("verdict", "dns/10.0.0.11", f"down: {reason}", level="warning", previous="up", reason=reason)
    entry = json.loads((tmp_path / "events.jsonl").read_text())
    assert entry == {
        "at": rfc3339(clock.now), "kind": "verdict", "subject": "dns/10.0.0.11", "text": f"down: {reason}", "level": "warning",
        "previous": "up", "reason": reason,
    }  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [f"verdict dns/10.0.0.11: down: {reason}"]
    assert caplog.records[0].levelname == "WARNING"


async def test_the_timeline_survives_a_restart(tmp_path, clock):
    """What was recorded before a restart is there afterwards, in order, before what comes then."""
    async with kept(tmp_path, clock=clock) as first:
        first.add("worker", "worker 0", "died: signal 9", signal=9)
    disk, second = DiskThread("disk"), Timeline(clock=clock)
    second.add("start", "n", "before the file was read")
    await second.keep(tmp_path, disk)
    second.add("worker", "worker 0", "restarted")
    assert texts(second) == ["died: signal 9", "before the file was read", "restarted"]
    assert next(second.between()).fields == {"signal": 9}
    second.close()
    await disk.close(10)


async def test_garbage_in_the_file_is_passed_over(tmp_path, clock):
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
            (b"-1", b'"info"'),
            (b'"2026-11-22T14:30:00"', b'"info"'),
            (b'"9999-99-99T00:00:00Z"', b'"info"'),
        )
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join([good, *rubbish, *foreign, good, good[:-10]]))
    async with kept(tmp_path, clock=clock) as timeline:
        timeline.add("verdict", "a", "new")
        assert texts(timeline) == ["kept", "kept", "new"]
    async with kept(tmp_path, clock=clock) as timeline:
        assert texts(timeline) == ["kept", "kept", "new"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
async def test_any_file_can_be_read(tmp_path, rubbish):
    """Whatever bytes the file holds, the timeline starts and records."""
    (tmp_path / "events.jsonl").write_bytes(rubbish)
    async with kept(tmp_path) as timeline:
        timeline.add("k", "s", "recorded")
    async with kept(tmp_path) as timeline:
        assert texts(timeline)[-1] == "recorded"


def test_memory_is_bounded(clock):
    """The ring keeps the newest events, and an endless reason is cut."""
    timeline = Timeline(limit=3, clock=clock)
    for number in range(10):
        timeline.add("k", "s", str(number))
    assert texts(timeline) == ["7", "8", "9"]
    event = timeline.add("k", "s" * 10_000, "t" * 10_000, reason="r" * 10_000)
    assert len(event.subject) == len(event.text) == len(event.fields["reason"]) == TEXT_MAX


def test_since_and_until(clock):
    """A span takes its first moment in and leaves its last out, by the events' own times."""
    timeline = Timeline(clock=clock)
    for at in (10.0, 20.0, 15.0, 30.0):
        clock.now = at
        timeline.add("k", "s", str(at))
    assert texts(timeline, 15.0, 30.0) == ["20.0", "15.0"]
    assert texts(timeline, 20.0) == ["20.0", "30.0"]
    assert texts(timeline, None, 15.0) == ["10.0"]


async def test_an_unwritable_directory_costs_one_warning(tmp_path, caplog, clock):
    """Where the state directory cannot be used there is one warning, and the timeline goes on in memory."""
    (tmp_path / "file").touch()
    async with kept(tmp_path / "file" / "state", clock=clock) as timeline:
        for number in range(3):
            timeline.add("k", "s", str(number), level="debug")
            await timeline.written()
        assert texts(timeline) == ["0", "1", "2"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"events are kept in memory only: {tmp_path / 'file' / 'state' / 'events.jsonl'}: Not a directory"
    ]


async def test_a_full_disk_costs_one_warning_at_a_time(tmp_path, caplog, clock):
    """R15: events that find the disk full are told once, kept in memory, and written again as soon as there is room."""
    async with kept(tmp_path, clock=clock) as timeline:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        for repeat in range(2):
            await timeline.written()
            resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "events.jsonl").stat().st_size, limits[1]))
            try:
                for number in range(3):
                    timeline.add("k", "s", f"full {number}", level="debug")
                    await timeline.written()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            timeline.add("k", "s", "room", level="debug")
            await timeline.written()
            warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert len(warnings) == repeat + 1
        assert len(timeline) == 8
    async with kept(tmp_path, clock=clock) as timeline:
        assert texts(timeline) == ["room", "room"]


async def test_a_stuck_disk_holds_nobody_up(tmp_path, caplog, clock):
    """R15: while the disk does not answer events are taken without a wait, also more than may wait for it."""
    async with kept(tmp_path, clock=clock) as timeline:
        reading, writing = os.pipe()
        entered = threading.Event()
        timeline._disk.submit(lambda: entered.set() or os.read(reading, 1))
        assert entered.wait(10)
        for number in range(WAITING + 10):
            timeline.add("k", "s", str(number), level="debug")
        assert len(timeline) == WAITING + 10
        assert "wait for the file system" in caplog.text
        os.close(writing)
        await timeline.written()
        os.close(reading)
    async with kept(tmp_path, clock=clock) as timeline:
        assert texts(timeline) == [str(number) for number in range(WAITING)]


async def test_a_file_that_was_moved_away(tmp_path, clock):
    """After `reopen` events go to the file that has the name, not to the one that was moved away."""
    async with kept(tmp_path, clock=clock) as timeline:
        timeline.add("k", "s", "one")
        await timeline.written()
        (tmp_path / "events.jsonl").rename(tmp_path / "old")
        timeline.reopen()
        timeline.add("k", "s", "two")
    assert "two" not in (tmp_path / "old").read_text()
    assert "two" in (tmp_path / "events.jsonl").read_text()


def test_an_event_has_the_time_at_which_it_happened(clock):
    """An event that another process tells of has that process's time, unless that is still to come or no time at all."""
    timeline = Timeline(clock=clock)
    times = [clock.now - 5, 0, clock.now + 1, -1, float("nan"), float("inf"), None]
    told = [timeline.add("k", "s", "t", at=at).at for at in times]
    assert told == [clock.now - 5, 0, *[clock.now] * 5]


async def test_followers_hear_of_everything(clock):
    """A follower gets each event from then on, in order, and its end when the timeline closes."""
    timeline = Timeline(clock=clock)
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
    timeline = Timeline(clock=clock)
    follower = timeline.follow()
    for number in range(QUEUE + 7):
        timeline.add("k", "s", str(number))
    first = await follower.next()
    assert (first.kind, first.fields) == ("lost", {"lost": 7})
    assert (await follower.next()).text == "7"
    follower.close()


async def test_followers_are_limited(clock):
    """So many follow and no more; one that leaves makes room."""
    timeline = Timeline(clock=clock)
    followers = [timeline.follow() for _ in range(FOLLOWERS)]
    with pytest.raises(RuntimeError, match="follow the events already"):
        timeline.follow()
    followers[0].close()
    timeline.follow()


async def test_events_are_held_back_while_a_successor_may_write(tmp_path):
    """R12: held events are in neither file nor log, and are recorded in order when the successor has failed."""
    async with kept(tmp_path) as timeline:
        timeline.add("a", "x", "before")
        timeline.hold()
        timeline.add("a", "x", "meanwhile")
        await timeline.written()
        assert "meanwhile" not in (tmp_path / "events.jsonl").read_text()
        assert [one.text for one in timeline.between()] == ["before", "meanwhile"]
        timeline.release()
        timeline.add("a", "x", "after")
        await timeline.written()
        lines = [json.loads(line)["text"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
        assert lines == ["before", "meanwhile", "after"]


async def test_a_successor_gets_the_events(tmp_path, caplog):
    """R12: a timeline that is given away forwards what was held back and what comes; what is not taken is logged."""
    taken, takes = [], [True]

    def forward(event):
        taken.append(event.text)
        return takes[0]

    with caplog.at_level(logging.INFO, "steelyard"):
        async with kept(tmp_path) as timeline:
            timeline.hold()
            timeline.add("a", "x", "held")
            timeline.give_away(forward)
            timeline.add("a", "x", "later")
            takes[0] = False
            timeline.add("a", "x", "alone")
            await timeline.written()
    assert taken == ["held", "later", "alone"]
    assert [record.getMessage() for record in caplog.records] == ["a x: alone"]
    assert (tmp_path / "events.jsonl").read_text() == ""
