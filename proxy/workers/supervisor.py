"""The workers: started, watched, replaced, and given the members they poll.

A worker that dies loses nothing that is queued: the members are the master's, a sibling polls them at once, and what
the dead one had in flight is asked again from its journal.  One that stalls is treated the same, and then killed.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from proxy.processes import channel, codec
from proxy.processes.child import FIRST_PAUSE, Child, Identity, Pace
from proxy.processes.heartbeat import Pulse
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.processes.requests import Question, Questions
from proxy.records.timeline import Level
from proxy.relay.dns import journal as _journal
from proxy.relay.plan import Member
from proxy.stats.columns import Columns
from proxy.stats.layout import HEARTBEAT
from proxy.stats.table import Table
from proxy.status.rows import WorkerRow
from proxy.words import counted
from proxy.workers.member_owners import Key, Members

STALL = 1.0  # s without a heartbeat
LARGEST = 1 << 20  # octets of one message of a worker, which strangers may have taken over


Heard = Callable[[int, list[dict[str, Any]], int], None]
"""Called with a worker's index, what happened there, and how much more did."""


class Owner(Protocol):
    """What the supervisor asks of the master."""

    def setup(self) -> bytes:
        """Return a new worker's first message, a `Setup`, encoded."""

    def shared(self) -> list[int]:
        """Return new descriptors of what the workers share, for one worker's `Setup`; the caller closes them."""

    def verdicts(self) -> worker_messages.Verdicts:
        """Return all that is known of the backends."""

    def weights(self) -> worker_messages.Weights:
        """Return the weights that are other than configured."""

    @property
    def columns(self) -> Columns:
        """Return all workers' counters."""

    @property
    def open_listeners(self) -> Collection[int]:
        """Return the listeners that are served."""

    def member(self, key: Key) -> tuple[Member, int]:
        """Return a member and its descriptor."""

    def prepare(self, wanted: worker_messages.Prepare) -> list[socket.socket]:
        """Make transparent sockets for a worker; none where no service is transparent."""

    def told(self, subject: str, text: str, *, level: Level = "info", **fields: Any) -> None:
        """Record what happened."""

    @property
    def log_fd(self) -> int:
        """Return the file that the connection log goes to, -1 if it goes to none."""

    def heard(self, life: int, message: messages.Message) -> None:
        """Take what a worker's life says of backends, and of what it references."""

    def held(self, life: int) -> None:
        """Learn of a life that references what its `Setup` says."""

    def released(self, life: int) -> None:
        """Learn that a life has ended."""

    def workers_changed(self) -> None:
        """Learn that one can serve that could not, or cannot any more."""

    def workers_gone(self) -> None:
        """Learn that all workers have left after a drain."""


