"""The notifications of services and backends as the master has them: which changes there are, and the process that tells.

The master decides what is told to whom and forgets nothing over restarts; a process of its own, without privileges, runs
the programs.  If that dies, what waited in it is lost, and counted.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from proxy.config.model import Config, Notify
from proxy.config.notify_choice import is_told
from proxy.notify.changes import Known, Told, chosen
from proxy.processes.child import Child, Identity
from proxy.processes.keeper import Kept
from proxy.processes.messages import common as messages
from proxy.processes.messages import notify as notify_messages
from proxy.records.document import Document, StateError
from proxy.records.timeline import Tell
from proxy.words import counted
from vrrp.notify import LINES
from vrrp.settings import SCRIPT_TIMEOUT, NotifySettings

NOTIFIED: Final = "notified.json"
"""The file in the state directory with the states that programs were told last."""
SILENCE: Final = 10.0  # s without a sign of life until it is killed
LATE: Final = 5.0  # s beyond its patience that its end may take
_NOTHING: Final = ("passed", "failed", "dropped", "waiting")


class Notifications:
    """Tells programs and FIFOs of services and backends.

    `known()` returns all states; `document`, already loaded, has those that were told last.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        document: Document,
        tell: Tell,
        known: Callable[[], Sequence[Known]],
    ) -> None:
        self._document = document
        self._tell = tell
        self._known = known
        self._told = Told()
        self._held = True  # until `begin`, and while a successor takes over
        self._saving: asyncio.Task[None] | None = None
        self._waiting: dict[str, list[list[str]]] = {}  # while there is no process
        self._counts: dict[str, Counter[str]] = {}  # of processes that are gone
        self._now: dict[str, dict[str, int]] = {}  # of this one
        self._sent: Counter[str] = Counter()  # to this one
        self._notifies = _ours(config)
        itself = Identity(None, None, identity.level, identity.format)
        self._kept = Kept(
            "proxy.notifyd", itself, silence=SILENCE, on_ready=self._ready, on_message=self._take,
            told=self._died,
            afterwards="replaced, what waited in it is not told",
        )  # fmt: skip
        self._started = False
        self.log = self._kept.log

    @property
    def children(self) -> list[Child]:
        """The process as a list, empty without one."""
        return self._kept.children

    # -- life

    def begin(self, told: Mapping[str, str] | None = None, *, inherited: bool = False) -> None:
        """Begin to tell: of all that is other than what was told last.

        `told` is that, in place of the document's, of a predecessor; with `inherited` and none it told of nothing, and
        what it knew is no news.
        """
        self._told = Told(self._document.content if told is None else told)
        self._held = False
        self._start()
        if inherited and told is None and self._document.content is None:
            self._told.news(self._known())
            self._save()
        elif inherited:
            self.note(self._known())

    def _start(self) -> None:
        if self._notifies and not self._started:
            self._started = True
            self._kept.start()

    def look(self, now: float) -> None:
        """Supervise the process."""
        if self._started:
            self._kept.look(now)

    def change(self, config: Config) -> None:
        """Have the notifications of another configuration; what it does not tell of any more is forgotten."""
        before, self._notifies = self._notifies, _ours(config)
        names = {one.name for one in config.services}
        names |= {f"{one.name}/{backend.name}" for one in config.services for backend in one.backends}
        self._told.keep(names)
        if self._held:
            return
        if not before:
            self._told.news(self._known())  # nobody wanted to know of it
        self._save()
        self._start()
        if before != self._notifies:
            self._kept.send(self._settings())

    def hold(self) -> None:
        """Tell of nothing until `release`: a successor does."""
        self._held = True

    def release(self) -> None:
        """Tell again, after `hold`: the successor has failed."""
        self._held = False
        self.note(self._known())

    @property
    def state(self) -> dict[str, str]:
        """What a successor must know: the states that were told last."""
        return self._told.tree

    async def finish(self) -> None:
        """Let programs get what waits, within a bound; the process ends."""
        self._kept.release()
        child = self._kept.child
        if child is None or not child.ready:
            self._kept.kill()
            return
        child.send(notify_messages.Finish(SCRIPT_TIMEOUT))
        try:
            async with asyncio.timeout(SCRIPT_TIMEOUT + LATE):
                await child.gone.wait()
        except TimeoutError:
            child.kill()

    def hurry(self) -> None:
        """End a `finish` that waits."""
        self._kept.send(notify_messages.Finish(0.0))

    # -- changes

    def note(self, rows: Sequence[Known]) -> None:
        """Take the present states of services and backends, and tell of those that have changed."""
        if self._held or not self._notifies:
            return
        news = self._told.news(rows)
        if not news:
            return
        self._save()
        moves = chosen(self._notifies, news)
        if self._kept.ready is not None:
            self._pass(moves)
            return
        for name, found in moves.items():
            waiting = self._waiting.setdefault(name, [])
            waiting += found
            if len(waiting) > LINES:
                self._counted(name)["dropped"] += len(waiting) - LINES
                del waiting[:-LINES]

    def _pass(self, moves: dict[str, list[list[str]]]) -> None:
        if moves:
            self._sent.update({name: len(found) for name, found in moves.items()})
            self._kept.send(notify_messages.Changes(moves))

    def _save(self) -> None:
        """Save what was told; changes that come while it is being saved are saved together afterwards."""
        if self._saving is not None or (self._document.content or {}) == self._told.tree:
            return

        async def save() -> None:
            try:
                await self._document.commit(lambda: self._told.tree, lambda: None)
            except StateError as error:
                self._tell("notify", "notify", f"what was told cannot be saved: {error}", level="error")
                return
            finally:
                self._saving = None
            self._save()

        self._saving = asyncio.get_running_loop().create_task(save(), name="save notified")

    # -- the process

    def _settings(self) -> notify_messages.Notifies:
        return notify_messages.Notifies(
            [asdict(NotifySettings((), (), one.command, one.fifo, one.batch, one.name)) for one in self._notifies]
        )

    def _died(self, text: str) -> None:
        self._tell("notify", "notify", text, level="error")

    def _ready(self) -> None:
        for name, sent in self._sent.items():
            now = self._now.get(name, {})
            lost = sent - sum(now.get(each, 0) for each in ("passed", "failed", "dropped"))
            counts = self._counted(name)
            counts.update({each: now.get(each, 0) for each in ("passed", "failed", "dropped")})
            if lost > 0:
                counts["dropped"] += lost
                text = f"{counted(lost, 'change')} may not have been told: the process that told them died"
                self._tell("notify", name, text, level="warning")
        self._sent.clear()
        self._now.clear()
        self._kept.send(self._settings())
        waiting, self._waiting = self._waiting, {}
        self._pass(waiting)

    def _take(self, message: messages.Message) -> None:
        match message:
            case notify_messages.Counted(counters):
                self._now = counters
            case notify_messages.Trouble(name, text, at):
                self._tell("notify", name, text, level="warning", at=at)

    def _counted(self, name: str) -> Counter[str]:
        return self._counts.setdefault(name, Counter())

    def counters(self) -> dict[str, dict[str, int]]:
        """Return by name of a notification how many changes were passed on, failed, were dropped, and wait."""
        found = {}
        for one in self._notifies:
            counts = Counter(self._counts.get(one.name, {}))
            counts.update(self._now.get(one.name, {}))
            counts["waiting"] += len(self._waiting.get(one.name, ()))
            found[one.name] = {name: counts[name] for name in _NOTHING}
        return found

    async def close(self) -> None:
        """Wait until what was told is saved."""
        if self._saving is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._saving], timeout=1.0)


def _ours(config: Config) -> list[Notify]:
    """Return the notifications that are for services or backends."""
    services = [one.name for one in config.services]
    backends = [f"{one.name}/{backend.name}" for one in config.services for backend in one.backends]
    return [one for one in config.notify if is_told(one, "service", services) or is_told(one, "backend", backends)]
