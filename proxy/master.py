"""The master: supervises the children, owns the listening sockets, answers on the control socket.

It does nothing that blocks and touches no client's data.  Configuration goes down from here, verdicts pass through,
counters are pulled when somebody asks.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from health.units import format_duration
from proxy import __version__
from proxy.backends.admin import SAVED, Admins
from proxy.backends.effective import Running, written
from proxy.backends.loops import LoopGuard
from proxy.backends.membership import Membership
from proxy.backends.readiness import Readiness
from proxy.commands.events import events_handler
from proxy.commands.registry import Parts, register
from proxy.commands.status import Overview
from proxy.config.model import BackendKey, Config
from proxy.control.server import ControlServer
from proxy.control.wire import ControlError
from proxy.host import privileges
from proxy.host.addresses import interface_addresses
from proxy.pair import router_settings
from proxy.pair.pair import STANDBY, Redundancy
from proxy.probing.prober import Prober
from proxy.probing.provision import Means
from proxy.processes import signals
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.records.connection_log_file import ConnectionLogFile
from proxy.records.document import StateError
from proxy.records.state_directory import StateDirectory
from proxy.records.timeline import Level, Timeline
from proxy.relay.plan import Member, service_tree
from proxy.start import Standing, StartError, own_state, standing
from proxy.stats.columns import Columns
from proxy.stats.layout import BACKEND_ACTIVE, SERVICE_SESSIONS, Layout
from proxy.stats.slots import Slots
from proxy.status.snapshot import SnapshotBuilder
from proxy.words import counted
from proxy.workers import plans, transparent_sockets
from proxy.workers.listeners import ListenError, Listeners
from proxy.workers.member_owners import Key
from proxy.workers.provision import Handout
from proxy.workers.supervisor import Supervisor, gone

FIRST_VERDICTS = 3.0  # s of probing that the clients of a service wait in the kernel for its first verdict
FIRST_PROBES = 10.0  # s after the start until they wait no longer, probing or not
TICK = 0.1  # s
SAMPLE = 1.0  # s
STOP_GRACE = 1.0  # s after stop-timeout until what is left is killed
KILL_GRACE = 2.0  # s that a killed child may take to be gone
FAULTS_TOLD = 10  # bugs of ours that are told in full, then one in a thousand

_log = logging.getLogger("steelyard.master")


class Master:
    """One daemon, from its start to its end."""

    def __init__(
        self, config: Config, ours: Standing, state: StateDirectory, warnings: Collection[tuple[str, str]] = ()
    ) -> None:
        """Prepare, touching nothing outside this process; StartError for what can be seen already.

        `warnings` (kind, text) are those that came up so far.
        """
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        open_files = privileges.raise_open_files()
        self._before = [*warnings]  # those before the start is told
        self._state = state
        if state.fault:
            self._warn("state", f"{state.fault}: nothing can be saved")
        self._timeline = Timeline()
        self._control = ControlServer(config.control.socket, ours.group)
        size = sum(len(service.backends) for service in config.services)
        self._layout = Layout.roomy(len(config.services), size, plans.clients(config))
        self._columns = Columns(self._layout)
        self._running = Running(config, Slots(self._layout.services), Slots(self._layout.backends))
        self._builder = SnapshotBuilder(self._columns, *self._running.slots)
        self._handout = Handout(self._running, self._layout, open_files)
        self._listeners = Listeners()
        self._open: set[str] = set()  # services that are served: the others wait for their first verdicts
        self._count = config.node.workers if config.services else 1  # an address alone is no work
        self._workers = Supervisor(self, self._count, ours.identity)
        self._connection_log = ConnectionLogFile(
            plans.log_path(config), self._columns, self._told_of_log, self._workers.reopened
        )
        self._means = Means(config, ours.identity.gid, self._told_of_means)
        self._before += [("probe", text) for text in self._means.faults]
        overrides = state.document(SAVED)
        try:
            self._admins = Admins(self._running, overrides, self._timeline.add, self._administered, self._active_on)
        except StateError as error:
            raise StartError(f"overrides: {error}") from error
        self._before += [
            ("admin", f"{name}: not in the file any more, its override is left out") for name in self._admins.strange
        ]
        self._readiness = Readiness(
            self._running, self._timeline.add, self._to_workers, self._on_readiness, self._admins,
        )  # fmt: skip
        self._loops = LoopGuard(self._running, interface_addresses, self._timeline.add, self._readiness.looping)
        self._membership = Membership(
            self._running, self._admins, self._timeline.add,
            relisted=self._relisted, reweighed=self._reweighed, stranded=self._readiness.stranded_by, active=self._active_on,
            leads_back=self._loops.would_lead_back,
        )  # fmt: skip
        self._prober = Prober(
            ours.identity,
            self._readiness.targets,
            self._readiness.probed,
            lambda text: self.told("health", text, level="error", kind="health"),
            on_alarm=self._alarmed,
            means=self._means.handover,
            on_begun=self._probing,
        )
        try:
            self._redundancy = Redundancy(
                config, ours.identity, state.document(STANDBY), self._told_of_routers, self._opened_through
            )
        except router_settings.KeyFileError as error:
            raise StartError(f"vrrp: {error}") from error
        self._sampled = 0.0
        self._faults = 0
        self._stopping = False
        self._draining = False
        self._leaving: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._running.config

    # -- life

    async def run(self) -> None:
        """Serve until told to stop.  StartError, with nothing left behind, if it cannot begin."""
        try:
            self._take_signals()
            self._loop.set_exception_handler(self._on_fault)
            self._listen()
            for listener in self._listeners.numbers:
                self._workers.members.add(listener)
            await self._start_control()
            await self._begin_timeline()
            if not self._stopping:
                self._begin()
            await self._stopped.wait()
        finally:
            await self._end()

    def _begin(self) -> None:
        self._connection_log.look(self._began)
        self._prober.start()
        self._workers.start()
        self._redundancy.start()
        self._loop.call_later(FIRST_PROBES, self._open_all, FIRST_PROBES)
        self._tick()

    async def _end(self) -> None:
        self._stopped.set()
        await self._control.close()
        await self._redundancy.leave(hand_over=False)
        self._prober.kill()
        await self._workers.end(KILL_GRACE)
        await self._redundancy.finish()
        await gone([*self._prober.children, *self._redundancy.children], KILL_GRACE)
        self._listeners.close()
        self._handout.close()
        self._means.close()
        await self._connection_log.close()
        self._columns.close()
        if self._stopping:
            self._timeline.add("stop", self.config.node.name, "stopped")
        self._timeline.close()

    def _listen(self) -> None:
        try:
            self._listeners.bind(self._running, self._warn)
        except ListenError as error:
            raise StartError(str(error)) from None

    def _warn(self, kind: str, text: str) -> None:
        self._before.append((kind, text))

    async def _start_control(self) -> None:
        parts = Parts(
            self._running, self._columns, self._workers, self._prober, self._redundancy, self._admins, self._membership,
            self._readiness,
        )  # fmt: skip
        overview = Overview(parts, self._builder, self._handout, self._readiness)
        register(self._control, overview.status, overview.forget, parts)
        try:
            await self._control.start()
        except ControlError as error:
            raise StartError(f"control.socket: {error}") from error

    async def _begin_timeline(self) -> None:
        """Not before all is ours: a daemon that cannot start leaves no events of it."""
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
        if self._stopped.is_set():
            return
        self._loop.call_later(TICK, self._tick)  # before all else: whatever goes wrong below, there is a next look
        now = time.monotonic()
        self._guarded(lambda: self._workers.look(now))
        self._guarded(lambda: self._prober.look(now))
        self._guarded(self._refit)
        self._guarded(lambda: self._admins.look(now))
        self._guarded(lambda: self._membership.look(now))
        self._guarded(self._loops.look)
        if now - self._sampled >= SAMPLE:
            self._sampled = now
            self._guarded(lambda: self._builder.sample(now, self.config.services))
            self._guarded(self._look_at_means)
            self._guarded(self._look_at_listeners)
            self._guarded(lambda: self._connection_log.look(now))
            self._guarded(lambda: self._state.look(self._told_of_state))

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._on_fault(self._loop, {"exception": error})

    def _on_fault(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:  # noqa: ARG002 - asyncio's
        """Tell of a bug of ours, and go on: the workers serve, and what was missed is repaired at the next look."""
        self._faults += 1
        if self._faults <= FAULTS_TOLD or self._faults % 1000 == 0:
            error = context.get("exception")
            _log.error("fault %d: %s", self._faults, context.get("message", "in a regular look"), exc_info=error)
            self.told("master", f"a bug of ours, the log has it: {error!r}", level="error", kind="fault")

    # -- signals

    def _take_signals(self) -> None:
        acts: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGQUIT: self._on_quit,
            signal.SIGHUP: lambda: self._on_unsupported("reload"),
            signal.SIGUSR1: self._on_reopen,
            signal.SIGUSR2: lambda: self._on_unsupported("reexec"),
        }
        signals.listen(self._loop, acts, self._on_stray)

    def _on_unsupported(self, what: str) -> None:
        text = f"{what} is not yet supported: restart the daemon"
        self._timeline.add(what, self.config.node.name, text, level="warning")

    def _on_reopen(self) -> None:
        self._timeline.add("log", self.config.node.name, "SIGUSR1: log files are opened anew")
        self._timeline.reopen()
        self._connection_log.look(time.monotonic())

    def _on_stray(self, name: str) -> None:
        self._timeline.add("signal", self.config.node.name, f"{name} means nothing here: ignored", level="warning")

    def _on_quit(self) -> None:
        self._timeline.add("stop", self.config.node.name, "SIGQUIT: stopping at once", level="warning")
        self._stopping = True
        self._stopped.set()

    def _on_stop(self) -> None:
        if self._stopping:
            if not self._stopped.is_set():
                text = "told to stop a second time: at once"
                self._timeline.add("stop", self.config.node.name, text, level="warning")
            self._redundancy.hurry()
            self._stopped.set()
        if self._stopped.is_set():
            return
        self._stopping = True
        timeout = self.config.node.stop_timeout
        self._timeline.add(
            "stop", self.config.node.name, f"told to stop: finishing what is open within {format_duration(timeout)}"
        )
        self._leaving = self._loop.create_task(self._leave())

    async def _leave(self) -> None:
        """Finish what is open; before, let the addresses go, through which new clients come until then."""
        try:
            await self._redundancy.leave(hand_over=True)
        except Exception as error:
            self._on_fault(self._loop, {"exception": error})  # and stop all the same
        if self._stopped.is_set():
            return
        self._draining = True
        timeout = self.config.node.stop_timeout
        self._workers.drain(timeout)
        # The workers hold the sockets until they have taken what is queued; ours are closed so that nothing new is.
        self._listeners.close()
        self._loop.call_later(timeout + STOP_GRACE, self._stopped.set)

    # -- what the supervisor of the workers needs

    def setup(self) -> bytes:
        """Return what a new worker is told first, encoded."""
        return self._handout.setup()

    def shared(self) -> list[int]:
        """Return descriptors of what all workers write."""
        return self._handout.shared()

    def held(self, life: int) -> None:
        """Keep the slots of what a new life is told of."""
        for slots in self._running.slots:
            slots.hold(life)

    def released(self, life: int) -> None:
        """Let go of all slots of a life that has ended."""
        for slots in self._running.slots:
            slots.release(life)

    def verdicts(self) -> worker_messages.Verdicts:
        """Return all verdicts that there are."""
        return self._readiness.verdicts()

    def weights(self) -> worker_messages.Weights:
        """Return the weights that backends ask for."""
        return self._readiness.weights()

    @property
    def columns(self) -> Columns:
        """All workers' counters."""
        return self._columns

    @property
    def open_listeners(self) -> Collection[int]:
        """Listeners whose service is served."""
        if self._draining:
            return ()
        return self._listeners.of({self._running.slots[0][name] for name in self._open})

    def member(self, key: Key) -> tuple[Member, int]:
        """Return a member and its descriptor."""
        return self._listeners.member(key)

    def told(self, subject: str, text: str, *, level: Level = "info", kind: str = "worker", **fields: Any) -> None:
        """Record what happened to a child."""
        self._timeline.add(kind, subject, text, level=level, **fields)

    def _to_workers(self, message: messages.Message) -> None:
        self._workers.tell(message)

    def prepare(self, wanted: worker_messages.Prepare) -> list[socket.socket]:
        """Make transparent sockets for a worker."""
        if not any(service.transparent for service in self.config.services):
            return []
        return transparent_sockets.make_some(wanted.family, wanted.kind, wanted.count)

    @property
    def log_fd(self) -> int:
        """The file that the connection log goes to, -1 if it goes to none."""
        return self._connection_log.fd

    def _told_of_state(self, text: str, fault: bool) -> None:
        self.told(self.config.node.name, text, kind="state", level="error" if fault else "info")

    def _told_of_log(self, text: str, level: Level) -> None:
        self.told("connections", text, kind="log", level=level)

    def heard(self, life: int, message: messages.Message) -> None:
        """Take what a worker says: that real traffic fails on a backend, or what it references no more."""
        match message:
            case worker_messages.Hint(service, backend):
                key = self._running.key_at(service, backend)
                if key is not None:
                    self._prober.suspect(written(key))
            case worker_messages.Failing():
                self._readiness.failing(message)
            case worker_messages.Confirmed(generation) if generation == self._handout.generation:
                for slots in self._running.slots:
                    slots.settle(life)

    def workers_changed(self) -> None:
        """A worker can serve that could not, or cannot any more: nobody may be left, which others should know at once."""
        self._refit()

    def workers_gone(self) -> None:
        """Every worker has left after a drain."""
        self._stopped.set()

    # -- the pair

    def _refit(self) -> None:
        ready = self._readiness
        serving = self._workers.able or not self.config.services
        self._redundancy.look(time.monotonic(), ready.able, ready.tracked, serving=serving)

    def _told_of_routers(self, name: str, text: str, level: Level, fields: Mapping[str, Any]) -> None:
        self.told(name, text, kind="vrrp", level=level, **fields)

    def _opened_through(self, routers: Collection[str]) -> int:
        """Return how many connections and sessions the services have open that listen on addresses of these routers."""
        cells = [
            self._layout.service(self._running.slots[0][service.name]) + SERVICE_SESSIONS
            for service in self.config.services
            if any(listener.vrrp in routers for listener in service.listeners)
        ]
        return sum(map(self._columns.sum, cells))

    # -- verdicts

    def _administered(self, keys: Collection[BackendKey]) -> None:
        """An operator wants something else of these backends."""
        self._readiness.administered(keys)
        self._prober.send(health_messages.Watch(self._readiness.targets()))

    def _relisted(self, service: str, slots: Collection[int]) -> None:
        """A service has other backends, of which those in `slots` count from nothing: health and the workers learn of it."""
        for slot in slots:
            self._columns.forget_backend(slot)
        self._handout.changed()
        new = [key for key in map(self._running.slots[1].key_at, slots) if key is not None]
        self._readiness.relisted(service, new)
        plan = plans.service_plan(self._running.services[service], self._running, self._readiness.weights_of(service))
        self._workers.relist(worker_messages.Backends(self._handout.generation, service_tree(plan)))
        for message, fds in self._means.relisted(self.config):
            self._prober.send(message, fds)
        self._prober.send(health_messages.Watch(self._readiness.targets()))

    def _reweighed(self, key: BackendKey) -> None:
        """A backend has another weight."""
        self._handout.reweighed()
        self._readiness.reweighed(key)

    def _active_on(self, key: BackendKey) -> int:
        """Return how many connections, sessions and queries a backend has."""
        return self._columns.sum(self._layout.backend(self._running.slots[1][key]) + BACKEND_ACTIVE)

    def _alarmed(self, alarm: health_messages.Alarm) -> None:
        raised = alarm.state == "raised"
        self._timeline.add(
            "alarm", alarm.service, alarm.text if raised else f"over: {alarm.text}",
            level="error" if raised else "info", at=alarm.at, state=alarm.state,
        )  # fmt: skip

    def _look_at_listeners(self) -> None:
        if self._draining:
            return  # they are closed
        node = self.config.node.name
        for old, new in self._listeners.renew(lambda text: self.told(node, text, kind="listener", level="warning")):
            self._workers.replace(old, new)

    def _look_at_means(self) -> None:
        news = self._means.look()
        if news is not None:
            self._prober.send(news)

    def _told_of_means(self, text: str, fault: bool) -> None:
        self.told(self.config.node.name, text, kind="probe", level="warning" if fault else "info")

    def _on_readiness(self, services: Collection[str]) -> None:
        """Serve what can now be served: the workers know already."""
        self._refit()
        known = {name for name in set(services) - self._open if self._readiness.is_known(name)}
        if known:
            self._open |= known
            self._workers.settle()

    def _probing(self) -> None:
        """Wait for the first verdicts from here on: the start of the process that probes is no server's slowness."""
        if not self._stopping:
            self._loop.call_later(FIRST_VERDICTS, self._open_all, FIRST_VERDICTS)

    def _open_all(self, waited: float) -> None:
        late = self._running.services.keys() - self._open
        self._readiness.wait_no_longer()
        for name in sorted(late):
            self._timeline.add("service", name, self._readiness.why_late(name, waited), level="warning")
        if late:
            self._open |= late
            self._workers.settle()


async def serve(config: Config) -> None:
    """Run a daemon in this process; StartError if it cannot begin."""
    warnings: list[tuple[str, str]] = []
    ours = standing(config, privileges.raise_open_files(), lambda kind, text: warnings.append((kind, text)))
    state = await own_state(config)
    try:
        master = Master(config, ours, state, warnings)
        with contextlib.suppress(asyncio.CancelledError):
            await master.run()
    finally:
        await state.close()
