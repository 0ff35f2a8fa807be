"""The other host of the pair, as the master knows it over the link: its acts, its verdicts, its file, its signs of life.

It tells and shows.  Nothing waits for it but the answer to an operator, for a bounded time, and no router asks it: who is
active is decided by VRRP alone.
"""

import asyncio
import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy import __version__
from proxy.backends.effective import Running
from proxy.backends.readiness import Readiness
from proxy.backends.shared_acts import SharedActs
from proxy.config.model import BackendKey
from proxy.herald.peer_link import PeerLink
from proxy.moments import rfc3339
from proxy.peer import messages
from proxy.peer.acts import Entry, Key
from proxy.peer.link import BEAT
from proxy.peer.verdicts import OurVerdicts, PeerVerdicts
from proxy.processes.faults import Faults
from proxy.records.timeline import Tell

if TYPE_CHECKING:
    from proxy.peer.clock import Stamp

ANSWER: Final = 2.0
"""Seconds that an operator waits for the peer's answer to an act."""
QUEUE: Final = 256
"""Messages with acts that wait to be applied; more are dropped, and come again when the hosts compare what they know."""
DIFFER: Final = 300.0
"""Seconds for which the files of the hosts may differ without an alarm."""
VERDICTS: Final = 0.2
"""Seconds between two messages with verdicts."""
_ROWS: Final = 80
"""Stamps in a message."""
_ENTRIES: Final = 20
"""Acts in a message."""


