"""The place of a daemon among those that follow each other on a host: how it began, and how another one takes its place."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from proxy.host.priority import restore
from proxy.processes import channel
from proxy.processes.messages import worker as worker_messages
from proxy.records.timeline import Level
from proxy.stats.table import TableError
from proxy.stats.translation import ShapeError
from proxy.succession import taking_over
from proxy.succession.estate import Estate
from proxy.succession.handing_over import HandingOver, NotHandedOverError, Step, Successor
from proxy.succession.keeping import Keeping, Kept
from proxy.succession.link import Link
from proxy.succession.nurse import Nurse
from proxy.succession.predecessor import NoPredecessorError, Predecessor


class Owner(Protocol):
    """The master."""

    def told(self, subject: str, text: str, *, level: Level = "info", kind: str = "worker", **fields: Any) -> None:
        """Record an event."""

    def begin(self) -> None:
        """Start the children and the regular work."""

    async def appear(self, control: socket.socket | None) -> None:
        """Answer on the control socket, and write to the timeline."""

    def succeeded(self, pid: int) -> None:
        """Take note that the process `pid` has taken over."""

    def stop_now(self) -> None:
        """End the daemon at once."""

    @property
    def stopping(self) -> bool:
        """Whether the daemon is stopping."""

    @property
    def awaits_successor(self) -> bool:
        """Whether the daemon is stopping, and serves until another one takes over."""

    @property
    def stopped(self) -> bool:
        """Whether it ends now."""


class Succession:
    """The predecessor and the successor of a daemon."""

    def __init__(
        self,
        owner: Owner,
        estate: Estate,
        keeping: Keeping,
        predecessor: Predecessor | None,
        environment: Callable[[], Mapping[str, str]],
    ) -> None:
        """`predecessor`, whose state has been received, goes on until `take_over` is done."""
        self._owner = owner
        self._estate = estate
        self._keeping = keeping
        self._predecessor = predecessor
        self._handing = HandingOver(estate, environment)
        estate.former.refused = self.outlived
        self._nurse: Nurse | None = None
        self._yields = False
        self._attempt: asyncio.Future[Successor] | None = None
        self._why_cancelled = ""
        self._node = estate.running.config.node.name
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waits(self) -> bool:
        """Whether a predecessor still decides and probes."""
        return self._predecessor is not None

    @property
    def aside(self) -> bool:
        """Whether addresses, sockets and files belong to another daemon."""
        return self._predecessor is not None or self._nurse is not None or self._yields

    @property
    def busy(self) -> bool:
        """Whether a successor is starting: it knows this daemon as it was."""
        return self._handing.busy

    @property
    def over(self) -> bool:
        """Whether a successor has taken over."""
        return self._nurse is not None

    def look(self) -> None:
        """Do the regular work."""
        if self._nurse is not None:
            self._nurse.look()
        else:
            self._estate.former.look()

    def passed_on(self, message: worker_messages.Verdicts) -> None:
        """Pass on what the workers have been told of backends to those of former daemons."""
        if len(self._estate.former):
            self._estate.former.tell(
                [
                    (*key, verdict, admin)
                    for service, backend, verdict, admin in message.changes
                    if (key := self._estate.running.key_at(service, backend)) is not None
                ]
            )

    def outlived(self, why: str) -> None:
        """End at once, and leave everything to the predecessor: it goes on after all."""
        self._owner.told(self._node, f"the daemon before this one goes on: {why}", level="error", kind="reexec")
        self._yields = True
        self._owner.stop_now()

    def drain(self, timeout: float) -> None:
        """Let the workers of former daemons go on for so many seconds at most."""
        self._estate.former.end(timeout)

    def hurry(self) -> None:
        """Cut what is open of a daemon that has a successor; end at once one that waits for its predecessor's word."""
        if self._nurse is not None:
            self._nurse.hurry()
        else:
            self._owner.stop_now()

    def close(self) -> None:
        """Report for the last time, and let go of former daemons."""
        if self._nurse is not None:
            self._nurse.close()
        self._estate.former.close()

    # -- the beginning

    def restore(self, kept: Kept) -> None:
        """Go on with the counters of a daemon that the service manager has kept; its workers end by themselves."""
        estate, state = self._estate, kept.state
        orphans = [row.model_copy(update={"nurse": 0}) for row in kept.late.workers]
        try:
            base = kept.take("base")
            if base >= 0:
                estate.former.attach(state.shape.shape(), base, orphans, kept.take)
        except (ShapeError, TableError, OSError, ValueError) as error:
            self._told(f"the counters that the service manager has kept cannot be read: {error}")
        taking_over.forget_new(state, estate.running, estate.columns)
        kept.drop()
        self._told(f"goes on where pid {state.pid} ended, with what the service manager has kept")

    async def take_over(self) -> None:
        """Begin in the place of the predecessor: with its sockets, counters and verdicts, when it lets go.

        Raises NoPredecessorError, and leaves everything to it, if this daemon cannot begin.
        """
        before, estate = self._predecessor, self._estate
        if before is None:
            raise NoPredecessorError("there is no predecessor")
        state = before.state
        estate.opening.hold()
        estate.readiness.restore(state.memory)
        self._owner.begin()
        while not (estate.workers.complete and estate.redundancy.ready):
            await asyncio.sleep(taking_over.LOOK)
            if time.monotonic() - before.began > taking_over.YIELDING:  # the processors are busy all the time
                self._take_priority(before)
            if before.ended or self._owner.stopped:
                raise NoPredecessorError("the daemon whose place this one was to take has ended or given up")
        late = await before.go()
        self._take_priority(before)
        # First of all: the addresses have a lease.
        if late.routing is not None:
            estate.redundancy.inherit(late.routing.model_dump())
        estate.redundancy.take_up()
        try:
            estate.former.attach(state.shape.shape(), before.take("base"), late.workers, before.take)
        except (ShapeError, TableError, OSError, ValueError) as error:
            raise NoPredecessorError(f"the counters of the running daemon cannot be read: {error}") from error
        taking_over.forget_new(state, estate.running, estate.columns)
        estate.readiness.restore(late.memory)
        estate.notifications.begin(late.notified, inherited=True)
        fd = before.take("control")
        control = socket.socket(fileno=fd) if fd >= 0 else None
        await self._owner.appear(control)
        estate.state.sign(self._node)
        estate.listeners.steer(lambda text: self._owner.told(self._node, text, kind="listener", level="warning"))
        estate.opening.release(late.opened)
        await taking_over.until(lambda: estate.workers.polling, taking_over.POLL)
        nurses = {row.nurse: fd for row in late.workers if (fd := before.take(f"nurse-{row.nurse}")) >= 0}
        estate.former.nursed(before.hello.pid, before.polls(estate.listeners.numbers))
        for pid, fd in nurses.items():
            estate.former.nursed(pid, Link(socket.socket(fileno=fd)))
        self._predecessor = None
        self._keeping.inherit(state, late)
        if control is not None and control is not estate.control.listener:
            _remove(control)
        estate.prober.watch()
        self._owner.told(
            self._node, f"in the place of pid {before.hello.pid}, steelyard {state.steelyard}", kind="reexec"
        )

    def _take_priority(self, before: Predecessor) -> None:
        """Give this daemon and its children the priority that they gave up for their start."""
        estate = self._estate
        workers = [place.child for place in estate.workers.present() if place.child is not None]
        children = [*workers, *estate.prober.children, *estate.redundancy.children]
        restore(before.priority, [os.getpid(), *(child.pid for child in children)])
        before.priority = None

    # -- the end

    async def reexec(self, step: Step) -> int:
        """Start this program anew, and let it take over; returns its process.  Raises NotHandedOverError."""
        if self._owner.stopping or self.aside:
            raise NotHandedOverError(
                f"this daemon, pid {os.getpid()}, is stopping: start another one, which takes over"
            )

        def tell(text: str) -> None:
            self._told(text)
            step(text)

        await self._succeeded(self._handing.spawn(tell))
        return 0 if self._handing.spawned is None else self._handing.spawned.pid

    def on_signal(self) -> None:
        """Do what `reexec` does, for nobody who waits."""

        async def reexec() -> None:
            with contextlib.suppress(NotHandedOverError):  # an event has it
                await self.reexec(lambda _: None)

        self._run(reexec())

    def give_place(self) -> socket.socket:
        """Return the socket by which a daemon that others have started takes over.  Raises NotHandedOverError."""
        if not self._owner.awaits_successor or self.aside:
            raise NotHandedOverError(f"the daemon here, pid {os.getpid()}, goes on: `steelyard reexec` replaces it")
        self._handing.check()
        ours, theirs = channel.pair()

        async def give() -> None:
            with contextlib.suppress(NotHandedOverError):
                await self._succeeded(self._handing.give(ours, self._told))

        self._run(give())
        return theirs

    async def _succeeded(self, handing: Coroutine[Any, Any, Successor]) -> None:
        """Hand over; then look after the workers until their connections are over.  Raises NotHandedOverError."""
        self._attempt = asyncio.ensure_future(handing)
        try:
            successor = await self._outcome(self._attempt)
        except NotHandedOverError as error:
            self._owner.told(
                self._node, f"this daemon goes on: {str(error).splitlines()[0]}", kind="reexec", level="error"
            )
            raise
        estate = self._estate
        self._owner.succeeded(successor.pid)
        self._nurse = Nurse(successor.link, estate.running, estate.workers, self._owner.stop_now)
        estate.timeline.give_away(self._nurse.forward)
        estate.state.give_away()
        estate.former.close()
        given_up = set(estate.listeners.numbers) - successor.listeners
        self._nurse.begin(estate.running.config.node.reexec_timeout, given_up)
        estate.listeners.close()
        self._run(estate.control.abandon())
        self._run(estate.notifications.finish())

    async def _outcome(self, attempt: asyncio.Future[Successor]) -> Successor:
        """Wait for an attempt, which goes on if nobody waits any more.  Raises NotHandedOverError."""
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled():
                raise NotHandedOverError(self._why_cancelled) from None
            raise

    async def cancel(self, why: str) -> None:
        """Give up an attempt that is under way."""
        if self._handing.busy and self._attempt is not None:
            self._why_cancelled = why
            self._attempt.cancel()
            await asyncio.wait([self._attempt])

    def _told(self, text: str) -> None:
        self._owner.told(self._node, text, kind="reexec")

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _remove(control: socket.socket) -> None:
    """Close a predecessor's control socket and remove it: the file has another path now."""
    path = control.getsockname()
    control.close()
    with contextlib.suppress(OSError):
        Path(path).unlink()
