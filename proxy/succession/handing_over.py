"""Hands a running daemon over to a successor, step by step; until the successor's workers poll, each step can be undone."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy import __version__
from proxy.processes import channel
from proxy.succession import protocol, spawning
from proxy.succession.estate import Estate
from proxy.succession.former_workers import NURSES
from proxy.succession.link import Link, LinkEndedError
from proxy.workers.supervisor import gone

START = 15.0  # s that a successor may take until it is ready
BEGIN = 15.0  # s that it may take from then until its workers poll
EXIT_CONFIG = 2  # of a successor that finds its file wrong
DEATH = 2.0  # s that the end of its process may take after that of its socket

Step = Callable[[str], None]
"""Called with what has been done, in words."""


class NotHandedOverError(Exception):
    """There is no successor, and this daemon goes on; says why.  `code` is what a command exits with."""

    def __init__(self, why: str, code: int = 1) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Successor:
    """A daemon that has taken over: its process, the link to it, and the numbers of the listeners that it has."""

    pid: int
    link: Link
    listeners: frozenset[int]


class HandingOver:
    """One attempt after the other to hand a daemon over, never two at a time."""

    def __init__(self, estate: Estate, environment: Callable[[], Mapping[str, str]]) -> None:
        """`environment()` returns the variables of a successor that this daemon starts."""
        self._estate = estate
        self._environment = environment
        self.busy = False
        """Whether an attempt is under way."""
        self.spawned: spawning.Spawned | None = None
        """The successor, where this daemon has started it."""

    def check(self) -> None:
        """Raise NotHandedOverError if no attempt can be made now."""
        if self.busy:
            raise NotHandedOverError("a new version is being started already: wait for its outcome")
        if len(self._estate.former.nurses) >= NURSES:
            raise NotHandedOverError(f"{NURSES} former versions still have connections: wait, or end one of them")

    async def spawn(self, step: Step) -> Successor:
        """Start this program anew and hand over to it.  Raises NotHandedOverError."""
        self.check()
        if self._estate.pid == 1:
            raise NotHandedOverError(
                "this daemon is the first process of a container, which would end with it: restart that"
            )
        self.busy = True
        try:
            ours, theirs = channel.pair()
            with theirs:
                try:
                    spawned = spawning.Spawned(spawning.arguments(), theirs, self._environment())
                except OSError as error:
                    ours.close()
                    why = f"{spawning.arguments()[0]}: {error.strerror or error}"
                    raise NotHandedOverError(f"the new version cannot be started: {why}") from None
            step(f"pid {spawned.pid} starts with the same arguments")
            successor = await self._over_to(spawned, ours, step)
        finally:
            self.busy = False
        self.spawned = spawned
        return successor

    async def _over_to(self, spawned: spawning.Spawned, sock: socket.socket, step: Step) -> Successor:
        try:
            return await self._hand_over(sock, step)
        except LinkEndedError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DEATH):
                    await asyncio.shield(spawned.ended)
            how = spawned.how() if spawned.ended.done() else "it has closed its socket"
            spawned.kill()
            raise NotHandedOverError(f"the new version, pid {spawned.pid}, has failed: {how}") from None
        except BaseException:
            spawned.kill()
            raise

    async def give(self, sock: socket.socket, step: Step) -> Successor:
        """Hand over to a daemon that others have started and that has asked.  Raises NotHandedOverError."""
        self.check()
        self.busy = True
        try:
            return await self._hand_over(sock, step)
        except LinkEndedError:
            raise NotHandedOverError("the daemon that was to take over has ended") from None
        finally:
            self.busy = False

    # -- the steps

    async def _hand_over(self, sock: socket.socket, step: Step) -> Successor:
        estate = self._estate
        link = Link(sock)
        estate.control.refuse_changes("a new version is taking over: try again in a moment")
        estate.workers.freeze()
        try:
            pid = await self._prepare(link, step)
            try:
                await self._step_back()
                return await self._begin(link, pid, step)
            except BaseException as error:
                with contextlib.suppress(LinkEndedError):
                    link.send(protocol.Refused(str(error)))
                self._step_forward()
                raise
        except BaseException:
            link.close()
            estate.workers.thaw()
            estate.control.refuse_changes(None)
            raise

    async def _prepare(self, link: Link, step: Step) -> int:
        """Give a successor what it needs to start, and wait until it is ready; return its process."""
        estate = self._estate
        await estate.state.written()
        document, descriptors = await estate.document()
        link.send(protocol.Hello(protocol.VERSION, __version__, os.getpid()))
        link.hold(descriptors)
        link.send_document("State", document)
        message = await self._answer(link, START, "is not ready")
        if not isinstance(message, protocol.Ready):
            raise NotHandedOverError(f"the new version answered {type(message).__name__} and not Ready")
        step(f"pid {message.pid} is ready: its workers run and poll nothing yet")
        return message.pid

    async def _step_back(self) -> None:
        """Stop what two daemons must not both do: decide, write, answer."""
        estate = self._estate
        estate.former.pause()
        estate.prober.kill()
        estate.control.pause()
        estate.timeline.hold()
        estate.redundancy.abandon()
        estate.notifications.hold()
        # A router is claimed by one process of this host at a time.
        await gone([*estate.redundancy.children, *estate.prober.children], DEATH)
        await estate.state.written()

    def _step_forward(self) -> None:
        """Go on as before, whatever of it had been stopped: the successor has failed."""
        estate = self._estate
        estate.timeline.release()
        estate.state.sign(estate.running.config.node.name)
        estate.control.resume()
        estate.prober.resume()
        estate.redundancy.recover()
        estate.notifications.release()
        estate.former.resume()

    async def _begin(self, link: Link, pid: int, step: Step) -> Successor:
        """Let a successor begin, and wait until its workers poll."""
        late, descriptors = await self._estate.late()
        link.hold(descriptors)
        link.send_document("Go", late)
        message = await self._answer(link, BEGIN, "does not poll")
        if not isinstance(message, protocol.Polling):
            raise NotHandedOverError(f"the new version answered {type(message).__name__} and not Polling")
        step("its workers poll, and it answers on the control socket")
        return Successor(pid, link, frozenset(message.listeners))

    async def _answer(self, link: Link, patience: float, otherwise: str) -> protocol.Message:
        try:
            async with asyncio.timeout(patience):
                while True:
                    message, fds = await link.receive()
                    for fd in fds:
                        os.close(fd)
                    if not isinstance(message, protocol.Unknown):
                        break
        except TimeoutError:
            raise NotHandedOverError(f"the new version {otherwise} after {patience:g} s") from None
        if isinstance(message, protocol.Refused):
            raise NotHandedOverError(message.why, message.code)
        return message
