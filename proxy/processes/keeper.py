"""A child of which there is always to be one: started, watched, and replaced when it dies or hangs."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.processes import channel
from proxy.processes.child import FIRST_PAUSE, Child, Identity, Pace
from proxy.processes.heartbeat import Pulse
from proxy.processes.messages import common as messages
from proxy.processes.requests import Question, Questions

SPARE_PAUSE = 3.0  # s before one is made to stand by, and between two tries


class Kept:
    """Keeps one `python -m MODULE` process running across restarts.

    `on_ready()` sends a process that has started what it must know.  `on_message(message)` takes each message that answers
    no question.  `told(text)` records deaths and restarts.  A process that sends nothing for `silence` seconds is killed.
    With `spare` a second process is started and waits, so that a successor is there at once and not only after an
    interpreter's start.
    """

    def __init__(
        self,
        module: str,
        identity: Identity,
        *,
        silence: float,
        on_ready: Callable[[], None],
        on_message: Callable[[messages.Message], None],
        told: Callable[[str], None],
        afterwards: str,
        spare: bool = False,
        largest: int = channel.LARGEST,
    ) -> None:
        """Prepare; `afterwards` says in words what becomes of a death.

        A message of more than `largest` octets ends the process.
        """
        self._largest = largest
        self._module = module
        self._identity = identity
        self._silence = silence
        self._on_ready = on_ready
        self._on_message = on_message
        self._questions = Questions()
        self._told = told
        self._afterwards = afterwards
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.TimerHandle | None = None
        self._pace = Pace()
        self._pulse = Pulse()
        self._heard = 0
        self._ending = False
        self._wants_spare = spare
        self._spare: Child | None = None
        self.child: Child | None = None

    @property
    def children(self) -> list[Child]:
        """The process and the one that stands by."""
        return [child for child in (self.child, self._spare) if child is not None]

    @property
    def ready(self) -> Child | None:
        """The process, if it can be talked to."""
        child = self.child
        return child if child is not None and child.ready and child.alive else None

    def start(self) -> None:
        """Start it; where that is impossible now, it is tried again."""
        self._waiting = None
        if self._ending or self.child is not None:
            return
        child, self._spare = self._spare, None
        try:
            self.child = child or self._make()
        except OSError as error:
            self._told(f"cannot be started: {error}")
            self._start_later(self._pace.delay(0.0) or FIRST_PAUSE)
            return
        self._pulse = Pulse()
        if self.child.ready:
            self._begin(self.child)

    def _make(self) -> Child:
        made: Child | None = None

        def take(message: messages.Message, fds: list[int]) -> None:
            for fd in fds:
                os.close(fd)
            if made is not None:  # as it always is: a channel is read from the loop
                self._take(made, message)

        def died(how: str) -> None:
            if made is not None:
                self._died(made, how)

        made = Child(self._module, self._identity, take, died, self._largest)
        return made

    def _stand_by(self) -> None:
        if self._ending or self._spare is not None or self.child is None:
            return
        try:
            self._spare = self._make()
        except OSError as error:
            self._told(f"no process can stand by: {error}")

    def look(self, now: float) -> None:
        """Find one that hangs, or that is missing."""
        child = self.child
        if child is None:
            if self._waiting is None:
                self.start()
            return
        silence = self._pulse.silence(self._heard, now)
        limit = self._silence if child.ready else self._pace.patience
        if child.alive and silence >= limit:
            if child.ready:
                self._told(f"no sign of life for {limit:g} s: killing pid {child.pid}")
            else:
                self._pace.late()
                self._told(f"not ready {limit:g} s after its start: killing pid {child.pid}")
            self._pulse = Pulse()
            child.kill()

    def send(self, message: messages.Message, fds: Sequence[int] = ()) -> None:
        """Tell it something, if it is ready; a successor must learn of it by `on_ready`."""
        child = self.child
        if child is not None and child.ready:
            child.send(message, fds)

    def log(self, level: messages.Level) -> None:
        """Have the process and the one that stands by, and later ones, log in this way."""
        self._identity = replace(self._identity, level=level.level, format=level.format)
        for child in self.children:
            child.send(level)

    async def ask(self, question: Question, patience: float) -> messages.Message | None:
        """Return the answer to a numbered question; None if there is none within `patience` seconds."""
        child = self.ready
        return None if child is None else await self._questions.ask(child, question, patience)

    def release(self) -> None:
        """Let it go when it likes: it is not replaced any more."""
        self._ending = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._spare is not None:
            self._spare.kill()

    def resume(self) -> None:
        """Replace it again from now on, after `kill` or `release`."""
        self._ending = False

    def kill(self) -> None:
        """End it, until `resume` for good."""
        self.release()
        if self.child is not None:
            self.child.kill()

    def _start_later(self, pause: float) -> None:
        self._waiting = self._loop.call_later(pause, self.start)

    def _died(self, child: Child, how: str) -> None:
        if child is self._spare:
            self._spare = None
            self._loop.call_later(SPARE_PAUSE, self._stand_by)
        if child is not self.child:
            return
        self.child = None
        self._questions.gone(child)
        if self._ending:
            return
        self._told(f"pid {child.pid} died, {how}: {self._afterwards}")
        pause = self._pace.delay(self._loop.time() - child.started if child.ready else 0.0)
        if pause and self._spare is None:
            self._start_later(pause)
        else:
            self.start()

    def _take(self, child: Child, message: messages.Message) -> None:
        if isinstance(message, messages.Ready):
            if not child.ready:
                child.ready = True
                if child is self.child:
                    self._begin(child)
        elif child is not self.child:
            return  # a spare, which says that it lives
        elif isinstance(message, messages.ANSWERS):
            self._heard += 1
            self._questions.answered(child, message)
        else:
            self._heard += 1
            self._on_message(message)

    def _begin(self, child: Child) -> None:
        child.started = self._loop.time()  # of its service, which is what its pace is about
        self._on_ready()
        if self._wants_spare:
            self._loop.call_later(SPARE_PAUSE, self._stand_by)
