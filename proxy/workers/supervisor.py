"""Starts, watches and replaces the workers, and gives them the members that they poll.

A worker's death loses no queued client: the master owns the members, another worker polls them at once and sends the
dead worker's queries in flight again, from its journal.  The supervisor treats a stalled worker the same way, then
kills it.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from proxy.processes import codec
from proxy.processes.child import FIRST_PAUSE, Child, Identity
from proxy.processes.heartbeat import Pulse
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.processes.requests import Question, Questions
from proxy.records.timeline import Level
from proxy.stats.layout import GENERATION, HEARTBEAT, MEMBERS
from proxy.status.rows import WorkerRow
from proxy.words import counted
from proxy.workers.followers import Followers
from proxy.workers.inheritance import Inheritance
from proxy.workers.listeners import Relocation
from proxy.workers.lives import begin_life, end_life, grant, prepare
from proxy.workers.member_owners import Members
from proxy.workers.place import Place
from proxy.workers.provision import Provision
from proxy.workers.sessions import lots
from proxy.workers.siblings import introduce

STALL = 1.0  # s without a heartbeat


class Owner(Protocol):
    """What the supervisor reports to the master."""

    def told(self, subject: str, text: str, *, level: Level = "info", **fields: Any) -> None:
        """Record an event."""

    def heard(self, life: int, message: messages.Message) -> None:
        """Take a worker's message about a backend, or about what it references."""

    def workers_changed(self) -> None:
        """Take note that a worker has become able to serve, or unable."""

    def workers_gone(self) -> None:
        """Take note that all workers have left after a drain."""


