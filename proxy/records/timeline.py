"""The timeline: what changed, when, and why, as one list of events in memory, in a file, and in the log.

Verdicts, worker deaths, reloads, address moves and admin acts are *events*: rare, each with its reason in words. They
are kept in a bounded ring, appended to `events.jsonl` in the state directory (rotated once to `events.jsonl.1`), written
to the log, and sent to the clients that follow. The file is the operator's memory across restarts, never a reason to stop: it is
written by a thread, and when it cannot be written there is one warning and the timeline goes on in memory.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

from proxy.moments import rfc3339, unix
from proxy.records.disk_thread import DiskThread, StuckError
from proxy.records.rotating_file import RotatingFile, RotatingFileError, recorded_lines
from proxy.words import counted

if TYPE_CHECKING:
    from concurrent.futures import Future

Level = Literal["debug", "info", "warning", "error"]

FILE: Final = "events.jsonl"
LIMIT: Final = 10_000
"""Events kept in memory."""
QUEUE: Final = 1_000
"""Events that may wait for a follower before the oldest are dropped."""
FOLLOWERS: Final = 16
LOST: Final = "lost"
"""The kind of event that tells a reader of events that it has missed."""
PATIENCE: Final = 3.0
"""Seconds that the start waits for what earlier lives have recorded."""
TEXT_MAX: Final = 2_000
"""Characters of a text or of a field's value: a reason may quote what a hostile server said."""

