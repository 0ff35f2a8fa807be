"""The master: supervises the child processes, owns the listening sockets, answers on the control socket.

It never blocks and touches no client's data.  It gives the children their configuration, passes verdicts from health to
the workers, and reads the workers' counters when a command asks for them.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from proxy import __version__
from proxy.backends.admin import Admins
from proxy.backends.counts import Counts
from proxy.backends.effective import Running, written
from proxy.backends.errors import BusyError, RefusedError
from proxy.backends.loops import LoopGuard
from proxy.backends.membership import Membership
from proxy.backends.readiness import Readiness
from proxy.backends.saved import SAVED, SavedActs
from proxy.backends.shared_acts import SHARED, SharedActs
from proxy.commands.events import events_handler
from proxy.commands.figures import MOVES, FigureCollector, encoded
from proxy.commands.reexec import register_succession
from proxy.commands.registry import Parts, Stage, register
from proxy.commands.status import Overview
from proxy.config.model import BackendKey, Config
from proxy.control.path import group_id
from proxy.control.server import ControlServer
from proxy.control.wire import ControlError
from proxy.herald.herald import Herald
from proxy.herald.listeners import HeraldListenError
from proxy.host import privileges
from proxy.host.addresses import interface_addresses
from proxy.host.service_manager import ServiceManager
from proxy.notify.notifications import NOTIFIED, Notifications
from proxy.pair import router_settings
from proxy.pair.pair import STANDBY, Redundancy
from proxy.partner import Partner
from proxy.probing.alarms import Alarms
from proxy.probing.prober import Prober
from proxy.probing.provision import Means
from proxy.processes import signals
from proxy.processes.child import Identity
from proxy.processes.faults import Faults
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.records import log
from proxy.records.connection_log_file import ConnectionLogFile
from proxy.records.document import StateError
from proxy.records.state_directory import StateDirectory
from proxy.records.timeline import Level, Timeline
from proxy.relay.plan import service_tree
from proxy.reload import Outcome, Reload
from proxy.reload import Parts as Reloaded
from proxy.reload_queue import ReloadQueue
from proxy.start import Standing, StartError, standing
from proxy.stats.columns import Columns
from proxy.stats.layout import Layout
from proxy.stats.slots import SlotsFullError
from proxy.status.carried import Carried
from proxy.status.slices import in_slices
from proxy.status.snapshot import SnapshotBuilder
from proxy.status.summary import summary
from proxy.stopping import Stopping
from proxy.succession import taking_over
from proxy.succession.estate import Estate
from proxy.succession.former_workers import FormerWorkers
from proxy.succession.keeping import Keeping, Kept
from proxy.succession.legacy import Legacy
from proxy.succession.predecessor import NoPredecessorError, Predecessor
from proxy.succession.succession import Succession
from proxy.words import counted
from proxy.workers import plans
from proxy.workers.listeners import ListenError, Listeners, Relocation
from proxy.workers.opening import Opening
from proxy.workers.provision import Handout, Provision
from proxy.workers.supervisor import Supervisor, gone

TICK = 0.1  # s
SAMPLE = 1.0  # s
KILL_GRACE = 2.0  # s that the master waits for killed children to end


class Master:
    """One daemon, from its start to its end."""

    def __init__(
        self,
        config: Config,
        ours: Standing,
        state: StateDirectory,
        warnings: Collection[tuple[str, str]] = (),
        node: str | None = None,
        manager: ServiceManager | None = None,
        legacy: Legacy | None = None,
    ) -> None:
        """Prepare without any effect outside this process; StartError for errors that show already.

        `warnings` (kind, text) are recorded right after the event of the start; `node` is the value of `--node`;
        `legacy` is what this daemon begins with: that of a predecessor, or what the service manager has kept.
        """
        self._legacy = legacy
        inherited = None if legacy is None else legacy.state
        self._manager = manager or ServiceManager()
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        open_files = privileges.raise_open_files()
        self._state, self._alarms = state, Alarms()
        no_state = [("state", f"{state.fault}: nothing can be saved")] if state.fault else []
        self._before = [*warnings, *no_state]  # warnings to record after the event of the start
        self._timeline = Timeline()
        self._control = ControlServer(config.control.socket, ours.group)
        size = sum(len(service.backends) for service in config.services)
        self._layout = taking_over.layout(Layout.roomy(len(config.services), size, plans.CLIENTS), inherited)
        self._columns = Columns(self._layout)
        try:
            self._running = Running(config, *taking_over.slots(self._layout, inherited))
        except SlotsFullError as error:
            raise StartError(str(error)) from error
        self._builder = SnapshotBuilder(self._columns, *self._running.slots)
        self._counts = Counts(self._running, self._columns)
        self._faults = Faults(lambda text: self.told("master", text, level="error", kind="fault"))
        self._listeners = Listeners()
        self._connection_log = ConnectionLogFile(
            plans.log_path(config), self._columns, self._told_of_log, self._on_log_file
        )
        self._loops = LoopGuard(self._running, interface_addresses, self._timeline.add, self._looping)
        try:
            self._acts = SavedActs(
                state.document(SAVED), self._timeline.add, None if inherited is None else inherited.acts
            )
            self._admins = Admins(
                self._running, self._acts, self._timeline.add, self._administered, self._counts.active
            )
            # Before all that reads the backends in force: it lays the saved acts over the file.
            self._membership = Membership(
                self._running, self._admins, self._acts, self._timeline.add,
                relisted=self._relisted, reweighed=self._reweighed, stranded=self._stranded,
                active=self._counts.active, leads_back=self._loops.would_lead_back,
            )  # fmt: skip
        except StateError as error:
            raise StartError(f"overrides: {error}") from error
        self._before += [("admin", f"{written(key)}: {text}") for key, text in self._membership.ended]
        self._means = Means(self.config, ours.identity.gid, self._told_of_means)
        self._before += [("probe", text) for text in self._means.faults]
        self._readiness = Readiness(
            self._running, self._timeline.add, self._to_workers, self._on_readiness, self._admins,
        )  # fmt: skip
        self._notifications = self._notified(ours.identity)
        self._opening = Opening(self._running, self._listeners, self._readiness, self._timeline.add, self._on_open)
        self._handout = Handout(
            self._running, self._layout, open_files,
            taking_over.remembered(inherited, legacy.take if legacy is not None else lambda _: -1),
        )  # fmt: skip
        self._provision = Provision(
            self._running, self._columns, self._handout, self._readiness, self._listeners, self._opening,
            self._connection_log,
        )  # fmt: skip
        self._count = config.node.workers if config.services else 1  # a host with virtual addresses and no services
        self._workers = Supervisor(
            self, self._provision, self._count, ours.identity, 0 if inherited is None else inherited.lives
        )
        self._former = FormerWorkers(self._running, self._columns, self._workers, self._listeners, self._timeline)
        self._prober = Prober(
            ours.identity,
            self._targets,
            self._readiness.probed,
            lambda text: self.told("health", text, level="error", kind="health"),
            on_alarm=self._alarmed,
            on_measured=self._readiness.measured,
            means=self._means.handover,
            on_begun=self._probing,
        )
        try:
            self._redundancy = Redundancy(
                config, ours.identity, state.document(STANDBY), self._told_of_routers, self._counts.opened_through,
                None if inherited is None or inherited.routing is None else inherited.routing.model_dump(),
            )  # fmt: skip
        except router_settings.RouterError as error:
            raise StartError(f"vrrp: {error}") from error
        self._sampled, self._was_ready = 0.0, False
        self._stop = Stopping(
            self._running, self._columns, self._workers, self._listeners, self._redundancy, self._timeline,
            self._manager, self._faults, self._summary,
        )  # fmt: skip
        self._make_changeable(config.sources[0], node, ours.identity)

    def _notified(self, identity: Identity) -> Notifications:
        """Make what tells programs of the states that `Readiness` knows."""
        document = self._state.document(NOTIFIED)
        made = Notifications(self.config, identity, document, self._timeline.add, self._readiness.states)
        self._readiness.on_states = made.note
        return made

    def _make_changeable(self, path: str, node: str | None, identity: Identity) -> None:
        """Make what changes the configuration, and the program, while it runs, and the process that tells of it."""
        self._carried = Carried()
        self._overview: Overview | None = None
        self._figures: FigureCollector | None = None
        self._herald = Herald(
            self.config, identity, self._timeline, self._snapshot,
            lambda text: self.told("herald", text, level="error", kind="herald"),
            None if self._legacy is None else self._legacy.herald(),
        )  # fmt: skip
        shared = SharedActs(
            self.config.node.name, self._running, self._admins, self._membership, self._timeline.add,
            self._state.document(SHARED), warm=self._legacy is not None and self._legacy.state is not None,
        )  # fmt: skip
        self._partner = Partner(
            self._herald.link, self._running, shared, self._readiness, self._timeline.add, self._faults
        )
        self._reload = Reload(
            path, node,
            Reloaded(
                self._running, self._membership, self._readiness, self._columns, self._handout, self._listeners,
                self._opening, self._workers, self._means, self._prober, self._redundancy, self._connection_log,
                self._herald, self._notifications,
            ),
            self._timeline.add, fits=self._fits, around=self._reconfigured,
        )  # fmt: skip
        self._reloads = ReloadQueue(self._reload_now, lambda error: self._faults.add(error, "in a reload"))
        estate = Estate(
            os.getpid(), self._running, self._columns, self._handout, self._listeners, self._opening, self._readiness,
            self._membership, self._workers, self._former, self._prober, self._redundancy, self._control, self._herald,
            self._carried, self._timeline, self._state, self._notifications,
        )  # fmt: skip
        before = self._legacy if isinstance(self._legacy, Predecessor) else None
        self._keeping = Keeping(self._manager, estate, self._manager.restored)
        self._succession = Succession(
            self, estate, self._keeping, before, lambda: {**os.environ, **self._manager.environment()}
        )
        self._stop.succession = self._succession
        self._stop.hurry = self._notifications.hurry

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._running.config

    # -- life

    async def run(self) -> None:
        """Serve until a signal stops the daemon.  Raises StartError, and leaves nothing behind, if it cannot start."""
        try:
            self._take_signals()
            self._loop.set_exception_handler(self._faults.on_exception)
            self._listen()
            for listener in self._listeners.numbers:
                self._workers.add(listener)
            if isinstance(self._legacy, Kept):
                self._succession.restore(self._legacy)
            if not self._succession.waits:
                self._listeners.steer(lambda text: self._warn("listener", text))
                await self.appear()
                if not self._stop.begun:
                    self.begin()
            else:
                await self._take_over()
            await self._stop.ended.wait()
        finally:
            await self._end()

    def begin(self) -> None:
        """Start the children and the regular work."""
        self._connection_log.look(self._began)
        self._prober.start()
        self._workers.start()
        self._redundancy.start()
        if not self._succession.waits:
            self._redundancy.take_up()
            self._herald.open()
            self._notifications.begin()
        self._opening.start()
        self._tick()

    async def _take_over(self) -> None:
        try:
            await self._succession.take_over()
            self._herald.open()
        except NoPredecessorError as error:
            raise StartError(str(error)) from error

    async def appear(self, control: socket.socket | None = None) -> None:
        """Answer on the control socket, which a predecessor may have given, and write to the timeline."""
        self._connection_log.begin()
        await self._start_control(control)
        await self._begin_timeline()
        self._membership.keep()
        if self._legacy is not None:
            self._acts.keep()  # the state directory may be another one than the predecessor's

    async def _end(self) -> None:
        self._stop.ended.set()
        await self._succession.cancel("this daemon ends")
        self._reloads.close()
        await self._reload.close()
        if self._succession.aside:
            await self._end_aside()
            return
        await self._control.close()
        await self._redundancy.leave(hand_over=False)
        self._prober.kill()
        self._herald.kill()
        await self._workers.end(KILL_GRACE)
        self._keeping.end()
        self._succession.drain(0.0)
        self._succession.close()
        await asyncio.gather(self._redundancy.finish(), self._notifications.finish())
        await self._notifications.close()
        await gone([*self._prober.children, *self._redundancy.children, *self._herald.children], KILL_GRACE)
        self._listeners.close()
        self._herald.close()
        self._handout.close()
        self._means.close()
        await self._connection_log.close()
        self._columns.close()
        if self._stop.begun:
            self._timeline.add("stop", self.config.node.name, "stopped")
        self._timeline.close()

    async def _end_aside(self) -> None:
        """End this process and its children; addresses, sockets and files belong to another daemon."""
        await self._control.abandon()
        self._prober.kill()
        self._redundancy.abandon()
        await self._workers.end(KILL_GRACE)
        await self._notifications.finish()
        await gone(self._herald.children, KILL_GRACE)  # it answers what it has accepted
        self._herald.kill()
        await gone([*self._prober.children, *self._redundancy.children, *self._herald.children], KILL_GRACE)
        self._listeners.close()
        self._herald.close()
        self._handout.close()
        self._means.close()
        self._succession.close()
        await self._connection_log.close()
        self._columns.close()

    def _listen(self) -> None:
        adopted = None if self._legacy is None else self._legacy.listeners()
        try:
            self._listeners.bind(self._running, self._warn, adopted)
            self._herald.bind(lambda text: self._warn("listener", text))
        except (ListenError, HeraldListenError) as error:
            raise StartError(str(error)) from None

    def _warn(self, kind: str, text: str) -> None:
        self._before.append((kind, text))

    async def _start_control(self, inherited: socket.socket | None = None) -> None:
        parts = Parts(
            self._running, self._counts, self._workers, self._prober, self._redundancy, self._admins, self._membership,
            self._readiness, self._reload, self._reloads, self._partner, self._former.rows,
            lambda: Stage(self._stop.begun, self._stop.closed), lambda: self._alarms.rows, self._notifications.counters,
        )  # fmt: skip
        self._overview = overview = Overview(parts, self._builder, self._handout, self._readiness)
        self._figures = FigureCollector(parts, self._carried, self._herald)
        register(self._control, overview, parts)
        register_succession(self._control, self._succession.reexec, self._succession.give_place)
        try:
            await self._control.start(inherited)
        except ControlError as error:
            raise StartError(f"control.socket: {error}") from error

    async def _snapshot(self) -> tuple[bytes, bytes]:
        """Return the status and the figures that the herald process gets; it is not opened before there are any."""
        assert self._overview is not None and self._figures is not None  # noqa: S101, PT018 - for the type checker
        status, snapshot = await self._overview.document()
        figures = await in_slices(self._figures.collected(snapshot))
        return status, await in_slices(encoded(figures))

    async def _begin_timeline(self) -> None:
        """Record the start only now that the daemon owns its sockets: a daemon that cannot start writes no events."""
        node = self.config.node
        await self._timeline.keep(self._state.path, self._state.disk)
        self._control.register("events", events_handler(self._timeline), mutates=False)
        self._timeline.add(
            "start", node.name,
            f"steelyard {__version__}: {counted(len(self._running.services), 'service')} on "
            f"{counted(len(self._listeners), 'listener')}, {counted(self._count, 'worker')}",
            pid=os.getpid(), sha256=self.config.sha256,
        )  # fmt: skip
        for kind, text in self._before:
            self._timeline.add(kind, node.name, text, level="warning")

    def _tick(self) -> None:
        self._loop.call_later(TICK, self._tick)  # first, so that the next tick comes even if the rest fails
        now = time.monotonic()
        if self._stop.ended.is_set():
            self._manager.pulse(now)  # until the last script has ended
            return
        self._faults.guarded(self._succession.look)
        if self._succession.over:
            if now - self._sampled >= SAMPLE:
                self._sampled = now
                self._faults.guarded(lambda: self._connection_log.look(now))
            return
        if self._faults.guarded(lambda: self._workers.look(now)):
            self._manager.pulse(now)  # a master that cannot supervise its workers is to be replaced
        self._faults.guarded(lambda: self._herald.look(now))
        self._faults.guarded(lambda: self._partner.look(now))
        self._faults.guarded(self._refit)  # which is the vrrp process's sign of life from the master
        if not self._succession.busy:  # a successor knows the rest as it was
            self._decide(now)
        if now - self._sampled >= SAMPLE:
            self._sampled = now
            if not self._succession.waits:  # the counters are not here yet
                self._faults.guarded(lambda: self._builder.sample(now, self.config.services))
            self._faults.guarded(self._look_at_means)
            self._faults.guarded(self._look_at_listeners)
            self._faults.guarded(lambda: self._connection_log.look(now))
            self._faults.guarded(lambda: self._state.look(self._told_of_state))
            self._faults.guarded(self._reload.look)
            if not (self._succession.busy or self._succession.aside):
                self._faults.guarded(self._keeping.look)
            if self._was_ready:
                self._manager.say(self._summary())

    def _summary(self) -> str:
        """Return the daemon's state in words, for the service manager."""
        routers = self._redundancy.routers
        return summary(
            len(self._listeners), self._readiness.able, {} if routers is None else routers.states,
            serving=self._workers.able, stopping=self._stop.begun, refused=self._reload.error,
        )  # fmt: skip

    def _note_ready(self) -> None:
        """Report the end of the start once: a worker serves, and every service is open."""
        if self._was_ready or self._stop.begun or self._succession.waits or not self._workers.able:
            return
        if self._opening.services >= self._running.services.keys():
            self._was_ready = True
            self._manager.ready(self._summary())

    def _decide(self, now: float) -> None:
        self._faults.guarded(lambda: self._prober.look(now))
        self._faults.guarded(lambda: self._notifications.look(now))
        self._faults.guarded(lambda: self._admins.look(now))
        self._faults.guarded(lambda: self._membership.look(now))
        self._faults.guarded(self._loops.look)

    # -- signals

    def _take_signals(self) -> None:
        acts: dict[int, Callable[[], None]] = {
            signal.SIGTERM: lambda: self._stop.signalled(waits=True),
            signal.SIGINT: lambda: self._stop.signalled(waits=False),
            signal.SIGQUIT: lambda: self._stop.at_once("SIGQUIT"),
            signal.SIGHUP: self._on_reload,
            signal.SIGUSR1: self._on_reopen,
            signal.SIGUSR2: self._succession.on_signal,
        }
        signals.listen(self._loop, acts, self._on_stray)

    def _on_reload(self) -> None:
        with contextlib.suppress(RefusedError):  # one that waits, and may be stricter, reads the same file
            self._reloads.request(strict=False)

    async def _reload_now(self, strict: bool) -> Outcome:
        if self._was_ready and not self._stop.begun:
            self._manager.reloading()
        try:
            return await self._reload.run(strict=strict)
        finally:
            if self._was_ready and not self._stop.begun:
                self._manager.ready(self._summary())

    def _fits(self, config: Config) -> None:
        """Raise RefusedError if this host cannot have a configuration, BusyError if it cannot have one now."""
        if self._stop.begun:
            raise BusyError("the daemon is stopping: nothing has changed")
        if self._succession.busy or self._succession.aside:
            raise BusyError("another daemon is taking over, nothing has changed: try again in a moment")
        try:
            standing(config, privileges.raise_open_files(), lambda *_: None)
        except StartError as error:
            raise RefusedError(str(error)) from error

    def _reconfigured(self, before: Config, config: Config) -> None:
        """Take other settings of the daemon itself: its log, and the group that may read its control socket."""
        self._alarms.keep(self._running.services.keys())
        self._partner.reloaded()
        if (config.log.level, config.log.format) != (before.log.level, before.log.format):
            log.setup(config.log.level, config.log.format)
            level = messages.Level(config.log.level, config.log.format)
            self._workers.log(level)
            self._prober.log(level)
            self._herald.log(level)
            self._redundancy.log(level)
            self._notifications.log(level)
        if config.control.group != before.control.group:
            try:
                self._control.regroup(group_id(config.control.group))
            except (OSError, ControlError) as error:
                text = f"control.group: the socket keeps its rights: {error}"
                self._timeline.add("reload", config.node.name, text, level="error")

    def _on_reopen(self) -> None:
        self._timeline.add("log", self.config.node.name, "SIGUSR1: reopening the log files")
        self._timeline.reopen()
        self._connection_log.look(time.monotonic())

    def _on_stray(self, name: str) -> None:
        self._timeline.add("signal", self.config.node.name, f"{name} means nothing here: ignored", level="warning")

    # -- a successor

    def succeeded(self, pid: int) -> None:
        """Take note that the process `pid` has taken over."""
        self._stop.succeeded(pid)

    def stop_now(self) -> None:
        """End the daemon at once."""
        self._stop.ended.set()

    @property
    def stopping(self) -> bool:
        """Whether the daemon is stopping."""
        return self._stop.begun

    @property
    def stopped(self) -> bool:
        """Whether the daemon ends now."""
        return self._stop.ended.is_set()

    @property
    def awaits_successor(self) -> bool:
        """Whether the daemon is stopping, and serves until another one takes over."""
        return self._stop.waits

    # -- what the supervisor reports

    def told(self, subject: str, text: str, *, level: Level = "info", kind: str = "worker", **fields: Any) -> None:
        """Record an event."""
        self._timeline.add(kind, subject, text, level=level, **fields)

    def _to_workers(self, message: messages.Message) -> None:
        self._workers.tell(message)
        if isinstance(message, worker_messages.Verdicts):
            self._succession.passed_on(message)

    def _told_of_state(self, text: str, fault: bool) -> None:
        self.told(self.config.node.name, text, kind="state", level="error" if fault else "info")

    def _on_log_file(self) -> None:
        self._workers.reopened()

    def _told_of_log(self, text: str, level: Level) -> None:
        self.told("connections", text, kind="log", level=level)

    def heard(self, life: int, message: messages.Message) -> None:
        """Take a worker's message: real traffic fails on a backend, or the worker has confirmed a generation."""
        match message:
            case worker_messages.Hint(service, backend):
                key = self._running.key_at(service, backend)
                if key is not None:
                    self._prober.suspect(written(key))
            case worker_messages.Failing():
                self._readiness.failing(message)
            case worker_messages.Confirmed(generation) if generation == self._handout.generation:
                self._provision.settle(life)

    def workers_changed(self) -> None:
        """Tell the pair at once: perhaps no worker can serve any more."""
        self._refit()
        self._note_ready()

    def workers_gone(self) -> None:
        """Every worker has left after a drain."""
        self._stop.ended.set()

    # -- the pair

    def _refit(self) -> None:
        ready = self._readiness
        serving = self._workers.able or not self.config.services
        self._redundancy.look(time.monotonic(), ready.able, ready.tracked, serving=serving)

    def _told_of_routers(self, name: str, text: str, level: Level, fields: Mapping[str, Any]) -> None:
        if "previous" in fields:
            self._carried.count((MOVES, name))
        self.told(name, text, level=level, **{"kind": "vrrp", **fields})

    # -- verdicts

    def _targets(self) -> list[dict[str, Any]]:
        """Return what health watches: nothing while a predecessor's health process does."""
        return [] if self._succession.waits else self._readiness.targets()

    def _stranded(self, keys: Collection[BackendKey]) -> Collection[str]:
        return self._readiness.stranded_by(keys)

    def _looping(self, reasons: Mapping[BackendKey, str]) -> None:
        self._readiness.looping(reasons)

    def _administered(self, keys: Collection[BackendKey]) -> None:
        """Pass on that an operator has changed the admin state of these backends."""
        self._readiness.administered(keys)
        self._prober.watch()

    def _relisted(self, service: str, slots: Collection[int]) -> None:
        """Give health and the workers a service's new list of backends; those in `slots` count from zero."""
        for slot in slots:
            self._columns.forget_backend(slot)
        self._handout.changed()
        new = [key for key in map(self._running.slots[1].key_at, slots) if key is not None]
        self._readiness.relisted(service, new)
        plan = plans.service_plan(self._running.services[service], self._running, self._readiness.weights_of(service))
        self._workers.tell_all(worker_messages.Services(self._handout.generation, [service_tree(plan)], []))
        for message, fds in self._means.relisted(self.config):
            self._prober.send(message, fds)
        self._prober.watch()

    def _reweighed(self, key: BackendKey) -> None:
        """Pass on that an operator has changed a backend's weight."""
        self._handout.reweighed()
        self._readiness.reweighed(key)

    def _alarmed(self, alarm: health_messages.Alarm) -> None:
        self._alarms.take(alarm)
        raised = alarm.state == "raised"
        self._timeline.add(
            "alarm", alarm.service, alarm.text if raised else f"over: {alarm.text}",
            level="error" if raised else "info", at=alarm.at, state=alarm.state,
        )  # fmt: skip

    def _look_at_listeners(self) -> None:
        if self._stop.closed:
            return  # they are closed
        self._listeners.look()
        node = self.config.node.name
        for old, new in self._listeners.renew(lambda text: self.told(node, text, kind="listener", level="warning")):
            self._workers.relocate(Relocation(moved=((old, new),)))

    def _look_at_means(self) -> None:
        news = self._means.look()
        if news is not None:
            self._prober.send(news)

    def _told_of_means(self, text: str, fault: bool) -> None:
        self.told(self.config.node.name, text, kind="probe", level="warning" if fault else "info")

    def _on_readiness(self, services: Collection[str]) -> None:
        """Open the services that can now be served: the workers have their verdicts already."""
        self._partner.judged()
        self._refit()
        self._opening.known(services)

    def _on_open(self) -> None:
        self._workers.settle()
        self._note_ready()

    def _probing(self) -> None:
        self._alarms.clear()
        if not self._stop.begun:
            self._opening.probing()
