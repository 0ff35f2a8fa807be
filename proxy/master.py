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
from dataclasses import replace
from typing import Any

from health.units import format_duration
from proxy import __version__, messages, planning, privileges, routing, sockets, statedir, transparent
from proxy.admin import ADMINS, Admins
from proxy.child import Identity
from proxy.config.model import Config
from proxy.control.connections import Connections
from proxy.control.handlers import events_handler, probe_handler
from proxy.control.picking import pick_handler
from proxy.control.place import group_id
from proxy.control.server import ControlServer, Request
from proxy.control.wire import ControlError
from proxy.events import Level, Timeline
from proxy.logfile import ConnectionLogFile
from proxy.means import Means
from proxy.members import Key
from proxy.prober import Prober
from proxy.readiness import Readiness
from proxy.redundancy import Redundancy
from proxy.relay import rates
from proxy.relay.persistence import Store
from proxy.relay.plan import Member, to_tree
from proxy.stats.columns import Columns
from proxy.stats.layout import BACKEND_ACTIVE, SERVICE_INFLIGHT, SERVICE_SESSIONS, Layout
from proxy.stats.slots import Slots
from proxy.stats.snapshot import BackendKey, Node, Snapshot, SnapshotBuilder
from proxy.supervisor import Supervisor, gone

FIRST_VERDICTS = 3.0  # s of probing that the clients of a service wait in the kernel for its first verdict
FIRST_PROBES = 10.0  # s after the start until they wait no longer, probing or not
TICK = 0.1  # s
SAMPLE = 1.0  # s
STOP_GRACE = 1.0  # s after stop-timeout until what is left is killed
PORTION = 20  # services of a status that are looked at in one go
KILL_GRACE = 2.0  # s that a killed child may take to be gone
FAULTS_TOLD = 10  # bugs of ours that are told in full, then one in a thousand

_log = logging.getLogger("steelyard.master")


class StartError(Exception):
    """The daemon cannot start; one line a reason."""