_RESERVED: Final = frozenset({"at", "kind", "subject", "text", "level"})
_LEVELS: Final[dict[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

log = logging.getLogger("steelyard")


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `at` in Unix seconds; `kind` a stable word ("verdict", "worker", "reload", ...); `subject` the
    part that changed ("dns/10.0.0.11"); `text` the change and its reason in words; `fields` the same for machines.
    """  # noqa: D205 - one sentence needs two lines

    at: float
    kind: str
    subject: str
    text: str
    level: Level = "info"
    fields: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the flat JSON object that the file and the control socket carry."""
        return {
            "at": rfc3339(self.at),
            "kind": self.kind,
            "subject": self.subject,
            "text": self.text,
            "level": self.level,
            **self.fields,
        }

    @classmethod
    def from_dict(cls, entry: Any) -> Self:
        """Return the event that `as_dict` made; ValueError for anything else."""
        if not isinstance(entry, dict):
            raise ValueError("an event is an object")  # noqa: TRY004 - all bad input is one kind of error
        kind, subject, text = (entry.get(key) for key in ("kind", "subject", "text"))
        level = entry.get("level", "info")
        at = unix(entry.get("at"))  # of earlier versions a number
        if level not in [*_LEVELS]:  # a list: it may be something that has no hash
            raise ValueError("an event has a level")
        if not (isinstance(kind, str) and isinstance(subject, str) and isinstance(text, str)):
            raise ValueError("an event has kind, subject and text")  # noqa: TRY004 - as above
        fields = {key: value for key, value in entry.items() if key not in _RESERVED}
        return cls(at, kind, subject, text, level, fields)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The events that a reader asks for: from `since` on, before `until` (Unix seconds), of a service and of a kind.

    None leaves a bound out.
    """

    since: float | None = None
    until: float | None = None
    service: str | None = None
    kind: str | None = None

    def __contains__(self, event: Event) -> bool:
        # By each event's own time, not by order: the wall clock may have been set back in between.
        return (
            (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
            and (self.kind is None or event.kind == self.kind)
            and (self.service is None or self.service in {event.subject.partition("/")[0], event.fields.get("service")})
        )


class Follower:
    """Events as they come, for one reader; a slow reader loses the oldest ones and learns how many."""

    def __init__(self, timeline: "Timeline") -> None:
        self._timeline = timeline
        self._waiting: deque[Event] = deque()
        self._lost = 0
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Queue an event; never waits."""
        if len(self._waiting) >= QUEUE:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(event)
        self._wake.set()

    async def next(self) -> Event | None:
        """Return the next event, once there is one; None when the timeline has closed."""
        while not self._waiting:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            text = f"{counted(lost, 'event')} lost: this reader was too slow"
            return Event(self._waiting[0].at, LOST, "events", text, "warning", {"lost": lost})
        return self._waiting.popleft()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self.next()) is not None:
            yield event

    def close(self) -> None:
        """Stop following; `next` returns what is queued and then None."""
        self._closed = True
        self._wake.set()
        self._timeline.forget(self)


class Tell(Protocol):
    """Records what happened, as `Timeline.add` does."""

    def __call__(
        self, kind: str, subject: str, text: str, *, level: Level = "info", at: float | None = None, **fields: Any
    ) -> object:
        """Record it; `at` is when it happened (Unix seconds), now by default."""


class _File:
    """`events.jsonl`, as the thread has it; opened when it is first needed, and whenever that failed before."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rotating: RotatingFile | None = None

    def read(self) -> list[Event]:
        """Return the events that earlier lives recorded, oldest first; RotatingFileError."""
        return list(_events(self._open().lines()))

    def append(self, line: bytes) -> None:
        """Write a line; RotatingFileError."""
        self._open().append(line)

    def close(self) -> None:
        """Close it; the next line opens it again, whichever file has its name by then."""
        if self._rotating is not None:
            self._rotating.close()
            self._rotating = None

    def _open(self) -> RotatingFile:
        if self._rotating is None:
            self._rotating = RotatingFile(self._directory, FILE)
        return self._rotating


class Timeline:
    """All events of this daemon, oldest first; in memory alone until `keep`.

    Not for several threads. `clock` gives Unix seconds.
    """

    def __init__(self, limit: int = LIMIT, *, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._events: deque[Event] = deque(maxlen=limit)
        self._clock = clock
        self._followers: set[Follower] = set()
        self._disk: DiskThread | None = None
        self._file: _File | None = None
        self._complained = False
        self._held: list[Event] | None = None  # those that wait, while a successor may be writing
        self._forward: Callable[[Event], bool] | None = None

    async def keep(self, directory: Path, disk: DiskThread) -> None:
        """Take in what earlier lives recorded in a directory, and write to its file from now on, by its thread."""
        file = _File(directory)
        try:
            before = await disk.run(file.read, PATIENCE)
        except (RotatingFileError, StuckError) as error:
            self._complain(error)
        else:
            room = self._limit - len(self._events)
            self._events.extendleft(reversed(before[max(0, len(before) - room) :]))
        self._disk, self._file = disk, file

    def add(
        self, kind: str, subject: str, text: str, *, level: Level = "info", at: float | None = None, **fields: Any
    ) -> Event:
        """Record what happened `at` that time (Unix seconds; by default now), and why; returns the event.

        `fields` must be plain JSON values.
        """
        now = self._clock()
        event = Event(
            # Another process says when: no time that is still to come, and none that is no number.
            round(now if at is None or not 0 <= at <= now else at, 3),
            kind,
            subject[:TEXT_MAX],
            text[:TEXT_MAX],
            level,
            {key: _bounded(value) for key, value in fields.items()},
        )
        self._events.append(event)
        for follower in list(self._followers):
            follower.put(event)
        if self._held is not None:
            self._held.append(event)
        elif self._forward is None or not self._forward(event):
            self._record(event)
        return event

    def _record(self, event: Event) -> None:
        log.log(
            _LEVELS[event.level],
            "%s %s: %s",
            event.kind,
            event.subject,
            event.text,
            extra={"kind": event.kind, "subject": event.subject, "fields": event.fields},
        )
        self._persist(event)

    def between(self, since: float | None = None, until: float | None = None) -> Iterator[Event]:
        """Yield the events in memory from `since` (inclusive) to `until` (exclusive), both in Unix seconds."""
        wanted = Wanted(since, until)
        for event in list(self._events):
            if event in wanted:
                yield event

    def follow(self) -> Follower:
        """Return a new follower of what happens from now on; RuntimeError when there are too many already."""
        if len(self._followers) >= FOLLOWERS:
            raise RuntimeError(f"{FOLLOWERS} clients follow the events already")
        follower = Follower(self)
        self._followers.add(follower)
        return follower

    def forget(self, follower: Follower) -> None:
        """Send nothing more to a follower; harmless for one unknown."""
        self._followers.discard(follower)

    def reopen(self) -> None:
        """Write to the file that has the name now: the old one may have been moved away."""
        if self._disk is not None and self._file is not None:
            with contextlib.suppress(StuckError):
                self._disk.submit(self._file.close)

    def hold(self) -> None:
        """Record nothing until `release`: a successor writes to the same file."""
        self._held = []

    def release(self) -> None:
        """Record again, first what was held back."""
        events, self._held = self._held or [], None
        for event in events:
            self._record(event)

    def give_away(self, forward: Callable[[Event], bool]) -> None:
        """Leave the file to a successor: from now on `forward` takes events; those that it does not take are logged only."""
        events, self._held = self._held or [], None
        for event in events:
            forward(event)
        self._forward = forward
        self.close()

    def close(self) -> None:
        """End all followers; the thread closes the file when it has written what waits."""
        for follower in list(self._followers):
            follower.close()
        self.reopen()
        self._disk = self._file = None

    def __len__(self) -> int:
        return len(self._events)

    def _persist(self, event: Event) -> None:
        if self._disk is None or self._file is None:
            return
        file, line = self._file, json.dumps(event.as_dict(), default=str).encode()
        loop = asyncio.get_running_loop()

        def written(done: "Future[None]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._written, done.exception())

        try:
            self._disk.submit(lambda: file.append(line)).add_done_callback(written)
        except StuckError as error:
            self._complain(error)

    def _written(self, error: BaseException | None) -> None:
        if error is None:
            self._complained = False
        else:
            self._complain(error)

    def _complain(self, error: BaseException) -> None:
        if not self._complained:
            self._complained = True
            log.warning("events are kept in memory only: %s", error)


def recorded(directory: Path) -> list[Event]:
    """Return the events in a state directory whose daemon need not run; RotatingFileError if it cannot be read."""
    return list(_events(recorded_lines(directory, FILE)))


def _events(lines: Iterable[bytes]) -> Iterator[Event]:
    for line in lines:
        # A torn or foreign line: the next one may be whole.
        with contextlib.suppress(ValueError, RecursionError):
            yield Event.from_dict(json.loads(line))


def _bounded(value: Any) -> Any:
    return value[:TEXT_MAX] if isinstance(value, str) else value