class Supervisor:
    """The workers of a daemon."""

    def __init__(self, owner: Owner, provision: Provision, count: int, identity: Identity, lives: int = 0) -> None:
        """Prepare `count` workers; `lives` is how many a predecessor has started already."""
        self.owner = owner
        self._provision = provision
        self._identity = identity
        self._loop = asyncio.get_running_loop()
        self._places = [Place(index) for index in range(count)]
        self.lives = lives
        """How many workers have been started so far: the number of the last one."""
        self._inheritance = Inheritance()
        self._stopping = False
        self._frozen = False
        self._questions = Questions()
        self.followers = Followers(self.tell)
        self.members = Members(count)
        self.on_sessions: Callable[[worker_messages.Sessions, list[int]], None] = lambda *_: None
        """Called with the UDP sessions of workers that hand over; the descriptors stay ours."""

    # -- orders

    def start(self) -> None:
        """Start every worker."""
        for place in self._places:
            self._start(place)

    def tell(self, message: messages.Message) -> None:
        """Send a message to every worker that is ready; `_ready` gives later ones the same knowledge."""
        for place in self._places:
            if place.child is not None and place.child.ready and place.child.alive:
                place.child.send(message)

    def tell_all(self, message: messages.Message) -> None:
        """Send a message to every worker, also to those not ready yet: it follows their `Setup`, which may be older."""
        encoded = codec.encode(message)
        for place in self._places:
            if place.child is not None and place.child.alive:
                place.child.send(encoded)

    def log(self, level: messages.Level) -> None:
        """Have the workers, and later ones, log in this way."""
        self._identity = replace(self._identity, level=level.level, format=level.format)
        self.tell_all(level)

    def have(self, generation: int) -> bool:
        """Returns True if every worker that serves has taken over this generation of the configuration.

        It then polls what it was given, and nothing else: removed listeners are closed.
        """
        cell = self._provision.columns.cell
        return all(
            cell(place.life or 0, GENERATION) >= generation
            and cell(place.life or 0, MEMBERS) == len(self.members.polled_by(place.index))
            for place in self._places
            if place.able
        )

    def reopened(self) -> None:
        """Give every worker that is ready the new file of the connection log."""
        for place in self._places:
            if place.child is not None and place.child.ready and place.child.alive:
                self._give_log(place.child)

    def _give_log(self, child: Child) -> None:
        if self._provision.log_fd >= 0:
            child.send(worker_messages.LogFile(), [self._provision.log_fd])

    def settle(self) -> None:
        """Hand each member to the worker that should poll it now."""
        if self._stopping:
            return
        able = {place.index for place in self._places if place.able}
        moves = self.members.settle(able, self._provision.open_listeners)
        # Grants come first: for a moment two workers may poll a member, which does no harm; a gap would delay clients.
        for index, keys in moves.grants.items():
            grant(self._places[index], self._provision, keys)
        for index, keys in moves.releases.items():
            child = self._places[index].child
            if child is not None and child.alive:
                child.send(worker_messages.Unlisten([list(key) for key in keys], False))

    def relocate(self, moves: Relocation) -> None:
        """Hand out listeners that are new or moved; have what is queued in removed ones served, and those closed."""
        self.close_listeners(moves.removed)
        for number in (*moves.added, *(new for _, new in moves.moved)):
            self.add(number)
        self.settle()
        for old, _ in moves.moved:
            self.members.remove(old)

    def close_listeners(self, listeners: Collection[int]) -> None:
        """Have the workers that poll these listeners serve what is queued there, and close them."""
        for place in self._places:
            keys = [list(key) for key in self.members.polled_by(place.index) if key[0] in listeners]
            if keys and place.child is not None and place.child.alive:
                place.child.send(worker_messages.Unlisten(keys, True))
        for listener in listeners:
            self.members.remove(listener)

    def add(self, listener: int) -> None:
        """Add a listener, whose members no worker polls before the next `settle`."""
        self.members.add(listener, self._provision.members(listener))

    def freeze(self) -> None:
        """Start no worker until `thaw`: a successor counts on those that live now."""
        self._frozen = True

    def thaw(self) -> None:
        """Start workers again."""
        self._frozen = False

    def leave_behind(self, journal_fd: int) -> None:
        """Own the journal of a predecessor's worker that is gone: what it had in flight is sent again."""
        self._inheritance.take(journal_fd)
        self._inheritance.hand_on(self._places)

    def adopt(self, listeners: Callable[[str], int | None], rows: Sequence[list[Any]], fds: Sequence[int]) -> None:
        """Give UDP sessions of a predecessor to the workers that their clients' datagrams reach now.

        `listeners(text)` returns the number of a listener; the descriptors stay the caller's.
        """
        for index, (some, sockets) in lots(self.members, listeners, rows, fds).items():
            child = self._places[index].child
            if child is not None and child.alive:
                child.send(worker_messages.Sessions(some, False), sockets)

    def present(self) -> list[Place]:
        """Return the places whose process lives, with its column and its journal."""
        return [place for place in self._places if place.child is not None and place.life is not None]

    @property
    def complete(self) -> bool:
        """Whether every worker is able to serve."""
        return all(place.able for place in self._places)

    @property
    def polling(self) -> bool:
        """Whether each worker polls the members that it was given."""
        columns = self._provision.columns
        return all(
            columns.cell(place.life or 0, MEMBERS) >= len(self.members.polled_by(place.index))
            for place in self._places
            if place.able
        )

    def drain(self, timeout: float, *, hand_over: bool = False) -> None:
        """Let the workers finish open connections, for `timeout` seconds, and exit.

        With `hand_over` they leave the clients that wait in the members to a successor, which polls them already.
        """
        self._stopping = True
        for place in self._places:
            if place.child is not None:
                place.child.send(worker_messages.Drain(timeout, hand_over))
        self._gone_if_all_left()

    async def end(self, patience: float) -> None:
        """Kill every worker, and wait at most `patience` seconds for their ends."""
        self._stopping = True
        children = [place.child for place in self._places if place.child is not None]
        for child in children:
            child.kill()
        await gone(children, patience)
        for place in self._places:
            end_life(place, self._provision)
        self._inheritance.close()

    @property
    def able(self) -> bool:
        """Whether any worker serves."""
        return any(place.able for place in self._places)

    def alive(self) -> list[int]:
        """Return the indices of the workers that can answer, draining ones included."""
        return [place.index for place in self._places if place.able]

    async def ask(self, index: int, question: Question, patience: float) -> messages.Message | None:
        """Return a worker's answer to a numbered question; None if there is none within `patience` seconds."""
        place = self._places[index]
        if place.child is None or not place.able:
            return None
        return await self._questions.ask(place.child, question, patience)

    def rows(self) -> list[WorkerRow]:
        """Return the workers as the status shows them."""
        return [place.row for place in self._places]

    def look(self, now: float) -> None:
        """Handle workers that stall or never get ready, and fill empty places."""
        if self._stopping:
            return
        for place in self._places:
            child = place.child
            if child is None:
                if place.waiting is None:
                    self._start(place)
                continue
            if place.stalled or not child.alive:
                continue
            silence = place.pulse.silence(self._provision.columns.cell(place.life or 0, HEARTBEAT), now)
            if child.ready and silence >= STALL:
                self._stalled(place, child, silence)
            elif not child.ready and silence >= place.pace.patience:
                text = f"not ready {place.pace.patience:g} s after its start: killed"
                place.pace.late()
                self.owner.told(place.name, text, level="error")
                child.kill()

    # -- lives

    def _start(self, place: Place) -> None:
        place.waiting = None
        if self._stopping or self._frozen or place.child is not None:
            return
        try:
            child = begin_life(
                place,
                self._provision,
                self._identity,
                self.lives + 1,
                lambda message, fds: self._on_message(place, message, fds),
                lambda how: self._died(place, how),
            )
        except OSError as error:
            self.owner.told(place.name, f"cannot be started: {error}", level="error")
            pause = place.pace.delay(0.0) or FIRST_PAUSE
            place.waiting = self._loop.call_later(pause, self._start, place)
        else:
            self.lives += 1
            place.child = child

    def _on_message(self, place: Place, message: messages.Message, fds: list[int]) -> None:
        if isinstance(message, worker_messages.Sessions):
            self.on_sessions(message, fds)
        for fd in fds:
            os.close(fd)
        match message:
            case worker_messages.Sessions():
                pass
            case messages.Ready() if place.child is not None and not place.child.ready:
                self._ready(place, place.child)
            case worker_messages.Replayed(number, queries, at):
                if self._inheritance.confirmed(place, number) and queries:
                    text = f"sent {counted(queries, 'query', 'queries')} of a dead worker to the backends again"
                    self.owner.told(place.name, text, at=at)
            case worker_messages.Happened():
                self.followers.happened(place.index, message)
            case worker_messages.Listed() | worker_messages.Picked() if place.child is not None:
                self._questions.answered(place.child, message)
            case worker_messages.Prepare() if place.child is not None:
                prepare(place.child, self._provision, message)
            case _ if place.life is not None:
                self.owner.heard(place.life, message)

    def _ready(self, place: Place, child: Child) -> None:
        child.ready = True
        place.pulse = Pulse()
        if place.restarts:
            took = self._loop.time() - child.started
            self.owner.told(place.name, f"restarted as pid {child.pid} in {took:.2f} s", pid=child.pid)
        # A worker must know which backends are usable before it polls a listener.
        child.send(self._provision.verdicts())
        child.send(self._provision.weights())
        self._give_log(child)
        for wish in self.followers.wishes:
            child.send(wish)
        # It must also see the other workers' counts, or the host exceeds its limits.
        self.introduce()
        self.settle()
        self._inheritance.hand_on(self._places)
        self.owner.workers_changed()

    def _stalled(self, place: Place, child: Child, silence: float) -> None:
        self.owner.told(
            place.name,
            f"no heartbeat for {silence:.1f} s: killing pid {child.pid}, the other workers take over its listeners",
            level="error",
            pid=child.pid,
        )
        place.stalled = True
        self.settle()
        self.owner.workers_changed()
        child.kill()

    def _died(self, place: Place, how: str) -> None:
        child, place.child = place.child, None
        if child is None:
            return
        self._questions.gone(child)
        lived = self._loop.time() - child.started if child.ready else 0.0
        self.members.lost(place.index)
        self._inheritance.leave(place)
        end_life(place, self._provision)
        if self._stopping:
            self._gone_if_all_left()
            return
        self.settle()
        self.owner.workers_changed()
        self._inheritance.hand_on(self._places)
        if not place.stalled:
            self.owner.told(
                place.name,
                f"pid {child.pid} died, {how}: the other workers take over its listeners",
                level="error",
                pid=child.pid,
            )
        place.restarts += 1
        pause = place.pace.delay(lived)
        if pause:
            place.waiting = self._loop.call_later(pause, self._start, place)
        else:
            self._start(place)
        self.introduce()

    def _gone_if_all_left(self) -> None:
        if all(place.child is None or not place.child.alive for place in self._places):
            self.owner.workers_gone()

    # -- what workers are given

    def introduce(self) -> None:
        """Show each worker the counters of the others, for least-connections; without them it knows only its own.

        The others include a predecessor's workers, which have connections and get no new ones.
        """
        able = [place for place in self._places if place.able]
        try:
            introduce(able, self._places, self._provision.columns)
        except OSError as error:
            self.owner.told("workers", f"cannot share their counters: {error}", level="warning")


async def gone(children: Iterable[Child], patience: float) -> None:
    """Wait for the ends of children that were killed, at most `patience` seconds."""
    waits = [asyncio.ensure_future(child.gone.wait()) for child in children]
    if waits:
        _, late = await asyncio.wait(waits, timeout=patience)
        for wait in late:
            wait.cancel()