class Master:
    """One daemon, from its start to its end."""

    def __init__(self, config: Config) -> None:
        """Prepare, touching nothing outside this process; StartError, with all reasons, for what can be seen already."""
        self.config = config
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._generation = 1
        self._open_files = privileges.raise_open_files()
        self._before: list[tuple[str, str]] = []  # (kind, text) of warnings before there is a timeline
        identity, group = self._preconditions()
        self._timeline = Timeline()
        self._control = ControlServer(config.control.socket, group)
        backends = [(service.name, backend.name) for service in config.services for backend in service.backends]
        self._services = {service.name: service for service in config.services}
        self._layout = Layout.roomy(len(config.services), len(backends), planning.clients(config))
        self._columns = Columns(self._layout)
        self._slots: tuple[Slots[str], Slots[BackendKey]] = (
            Slots(self._layout.services),
            Slots(self._layout.backends),
        )
        self._slots[0].assign(self._services)
        self._slots[1].assign(backends)
        self._builder = SnapshotBuilder(self._columns, *self._slots)
        self._plan = b""
        self._salt = os.urandom(16).hex()  # nobody can choose whom a client shares its place in a table with
        self._templates: Store | None = None
        self._rates = rates.create() if any(one.rate_per_client for one in config.services) else -1
        self._listeners: dict[int, Member] = {}
        self._groups: dict[Key, socket.socket] = {}
        self._open: set[str] = set()  # services that are served: the others wait for their first verdicts
        self._workers = Supervisor(self, config.node.workers, identity)
        self._connection_log = ConnectionLogFile(
            planning.log_path(config), self._columns, self._told_of_log, self._workers.reopened
        )
        self._means = Means(config, identity.gid, self._told_of_means)
        self._before += [("probe", text) for text in self._means.faults]
        try:
            self._admins = Admins(config, self._record, self._administered, self._active_on)
        except statedir.StateError as error:
            raise StartError(f"overrides: {error}") from error
        self._before += [
            ("admin", f"{name}: not in the file any more, its override is left out") for name in self._admins.strange
        ]
        self._readiness = Readiness(
            config, self._slots, self._record, self._to_workers, self._on_readiness, self._admins,
        )  # fmt: skip
        self._prober = Prober(
            identity,
            self._readiness.targets,
            self._readiness.probed,
            lambda text: self.told("health", text, level="error", kind="health"),
            on_alarm=self._alarmed,
            means=self._means.handover,
            on_begun=self._probing,
        )
        try:
            self._redundancy = Redundancy(config, identity, self._told_of_routers, self._opened_through)
        except (routing.KeyFileError, statedir.StateError) as error:
            raise StartError(f"vrrp: {error}") from error
        self._sampled = 0.0
        self._faults = 0
        self._stopping = False
        self._draining = False
        self._leaving: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    # -- life

    async def run(self) -> None:
        """Serve until told to stop.  StartError, with nothing left behind, if it cannot begin."""
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._on_stop)
            self._loop.add_signal_handler(signal.SIGHUP, self._on_hup)
            self._loop.set_exception_handler(self._on_fault)
            self._bind()
            await self._start_control()
            self._begin_timeline()
            self._connection_log.look(self._began)
            self._prober.start()
            self._workers.start()
            self._redundancy.start()
            self._loop.call_later(FIRST_PROBES, self._open_all, FIRST_PROBES)
            self._tick()
            await self._stopped.wait()
        finally:
            await self._end()

    async def _end(self) -> None:
        self._stopped.set()
        await self._control.close()
        await self._redundancy.leave(hand_over=False)
        self._prober.kill()
        await self._workers.end(KILL_GRACE)
        await gone([*self._prober.children, *self._redundancy.children], KILL_GRACE)
        self._close_groups()
        if self._rates >= 0:
            os.close(self._rates)
        self._means.close()
        self._connection_log.close()
        self._columns.close()
        if self._templates is not None:
            self._templates.close()
        if self._stopping:
            self._timeline.add("stop", self.config.node.name, "stopped")
        self._timeline.close()

    def _preconditions(self) -> tuple[Identity, int | None]:
        """Return whom the children run as and the group that may read; StartError with all that is wrong."""
        reasons: list[str] = []
        uid: int | None = None
        gid: int | None = None
        group: int | None = None
        try:
            uid, gid = self._children_user()
        except StartError as error:
            reasons.append(str(error))
        try:
            group = group_id(self.config.control.group)
        except ControlError as error:
            reasons.append(str(error))
        if self.config.vrrp and not privileges.holds(privileges.CAP_NET_ADMIN, privileges.CAP_NET_RAW):
            reasons.append("[vrrp.NAME] needs root, or CAP_NET_ADMIN and CAP_NET_RAW: addresses are to be moved")
        see_through = [service.name for service in self.config.services if service.transparent]
        if see_through and not transparent.possible():
            reasons.append(
                f"[service.{see_through[0]}] transparent needs root, CAP_NET_ADMIN or CAP_NET_RAW: "
                "sockets are to have the clients' addresses"
            )
        least = planning.least_files(self.config)
        if self._open_files < least:
            reasons.append(
                f"the limit of open files is {self._open_files}, this configuration with {self.config.node.workers} "
                f"workers needs {least}: raise it (ulimit -Hn, LimitNOFILE)"
            )
        if reasons:
            raise StartError("\n".join(reasons))
        return Identity(uid, gid, self.config.log.level, self.config.log.format), group

    def _children_user(self) -> tuple[int | None, int | None]:
        name = self.config.node.user
        if os.geteuid() != 0:
            return None, None
        if privileges.alone():
            self._before.append(("security", "children keep our user: this user namespace has no other"))
            return None, None
        try:
            uid, gid = privileges.user_ids(name)
        except KeyError:
            raise StartError(f'node.user: this host has no user "{name}"') from None
        if uid == 0:
            raise StartError("node.user: root would keep what workers must not have")
        if not privileges.can_become(uid, gid):
            raise StartError(f"node.user: {name} (uid {uid}) does not exist in this user namespace")
        return uid, gid

    def _bind(self) -> None:
        """Bind every listener, or none: all that cannot be had are told at once."""
        failures: list[tuple[str, sockets.BindError]] = []
        for service in self.config.services:
            slot = self._slots[0][service.name]
            tcp = planning.tcp_plan(service)
            for listener in service.listeners:
                number = len(self._listeners)
                where = Member(number, 0, slot, listener.transport, listener.address, listener.port)
                warn = self._warn if listener.vrrp is None else None
                try:
                    group = sockets.bind(where, self.config.node.workers, tcp, service.tcp.backlog, warn)
                except sockets.BindError as error:
                    failures.append((service.name, error))
                    continue
                self._listeners[number] = where
                self._groups.update({(number, index): sock for index, sock in enumerate(group)})
                self._workers.members.add(number)
        if failures:
            self._close_groups()  # so that nobody finds us in our own way
            lines = sockets.explain([error for _, error in failures])
            raise StartError(
                "\n".join(f"service.{name}: {line}" for (name, _), line in zip(failures, lines, strict=True))
            )

    def _warn(self, text: str) -> None:
        self._before.append(("listener", text))

    async def _start_control(self) -> None:
        self._control.register("status", self._status, mutates=False)
        self._control.register(
            "probe", probe_handler(self.config.services, self._readiness.keys, self._prober.run), mutates=True
        )
        self._control.register("config", self._show_config, mutates=False)
        browsed = Connections(
            self.config.services,
            self._workers.alive,
            self._workers.ask,
            (self._workers.follow, self._workers.unfollow),
            self._inflight,
            self._told_of_admin,
        )
        self._control.register("connections", browsed.connections, mutates=False)
        self._control.register(
            "pick", pick_handler(self.config.services, self._workers.alive, self._workers.ask), mutates=False
        )
        self._control.register("disconnect", browsed.disconnect, mutates=True)
        self._control.register("standby", self._redundancy.standby, mutates=True)
        self._control.register("resume", self._redundancy.resume, mutates=True)
        for command in ADMINS:
            self._control.register(command, self._admins.act, mutates=True)
        self._control.register("overrides", self._admins.show, mutates=False)
        self._control.register("overrides-clear", self._admins.clear, mutates=True)
        self._control.register("is-active", self._redundancy.is_active, mutates=False)
        try:
            await self._control.start()
        except ControlError as error:
            raise StartError(f"control.socket: {error}") from error

    def _begin_timeline(self) -> None:
        """Not before all is ours: a daemon that cannot start leaves nothing in another one's state directory."""
        node = self.config.node
        self._timeline = Timeline(node.state_dir)
        self._control.register("events", events_handler(self._timeline), mutates=False)
        self._timeline.add(
            "start", node.name,
            f"steelyard {__version__}: {len(self._services)} services on {len(self._listeners)} listeners, "
            f"{node.workers} workers",
            pid=os.getpid(), sha256=self.config.sha256,
        )  # fmt: skip
        for kind, text in self._before:
            self._timeline.add(kind, node.name, text, level="warning")

    def _close_groups(self) -> None:
        for sock in self._groups.values():
            sock.close()
        self._groups.clear()

    def _tick(self) -> None:
        if self._stopped.is_set():
            return
        self._loop.call_later(TICK, self._tick)  # before all else: whatever goes wrong below, there is a next look
        now = time.monotonic()
        self._guarded(lambda: self._workers.look(now))
        self._guarded(lambda: self._prober.look(now))
        self._guarded(self._refit)
        if now - self._sampled >= SAMPLE:
            self._sampled = now
            self._guarded(lambda: self._builder.sample(now, self.config.services))
            self._guarded(self._look_at_means)
            self._guarded(lambda: self._connection_log.look(now))

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

    # -- stopping

    def _on_stop(self) -> None:
        if self._stopped.is_set():
            return
        if self._stopping:
            self._timeline.add("stop", self.config.node.name, "told to stop a second time: at once", level="warning")
            self._stopped.set()
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
        self._close_groups()
        self._loop.call_later(timeout + STOP_GRACE, self._stopped.set)

    def _on_hup(self) -> None:
        self._timeline.add(
            "reload", self.config.node.name, "reload is not yet supported: restart the daemon", level="warning"
        )

    # -- what the supervisor of the workers needs

    def setup(self) -> bytes:
        """Return what a new worker is told first, encoded: the same for every worker of a configuration."""
        if not self._plan:
            plan = planning.plan(self.config, self._generation, self._layout, self._slots, self._open_files, self._salt)
            self._plan = messages.encode(messages.Setup(to_tree(plan)))
        return self._plan

    def shared(self) -> list[int]:
        """Return descriptors of what all workers write: the templates of clients that keep their backends, and clients' rates."""
        if self._templates is None and any(service.persistence for service in self.config.services):
            self._templates = Store.create()
        templates = [self._templates.again()] if self._templates is not None else []
        return [*templates, os.dup(self._rates)] if self._rates >= 0 else templates

    def verdicts(self) -> messages.Verdicts:
        """Return all verdicts that there are."""
        return self._readiness.verdicts()

    def weights(self) -> messages.Weights:
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
        slots = {self._slots[0][name] for name in self._open}
        return [number for number, member in self._listeners.items() if member.service in slots]

    def member(self, key: Key) -> tuple[Member, int]:
        """Return a member and its descriptor."""
        listener, index = key
        return replace(self._listeners[listener], index=index), self._groups[key].fileno()

    def told(self, subject: str, text: str, *, level: Level = "info", kind: str = "worker", **fields: Any) -> None:
        """Record what happened to a child."""
        self._timeline.add(kind, subject, text, level=level, **fields)

    def _record(self, kind: str, subject: str, text: str, *, level: Level = "info", **fields: Any) -> None:
        self._timeline.add(kind, subject, text, level=level, **fields)  # whichever timeline it is by then

    def _to_workers(self, message: messages.Message) -> None:
        self._workers.tell(message)

    def prepare(self, wanted: messages.Prepare) -> list[socket.socket]:
        """Make transparent sockets for a worker."""
        if not any(service.transparent for service in self.config.services):
            return []
        return transparent.make_some(wanted.family, wanted.kind, wanted.count)

    @property
    def log_fd(self) -> int:
        """The file that the connection log goes to, -1 if it goes to none."""
        return self._connection_log.fd

    def _told_of_admin(self, subject: str, text: str, fields: Mapping[str, Any]) -> None:
        self.told(subject, text, kind="admin", **fields)

    def _inflight(self, service: str) -> int:
        return self._columns.sum(self._layout.service(self._slots[0][service]) + SERVICE_INFLIGHT)

    def _told_of_log(self, text: str, level: Level) -> None:
        self.told("connections", text, kind="log", level=level)

    def hinted(self, hint: messages.Hint) -> None:
        """Pass on that real traffic failed on a backend."""
        self._prober.hint(hint)

    def failing(self, message: messages.Failing) -> None:
        """Leave a backend out on which real traffic fails, if it may be."""
        self._readiness.failing(message)

    def workers_changed(self) -> None:
        """A worker can serve that could not, or cannot any more: nobody may be left, which others should know at once."""
        self._refit()

    def workers_gone(self) -> None:
        """Every worker has left after a drain."""
        self._stopped.set()

    # -- the pair

    def _refit(self) -> None:
        ready = self._readiness
        self._redundancy.look(time.monotonic(), ready.able, ready.tracked, serving=self._workers.able)

    def _told_of_routers(self, name: str, text: str, level: Level, fields: Mapping[str, Any]) -> None:
        self.told(name, text, kind="vrrp", level=level, **fields)

    def _opened_through(self, routers: Collection[str]) -> int:
        """Return how many connections and sessions the services have open that listen on addresses of these routers."""
        cells = [
            self._layout.service(self._slots[0][service.name]) + SERVICE_SESSIONS
            for service in self.config.services
            if any(listener.vrrp in routers for listener in service.listeners)
        ]
        return sum(map(self._columns.sum, cells))

    # -- verdicts

    def _administered(self, keys: Collection[BackendKey]) -> None:
        """An operator wants something else of these backends."""
        self._readiness.administered(keys)
        self._prober.send(messages.Watch(self._readiness.targets()))

    def _active_on(self, key: BackendKey) -> int:
        """Return how many connections, sessions and queries a backend has."""
        return self._columns.sum(self._layout.backend(self._slots[1][key]) + BACKEND_ACTIVE)

    def _alarmed(self, alarm: messages.Alarm) -> None:
        raised = alarm.state == "raised"
        self._timeline.add(
            "alarm", alarm.service, alarm.text if raised else f"over: {alarm.text}",
            level="error" if raised else "info", state=alarm.state,
        )  # fmt: skip

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
        late = self._services.keys() - self._open
        for name in sorted(late):
            self._timeline.add("service", name, f"no verdict after {waited:g} s: served all the same", level="warning")
        if late:
            self._open |= late
            self._workers.settle()

    # -- answers

    async def snapshot(self) -> Snapshot:
        """Return the view of this instant."""
        probes, routers = await asyncio.gather(self._prober.report(), self._redundancy.rows())
        verdicts = self._readiness.shown(probes)
        overrides = self._admins.overrides
        node = Node(
            name=self.config.node.name, version=__version__, uptime=time.monotonic() - self._began,
            generation=self._generation, sha256=self.config.sha256, overrides=len(overrides),
        )  # fmt: skip
        # In portions, with the other work in between: with thousands of backends it takes a part of a second.
        parts: list[Snapshot] = []
        for first in range(0, max(len(self.config.services), 1), PORTION):
            part = self.config.services[first : first + PORTION]
            rows = self._workers.rows()
            parts.append(self._builder.build(
                node, part, verdicts, rows, now_ns=time.monotonic_ns(), overrides=overrides, vrrp=routers,
            ))  # fmt: skip
            await asyncio.sleep(0)
        services = [service for part in parts for service in part.status["services"]]
        return Snapshot({**parts[-1].status, "services": services}, parts[-1].headers)

    async def _status(self, request: Request) -> Mapping[str, Any]:  # noqa: ARG002 - it takes no arguments
        snapshot = await self.snapshot()
        return {"status": snapshot.as_dict()}

    def _show_config(self, request: Request) -> Mapping[str, Any]:  # noqa: ARG002 - it takes no arguments
        return {"config": self.config.model_dump(mode="json", by_alias=True)}


async def serve(config: Config) -> None:
    """Run a daemon in this process; StartError if it cannot begin."""
    master = Master(config)
    with contextlib.suppress(asyncio.CancelledError):
        await master.run()
