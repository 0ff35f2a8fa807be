"""Puts a changed configuration file into force while the daemon runs.

1. Judge: a thread reads the file and all that it names, so that a stuck file system stops nothing.
2. Plan: the steps from the configuration in force to the new one (`proxy.config.changes`), with the changes of operators
   laid over both.  `--dry-run` ends here.
3. Prepare: all that can fail, such as binding new listeners.  A failure is undone, and nothing has changed.
4. Commit: in one turn of the loop, without an error.
5. Settle: wait, within a bound, until workers and routers have followed.  What is gone ends by itself.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.backends.effective import Running
from proxy.backends.errors import BusyError, FailedError, RefusedError
from proxy.backends.membership import Membership
from proxy.backends.readiness import Readiness
from proxy.backends.rebase import Rebase
from proxy.config.changes import Step, adapted, reusing, steps
from proxy.config.diagnostics import ConfigError
from proxy.config.loader import load
from proxy.config.model import Config
from proxy.config.on_disk import OnDisk
from proxy.config.support import unsupported
from proxy.notify.notifications import Notifications
from proxy.pair.pair import Redundancy
from proxy.pair.router_settings import RouterError
from proxy.probing.files import ProbeFiles
from proxy.probing.prober import Prober
from proxy.probing.provision import Means
from proxy.processes.messages import worker as worker_messages
from proxy.records.connection_log_file import ConnectionLogFile
from proxy.records.disk_thread import DiskThread, StuckError
from proxy.records.timeline import Tell
from proxy.relay.plan import service_tree
from proxy.stats.columns import Columns
from proxy.stats.slots import SlotsFullError
from proxy.words import counted
from proxy.workers import plans
from proxy.workers.listeners import Bound, ListenError, Listeners
from proxy.workers.opening import Opening
from proxy.workers.provision import Handout
from proxy.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from concurrent.futures import Future

    from proxy.pair.router_settings import Prepared

READING: Final = 30.0  # s that the file system, and the judgement of the file, may take
SETTLED: Final = 10.0  # s that workers may take to follow
LOOK: Final = 0.02  # s between two looks whether they have
TOLD: Final = 100  # steps that the timeline gets


class NeedsReexecError(FailedError):
    """A step needs a new process, and the caller wants all steps or none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A reload that was done: its steps, the generation in force, and what did not follow, in words."""

    steps: list[Step]
    generation: int
    faults: list[str]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the daemon that a reload changes."""

    running: Running
    membership: Membership
    readiness: Readiness
    columns: Columns
    handout: Handout
    listeners: Listeners
    opening: Opening
    workers: Supervisor
    means: Means
    prober: Prober
    redundancy: Redundancy
    connection_log: ConnectionLogFile
    notifications: Notifications