class Partner:
    """The peer of a daemon; without [pair] it is never there.

    `tell` records events, `faults` what should not happen.
    """

    def __init__(
        self, link: PeerLink, running: Running, shared: SharedActs, readiness: Readiness, tell: Tell, faults: Faults
    ) -> None:
        self.link = link
        self.shared = shared
        self.verdicts = PeerVerdicts()
        self.hello: messages.Hello | None = None
        self.beat: messages.Beat | None = None
        self.clock_offset = 0.0
        """Seconds that the peer's wall clock is ahead, as of the last sign of life."""
        self._running = running
        self._readiness = readiness
        self._tell = tell
        self._faults = faults
        self._life = uuid.uuid4().hex[:16]
        self._ours = OurVerdicts()
        self._numbers = itertools.count(1)
        self._beats = itertools.count(1)
        self._beaten = self._judged = float("-inf")
        self._waiting: dict[int, asyncio.Future[messages.Answer]] = {}
        self._acted: deque[messages.Acted] = deque(maxlen=QUEUE)
        self._working: asyncio.Task[None] | None = None
        self._have: list[tuple[Key, Stamp]] = []
        self._news = True
        self._differs: float | None = None
        self._alarmed = False
        self.on_more: Callable[[messages.Any_], None] = lambda _: None
        """Called with messages that are none of this module's."""
        link.on_connection = self._greet
        link.on_message = self._take
        link.on_change = self._changed
        readiness.ask_peer(self.seen_up)

    # -- regular work

    def look(self, now: float) -> None:
        """Give a sign of life each second, and pass on verdicts.  Call it often; `now` in monotonic seconds."""
        if self.link.settings is None:
            return
        self.shared.look()
        if now - self._beaten >= BEAT:
            self._beaten = now
            self._compare_files(now)
            self._send_beat()
        if self._news and self._shares("verdicts") and now - self._judged >= VERDICTS and self.hello is not None:
            self._judged, self._news = now, False
            self._send_verdicts()

    def judged(self) -> None:
        """Take note that verdicts of this host have changed."""
        self._news = True

    def reloaded(self) -> None:
        """Take another configuration into account."""
        self._news = True
        self._run_later(self.shared.again())

    # -- acts

    async def share(self, command: str, keys: Sequence[BackendKey], by: str, **more: Any) -> dict[str, Any] | None:
        """Have the peer do what an operator has done here; returns what the peer says, None without [pair]."""
        if not self._shares("acts"):
            return None
        entries = self.shared.noted(command, keys, by, time.time(), **more)
        return await self._told(messages.Acted(floor=self.shared.acts.floor, entries=tuple(entries[: messages.CHUNK])))

    async def share_clear(self) -> dict[str, Any] | None:
        """Have the peer end all acts, as they have ended here; returns what the peer says, None without [pair]."""
        if not self._shares("acts"):
            return None
        return await self._told(messages.Acted(floor=self.shared.noted_clear(time.time())))

    async def _told(self, acted: messages.Acted) -> dict[str, Any]:
        peer = self.link.peer
        if not self.link.connected:
            return {"node": peer, "state": "away", "text": f"{self.link.state.why}; it catches up when it is back"}
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            if not self.link.send(acted.model_copy(update={"number": number})):
                return {"node": peer, "state": "late", "text": "told with the next comparison"}
            answer = await asyncio.wait_for(future, ANSWER)
        except TimeoutError:
            return {"node": peer, "state": "late", "text": f"no answer within {ANSWER:g} s; it catches up"}
        finally:
            self._waiting.pop(number, None)
        failed = [f"{one.key.service}/{one.key.backend}: {one.text}" for one in answer.results if not one.ok]
        if failed or answer.error:
            return {"node": peer, "state": "refused", "text": "; ".join([*failed[:5], *filter(None, [answer.error])])}
        return {"node": peer, "state": "done", "text": "done"}

    # -- verdicts

    def seen_up(self, key: BackendKey) -> bool:
        """Returns True if the peer is there and sees a backend up, for services that ask for both verdicts."""
        service = self._running.services.get(key[0])
        return (
            service is not None
            and service.peer_verdict == "require-both-down"
            and self._shares("verdicts")
            and self.link.connected
            and self.verdicts.seen_up(key)
        )

    def row(self, key: BackendKey) -> dict[str, Any] | None:
        """Return the peer's verdict on a backend, for the status."""
        found = self.verdicts.get(key)
        if found is None:
            return None
        return {
            "node": self.link.peer, "state": found.state, "since": rfc3339(found.at), "reason": found.reason,
            "stale": not self.link.connected,
        }  # fmt: skip

    def _send_verdicts(self) -> None:
        rows = {
            key: messages.VerdictRow(
                service=key[0][:256], backend=key[1][:256], state=one.state, at=one.since, reason=one.reason[:200]
            )
            for key, one in self._readiness.known.items()
        }
        for message in self._ours.news(rows):
            self.link.send(message)

    def _reconsider(self, services: Sequence[str] | None = None) -> None:
        wanted = [
            service.name
            for service in self._running.config.services
            if service.peer_verdict != "ignore" and (services is None or service.name in services)
        ]
        if wanted:
            self._readiness.reconsider(wanted)

    # -- the link

    def _shares(self, what: str) -> bool:
        settings = self.link.settings
        return settings is not None and what in settings.share

    def _greet(self) -> None:
        self.hello = self.beat = None
        settings = self.link.settings
        share = () if settings is None else settings.share
        node = self._running.config.node.name
        self.link.send(messages.Hello(node=node, life=self._life, program=__version__, share=share))
        self._send_beat()

    def _send_beat(self) -> None:
        self.link.send(
            messages.Beat(
                number=next(self._beats), wall=int(time.time() * 1000),
                acts=self.shared.acts.digest() if self._shares("acts") else "",
                sha256=self._running.config.sha256, verdicts=self._ours.number,
            )
        )  # fmt: skip

    def _changed(self) -> None:
        self._reconsider()

    def _take(self, message: messages.Any_) -> None:
        match message:
            case messages.Hello():
                self.hello, self.beat = message, None
                self.verdicts.restart()
                self._ours.restart()
                self._have = []
                self._news = True
            case messages.Beat():
                self._take_beat(message)
            case messages.Have() if self._shares("acts"):
                self._take_have(message)
            case messages.Acted() if self._shares("acts"):
                self._acted.append(message)
                if self._working is None or self._working.done():
                    self._working = self._run_later(self._work())
            case messages.Answer(number=number):
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(message)
            case messages.Verdicts() if self._shares("verdicts"):
                changed = self.verdicts.take(message)
                self._reconsider([key[0] for key in changed])
            case messages.Ask(what="verdicts"):
                self._ours.again()
                self._news = True
            case _:
                self.on_more(message)

    def _take_beat(self, beat: messages.Beat) -> None:
        if self.beat is not None and beat.number <= self.beat.number:
            return  # a replay: no sign of life
        self.beat = beat
        self.clock_offset = beat.wall / 1000 - time.time()
        self.link.heard(time.monotonic())
        acts = self.shared.acts
        if beat.acts and self._shares("acts") and beat.acts != acts.digest():
            self._send_have()
        if self._shares("verdicts") and beat.verdicts and self.verdicts.is_behind(beat.verdicts):
            self.link.send(messages.Ask(number=0, what="verdicts"))

    def _send_have(self) -> None:
        acts = self.shared.acts
        stamps = acts.stamps()
        parts = [stamps[at : at + _ROWS] for at in range(0, len(stamps), _ROWS)] or [[]]
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            self.link.send(messages.Have(floor=acts.floor, stamps=tuple(part), first=not place, last=last))

    def _take_have(self, have: messages.Have) -> None:
        if have.first:
            self._have = []
        self._have = [*self._have, *have.stamps][: 2 * len(self.shared.acts) + 10_000]
        if not have.last:
            return
        acts, known, self._have = self.shared.acts, self._have, []
        missing = acts.missing(known)
        if missing or acts.floor > have.floor:
            for at in range(0, max(len(missing), 1), _ENTRIES):
                self._send_entries(missing[at : at + _ENTRIES])

    def _send_entries(self, entries: Sequence[Entry]) -> None:
        message = messages.Acted(floor=self.shared.acts.floor, entries=tuple(entries))
        if not self.link.send(message) and len(entries) > 1:  # long reasons
            for entry in entries:
                self.link.send(messages.Acted(floor=self.shared.acts.floor, entries=(entry,)))

    async def _work(self) -> None:
        while self._acted:
            acted = self._acted.popleft()
            results, refused, losers = await self.shared.take(self.link.peer, acted.floor, acted.entries)
            if losers:  # so that the peer can tell, too
                self._send_entries(losers)
            if refused:
                self._tell("pair", self.link.peer, f"its acts are not taken: {refused}", level="warning")
            if acted.number:
                answer = messages.Answer(number=acted.number, results=tuple(results), error=refused)
                if not self.link.send(answer):
                    self.link.send(messages.Answer(number=acted.number, error="the answer is too long"))

    def _run_later(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.add(error, "in what the peer has sent")

    # -- the files

    def _compare_files(self, now: float) -> None:
        """Raise an alarm if the hosts have had different files for long."""
        peer = self.link.peer
        if not self.link.connected or self.beat is None or not self.beat.sha256:
            return
        if self.beat.sha256 == self._running.config.sha256:
            self._differs = None
            if self._alarmed:
                self._alarmed = False
                self._tell("alarm", "pair", f"over: {peer} has the same file again", state="over")
            return
        if self._differs is None:
            self._differs = now
        elif now - self._differs >= DIFFER and not self._alarmed:
            self._alarmed = True
            text = f"the file in force here and that of {peer} have differed for {DIFFER / 60:g} minutes: steelyard pair diff"
            self._tell("alarm", "pair", text, level="error", state="raised")

    # -- for the status

    def status(self) -> dict[str, Any] | None:
        """Return the state of the link and of the peer, None without [pair]."""
        if self.link.settings is None:
            return None
        beat, hello, state = self.beat, self.hello, self.link.state
        sha256 = "" if beat is None else beat.sha256
        return {
            "node": self._running.config.node.name,
            "peer": self.link.peer,
            "state": state.state,
            "why": state.why,
            "since": rfc3339(self.link.since),
            "last_beat_s": None if beat is None else round(state.age(time.monotonic()), 3),
            "version": None if hello is None else hello.program,
            "protocol": None if hello is None else hello.protocol,
            "clock_offset_s": None if beat is None else round(self.clock_offset, 3),
            "same_file": None if not sha256 else sha256 == self._running.config.sha256,
            "sha256": sha256 or None,
            "same_acts": None if beat is None or not beat.acts else beat.acts == self.shared.acts.digest(),
            "acts": len(self.shared.acts),
            "acts_not_in_force_here": [f"{key.service}/{key.backend}" for key in self.shared.pending],
            "counters": dict(self.link.counters),
        }