class Worker:
    """One place for a worker, and the life that fills it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
        self.life: int | None = None
        self.journal = -1
        self.inherited: dict[int, int] = {}  # journals of dead workers that it was given and has not confirmed
        self.restarts = 0
        self.stalled = False
        self.pulse = Pulse()
        self.pace = Pace()
        self.waiting: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """What events call it."""
        return f"worker {self.index}"

    @property
    def able(self) -> bool:
        """Whether it may poll members."""
        return self.child is not None and self.child.ready and not self.stalled and self.child.alive


class Supervisor:
    """All workers of a daemon."""

    def __init__(self, owner: Owner, count: int, identity: Identity) -> None:
        self.owner = owner
        self._identity = identity
        self._loop = asyncio.get_running_loop()
        self._workers = [Worker(index) for index in range(count)]
        self._lives = 0
        self._replays = 0
        self._left_behind: list[int] = []  # journals of dead workers that nobody has taken over yet
        self._stopping = False
        self._questions = Questions()
        self._followers: dict[int, tuple[worker_messages.Follow, Heard]] = {}
        self.members = Members(count)

    # -- orders

    def start(self) -> None:
        """Start every worker."""
        for worker in self._workers:
            self._start(worker)

    def tell(self, message: messages.Message) -> None:
        """Send to every worker that is ready; one that gets ready later learns of it then."""
        for worker in self._workers:
            if worker.child is not None and worker.child.ready and worker.child.alive:
                worker.child.send(message)

    def relist(self, message: worker_messages.Backends) -> None:
        """Give every worker another list of a service's backends, those too that are not ready: it follows their `Setup`."""
        encoded = codec.encode(message)
        for worker in self._workers:
            if worker.child is not None and worker.child.alive:
                worker.child.send(encoded)

    def reopened(self) -> None:
        """Give every worker that is ready the new file of the connection log."""
        for worker in self._workers:
            if worker.child is not None and worker.child.ready and worker.child.alive:
                self._give_log(worker.child)

    def _give_log(self, child: Child) -> None:
        if self.owner.log_fd >= 0:
            child.send(worker_messages.LogFile(), [self.owner.log_fd])

    def settle(self) -> None:
        """Hand the members to who should poll them now."""
        if self._stopping:
            return
        able = {worker.index for worker in self._workers if worker.able}
        moves = self.members.settle(able, self.owner.open_listeners)
        # Granted first: for a moment two may poll a member, which costs nothing; nobody polling it would.
        for index, keys in moves.grants.items():
            self._grant(self._workers[index], keys)
        for index, keys in moves.releases.items():
            child = self._workers[index].child
            if child is not None and child.alive:
                child.send(worker_messages.Unlisten([list(key) for key in keys]))

    def replace(self, old: int, new: int) -> None:
        """Hand out a listener in the place of another, which is open no more."""
        self.members.add(new)
        self.settle()
        self.members.remove(old)

    def drain(self, timeout: float) -> None:
        """Let the workers finish what is open, and leave."""
        self._stopping = True
        for worker in self._workers:
            if worker.child is not None:
                worker.child.send(worker_messages.Drain(timeout))
        self._gone_if_all_left()

    async def end(self, patience: float) -> None:
        """End every worker now, and wait at most `patience` seconds until they are no more."""
        self._stopping = True
        children = [worker.child for worker in self._workers if worker.child is not None]
        for child in children:
            child.kill()
        await gone(children, patience)
        for worker in self._workers:
            self._disown(worker)
        for fd in self._left_behind:
            os.close(fd)
        self._left_behind.clear()

    @property
    def able(self) -> bool:
        """Whether anybody serves."""
        return any(worker.able for worker in self._workers)

    def alive(self) -> list[int]:
        """Return the indices of the workers that can be asked, those that drain too."""
        return [worker.index for worker in self._workers if worker.able]

    async def ask(self, index: int, question: Question, patience: float) -> messages.Message | None:
        """Return a worker's answer to a numbered question; None if there is none within `patience` seconds."""
        worker = self._workers[index]
        if worker.child is None or not worker.able:
            return None
        return await self._questions.ask(worker.child, question, patience)

    def follow(self, wish: worker_messages.Follow, heard: "Heard") -> None:
        """Have all workers, and those to come, tell a follower what begins and ends."""
        self._followers[wish.follower] = wish, heard
        self.tell(wish)

    def unfollow(self, follower: int) -> None:
        """Have them tell it nothing more."""
        if self._followers.pop(follower, None) is not None:
            self.tell(worker_messages.Follow(follower, "", "", "", "off"))

    def rows(self) -> list[WorkerRow]:
        """Return the workers as the status shows them."""
        return [
            WorkerRow(
                worker.index,
                worker.child.pid if worker.child is not None and worker.child.alive else None,
                worker.able,
                worker.restarts,
                worker.life,
            )
            for worker in self._workers
        ]

    def look(self, now: float) -> None:
        """Find workers that stall or never get ready, and places that nobody fills."""
        if self._stopping:
            return
        for worker in self._workers:
            child = worker.child
            if child is None:
                if worker.waiting is None:
                    self._start(worker)
                continue
            if worker.stalled or not child.alive:
                continue
            silence = worker.pulse.silence(self.owner.columns.cell(worker.life or 0, HEARTBEAT), now)
            if child.ready and silence >= STALL:
                self._stalled(worker, child, silence)
            elif not child.ready and silence >= worker.pace.patience:
                text = f"not ready {worker.pace.patience:g} s after its start: killed"
                worker.pace.late()
                self.owner.told(worker.name, text, level="error")
                child.kill()

    # -- lives

    def _start(self, worker: Worker) -> None:
        worker.waiting = None
        if self._stopping or worker.child is not None:
            return
        try:
            self._begin(worker)
        except OSError as error:
            self.owner.told(worker.name, f"cannot be started: {error}", level="error")
            self._start_later(worker, worker.pace.delay(0.0) or FIRST_PAUSE)

    def _start_later(self, worker: Worker, pause: float) -> None:
        worker.waiting = self._loop.call_later(pause, self._start, worker)

    def _begin(self, worker: Worker) -> None:
        """Give a worker a life; OSError, and nothing kept, if that is impossible."""
        setup = self.owner.setup()
        journal = _journal.create()
        table = None
        shared: list[int] = []
        try:
            shared = self.owner.shared()
            table = Table.create(self.owner.columns.layout)
            child = Child(
                "proxy.worker",
                self._identity,
                lambda message, fds: self._on_message(worker, message, fds),
                lambda how: self._died(worker, how),
                LARGEST,
            )
        except BaseException:
            for fd in (journal, *shared):
                os.close(fd)
            if table is not None:
                table.close()
            raise
        self._lives += 1
        worker.life = self._lives
        self.owner.columns.attach(worker.life, table)
        self.owner.held(worker.life)
        worker.child, worker.journal = child, journal
        worker.stalled = False
        worker.pulse = Pulse()
        child.send(setup, [table.fd, journal, *shared])
        for fd in shared:
            os.close(fd)

    def _on_message(self, worker: Worker, message: messages.Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        match message:
            case messages.Ready() if worker.child is not None and not worker.child.ready:
                self._ready(worker, worker.child)
            case worker_messages.Replayed(number, queries, at):
                fd = worker.inherited.pop(number, -1)
                if fd >= 0:
                    os.close(fd)
                    if queries:
                        self.owner.told(
                            worker.name, f"asked {counted(queries, 'query', 'queries')} of a lost worker again", at=at
                        )
            case worker_messages.Happened(follower, rows, lost) if follower in self._followers:
                self._followers[follower][1](worker.index, rows, lost)
            case worker_messages.Listed() | worker_messages.Picked() if worker.child is not None:
                self._questions.answered(worker.child, message)
            case worker_messages.Prepare() if worker.child is not None:
                self._prepare(worker.child, message)
            case _ if worker.life is not None:
                self.owner.heard(worker.life, message)

    def _prepare(self, child: Child, wanted: worker_messages.Prepare) -> None:
        made = self.owner.prepare(wanted)
        child.send(worker_messages.Prepared(wanted.family, wanted.kind, wanted.count), [sock.fileno() for sock in made])
        for sock in made:
            sock.close()

    def _ready(self, worker: Worker, child: Child) -> None:
        child.ready = True
        worker.pulse = Pulse()
        if worker.restarts:
            took = self._loop.time() - child.started
            self.owner.told(worker.name, f"restarted as pid {child.pid} in {took:.2f} s", pid=child.pid)
        # What is usable must be known before anything is polled.
        child.send(self.owner.verdicts())
        child.send(self.owner.weights())
        self._give_log(child)
        for wish, _ in self._followers.values():
            child.send(wish)
        # What the others have taken must be, too, for else it takes more than the host may have.
        self._introduce()
        self.settle()
        self._hand_on()
        self.owner.workers_changed()

    def _stalled(self, worker: Worker, child: Child, silence: float) -> None:
        self.owner.told(
            worker.name,
            f"no heartbeat for {silence:.1f} s: its members go to the others, pid {child.pid} is killed",
            level="error",
            pid=child.pid,
        )
        worker.stalled = True
        self.settle()
        self.owner.workers_changed()
        child.kill()

    def _died(self, worker: Worker, how: str) -> None:
        child, worker.child = worker.child, None
        if child is None:
            return
        self._questions.gone(child)
        lived = self._loop.time() - child.started if child.ready else 0.0
        self.members.lost(worker.index)
        self._left_behind += worker.inherited.values()
        worker.inherited.clear()
        if worker.journal >= 0:
            self._left_behind.append(worker.journal)
            worker.journal = -1
        self._disown(worker)
        if self._stopping:
            self._gone_if_all_left()
            return
        self.settle()
        self.owner.workers_changed()
        self._hand_on()
        if not worker.stalled:
            self.owner.told(
                worker.name, f"pid {child.pid} died, {how}: its members go to the others", level="error", pid=child.pid
            )
        worker.restarts += 1
        pause = worker.pace.delay(lived)
        if pause:
            self._start_later(worker, pause)
        else:
            self._start(worker)
        self._introduce()

    def _disown(self, worker: Worker) -> None:
        """Keep of a life that has ended only what it counted."""
        if worker.life is not None:
            self.owner.columns.fold(worker.life)
            self.owner.released(worker.life)
            worker.life = None
        for fd in (worker.journal, *worker.inherited.values()):
            if fd >= 0:
                os.close(fd)
        worker.journal = -1
        worker.inherited.clear()

    def _gone_if_all_left(self) -> None:
        if all(worker.child is None or not worker.child.alive for worker in self._workers):
            self.owner.workers_gone()

    # -- what workers are given

    def _grant(self, worker: Worker, keys: list[Key]) -> None:
        child = worker.child
        if child is None:
            return
        for first in range(0, len(keys), channel.DESCRIPTORS):
            members = [self.owner.member(key) for key in keys[first : first + channel.DESCRIPTORS]]
            rows = [[m.listener, m.index, m.service, m.transport, m.address, m.port] for m, _ in members]
            child.send(worker_messages.Listen(rows), [fd for _, fd in members])

    def _introduce(self) -> None:
        """Show each worker the columns of the others, for least-connections; without them it counts its own alone."""
        able = [worker for worker in self._workers if worker.able and worker.life is not None]
        views: dict[int, int] = {}
        try:
            for worker in able:
                if worker.life is not None and len(able) > 1:
                    views[worker.index] = self.owner.columns.live[worker.life].readonly_fd()
        except OSError as error:
            self.owner.told("workers", f"cannot be shown each other's counters: {error}", level="warning")
        else:
            for worker in able:
                fds = [fd for index, fd in views.items() if index != worker.index][: channel.DESCRIPTORS]
                if worker.child is not None:
                    worker.child.send(worker_messages.Siblings(len(fds)), fds)
        finally:
            for fd in views.values():
                os.close(fd)

    def _hand_on(self) -> None:
        """Let somebody ask again what dead workers had in flight; theirs until confirmed, in case that one dies too."""
        heir = next((worker for worker in self._workers if worker.able), None)
        if heir is None or heir.child is None:
            return
        for fd in self._left_behind:
            if _journal.used(fd):
                self._replays += 1
                heir.inherited[self._replays] = fd
                heir.child.send(worker_messages.Replay(self._replays), [fd])
            else:
                os.close(fd)
        self._left_behind.clear()


async def gone(children: Iterable[Child], patience: float) -> None:
    """Wait until children that were killed are no more, at most `patience` seconds."""
    waits = [asyncio.ensure_future(child.gone.wait()) for child in children]
    if waits:
        _, late = await asyncio.wait(waits, timeout=patience)
        for wait in late:
            wait.cancel()