@dataclass(frozen=True, slots=True)
class _Judged:
    """A file that this host could obey: its configuration, and what it names, read already."""

    file: Config
    secrets: ProbeFiles
    routers: "Prepared"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a reload would do to the configuration `before`: `file` is the new one, `config` the one to be in force.

    Both have the settings of `before` that only a new process can change.
    """

    before: Config
    file: Config
    config: Config
    rebase: Rebase
    steps: list[Step]


class Reload:
    """Reloads the file at `path` for `node`, the value of `--node`.

    `fits(config)` raises RefusedError if this host cannot have a configuration, BusyError if it cannot have one now.
    `around(old, new)` is called at the commit for what the daemon itself has: its log, its control socket.
    """

    def __init__(
        self,
        path: str,
        node: str | None,
        parts: Parts,
        tell: Tell,
        *,
        fits: Callable[[Config], None],
        around: Callable[[Config, Config], None],
    ) -> None:
        self._path = path
        self._node = node
        self._parts = parts
        self._tell = tell
        self._fits = fits
        self._around = around
        self._disk = DiskThread("configuration")
        self._on_disk = OnDisk(path)
        self._looking = False
        self.error: str | None = None
        """Why the last reload was refused; None if it was not."""
        self.on_disk_sha256: str | None = None
        """The digest of the files on the disk at the last look; None if they cannot be read."""

    async def close(self) -> None:
        """End the thread."""
        await self._disk.close(0.0)

    def look(self) -> None:
        """Have the thread find out whether the files have changed."""
        if self._looking:
            return
        loop = asyncio.get_running_loop()

        def done(found: "Future[str | None]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._looked, found)

        with contextlib.suppress(StuckError):
            self._disk.submit(self._on_disk.sha256).add_done_callback(done)
            self._looking = True

    def _looked(self, found: "Future[str | None]") -> None:
        self._looking = False
        self.on_disk_sha256 = found.result()

    async def plan(self) -> list[Step]:
        """Return the steps that a reload would do now.  Raises like `run`."""
        return (await self._plan(await self._judge())).steps

    async def run(self, *, strict: bool) -> Outcome:
        """Reload; with `strict` only if no step needs a new process.

        Raises ConfigError or RefusedError if the file is wrong, here or at all, and FailedError if only trying showed that
        it cannot be in force; then nothing has changed.  BusyError: nothing has been tried.
        """
        name, began = self._parts.running.config.node.name, time.monotonic()
        try:
            judged = await self._judge()
            while not self._is_current(plan := await self._plan(judged)):
                pass
            self._commit(judged, plan, strict=strict)
        except (BusyError, NeedsReexecError) as error:  # which say nothing of the file
            self._tell("reload", name, str(error), level="warning")
            raise
        except (ConfigError, RefusedError, FailedError) as error:
            self.error = str(error)
            first = self.error.splitlines()[0]
            self._tell("reload", name, f"refused, nothing has changed: {first}", level="error", error=self.error)
            raise
        self.error = None
        generation = self._parts.handout.generation
        faults = await self._settled(generation)
        took = f"{time.monotonic() - began:.2f} s"
        text = f"{counted(len(plan.steps), 'step')} in {took}" if plan.steps else f"nothing differs, {took}"
        self._tell("reload", name, f"reloaded: {text}", generation=generation, sha256=plan.file.sha256)
        for fault in faults:
            self._tell("reload", name, fault, level="error")
        return Outcome(plan.steps, generation, faults)

    # -- judge and plan

    async def _judge(self) -> _Judged:
        try:
            judged = await self._disk.run(self._read, READING)
        except StuckError as error:
            raise FailedError(f"{self._path}: {error}") from error
        await self._parts.membership.prepare(judged.file)
        return judged

    def _read(self) -> _Judged:
        # Thousands of backends make so many objects that their garbage collection would stop the loop for long.
        gc.disable()
        try:
            return self._read_all()
        finally:
            gc.freeze()
            gc.enable()

    def _read_all(self) -> _Judged:
        try:
            config = reusing(self._parts.running.file, load(self._path, self._node))
        except OSError as error:
            raise RefusedError(f"{error.filename or self._path}: {(error.strerror or str(error)).lower()}") from error
        missing = unsupported(config)
        if missing:
            raise ConfigError(missing)
        try:
            routers = self._parts.redundancy.prepare(config)
        except RouterError as error:
            raise RefusedError(f"vrrp: {error}") from error
        return _Judged(config, self._parts.means.read(config), routers)

    async def _plan(self, judged: _Judged) -> _Plan:
        before = self._parts.running.config
        file = adapted(before, judged.file)
        self._fits(file)
        rebase = self._parts.membership.rebase(file)
        wanted = judged.file.model_copy(update={"services": rebase.services})
        try:
            found = await self._disk.run(
                lambda: steps(before, wanted, retired=rebase.retired, ended=rebase.ended), READING
            )
        except StuckError as error:
            raise FailedError(str(error)) from error
        return _Plan(before, file, file.model_copy(update={"services": rebase.services}), rebase, found)

    def _is_current(self, plan: _Plan) -> bool:
        """Returns True if no operator has changed anything since the plan was made, and no drained backend has gone."""
        if plan.before is not self._parts.running.config:
            return False
        return plan.rebase == self._parts.membership.rebase(plan.file)

    # -- prepare and commit: nothing happens in between

    def _commit(self, judged: _Judged, plan: _Plan, *, strict: bool) -> None:
        parts = self._parts
        self._fits(plan.file)  # another daemon may have begun to take over since
        late = [step for step in plan.steps if step.reexec]
        if strict and late:
            raise NeedsReexecError("; ".join(step.text for step in late))
        try:
            parts.running.room_for(plan.config.services)
            bound = parts.listeners.prepare(plan.config.services, plan.config.node.workers)
        except (SlotsFullError, ListenError) as error:
            raise FailedError(str(error)) from error
        self._put_into_force(judged, plan, bound)

    def _put_into_force(self, judged: _Judged, plan: _Plan, bound: Bound) -> None:
        parts, before, steps_ = self._parts, self._parts.running.config, plan.steps
        name = before.node.name
        for step in steps_[:TOLD]:
            self._tell("reload", name, step.text, level="warning" if step.reexec else "info")
        if len(steps_) > TOLD:
            self._tell("reload", name, f"and {counted(len(steps_) - TOLD, 'more step')}")
        gone = {one: parts.running.slots[0][one] for one in parts.running.services.keys() - _names(plan.config)}
        deadlines = [[slot, parts.running.services[one].drain_timeout] for one, slot in gone.items()]
        services, backends = parts.running.replace_all(plan.file, plan.rebase.services)
        for slot in services:
            parts.columns.forget_service(slot)
        for slot in backends:
            parts.columns.forget_backend(slot)
        moves = parts.listeners.commit(parts.running, bound)
        parts.listeners.steer(bound.warnings.append)
        for text in bound.warnings:
            self._tell("listener", name, text, level="warning")
        changed = {step.service for step in steps_ if step.service}
        if steps_:
            parts.handout.changed()
        parts.opening.changed()
        new = [key for slot in backends if (key := parts.running.slots[1].key_at(slot)) is not None]
        parts.readiness.reconfigured(changed, new)
        self._tell_workers(before, plan.config, changed, deadlines)
        parts.workers.relocate(moves)
        parts.membership.commit(plan.rebase)
        self._tell_health(plan.config, judged.secrets)
        parts.redundancy.commit(judged.routers)
        parts.notifications.change(plan.config)
        self._around(before, plan.config)

    def _tell_workers(self, before: Config, config: Config, changed: Collection[str], gone: list[list[float]]) -> None:
        parts = self._parts
        if plans.log_path(config) != plans.log_path(before):
            parts.connection_log.redirect(plans.log_path(config))
        parts.workers.tell_all(parts.handout.settings())
        trees = [
            service_tree(plans.service_plan(service, parts.running, parts.readiness.weights_of(service.name)))
            for service in config.services
            if service.name in changed
        ]
        # Even without services: the workers confirm the generation.
        parts.workers.tell_all(worker_messages.Services(parts.handout.generation, trees, gone))

    def _tell_health(self, config: Config, secrets: ProbeFiles) -> None:
        for message, fds in self._parts.means.replace(config, secrets):
            self._parts.prober.send(message, fds)
        self._parts.prober.watch()

    # -- settle

    async def _settled(self, generation: int) -> list[str]:
        """Wait until workers and routers have followed; return in words what has not."""
        late = asyncio.timeout(SETTLED)
        faults = []
        try:
            async with late:
                while not self._parts.workers.have(generation):  # noqa: ASYNC110 - shared memory announces no change
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            faults.append(f"a worker has not followed within {SETTLED:g} s")
        return [*faults, *await self._parts.redundancy.settled()]


def _names(config: Config) -> set[str]:
    return {service.name for service in config.services}
