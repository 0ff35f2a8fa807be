"""What a daemon has that a successor takes over: the documents and the descriptors, from the parts of the master."""

from dataclasses import dataclass

from proxy import __version__
from proxy.backends.effective import Running
from proxy.backends.membership import Membership
from proxy.backends.readiness import Readiness
from proxy.control.server import ControlServer
from proxy.notify.notifications import Notifications
from proxy.pair.pair import Redundancy
from proxy.probing.prober import Prober
from proxy.records.state_directory import StateDirectory
from proxy.records.timeline import Timeline
from proxy.stats.columns import Columns
from proxy.stats.translation import Shape
from proxy.status.slices import in_slices
from proxy.succession.document import FormerRow, Late, ListenerRow, Routing, ShapeRow, State
from proxy.succession.former_workers import FormerWorkers
from proxy.workers.listeners import Listeners
from proxy.workers.opening import Opening
from proxy.workers.provision import Handout
from proxy.workers.supervisor import Supervisor

Descriptors = dict[str, int]
"""By name; they stay the daemon's."""


@dataclass(frozen=True, slots=True)
class Estate:
    """The parts of a daemon; `pid` is its process."""

    pid: int
    running: Running
    columns: Columns
    handout: Handout
    listeners: Listeners
    opening: Opening
    readiness: Readiness
    membership: Membership
    workers: Supervisor
    former: FormerWorkers
    prober: Prober
    redundancy: Redundancy
    control: ControlServer
    timeline: Timeline
    state: StateDirectory
    notifications: Notifications

    async def document(self) -> tuple[State, Descriptors]:
        """Return what a successor needs to start."""
        memory = await in_slices(self.readiness.remembered())
        state, descriptors = self.brief()
        whole = {
            "memory": memory,
            "acts": tuple(self.membership.state()),
            "routing": Routing.model_validate(self.redundancy.state()),
        }
        return state.model_copy(update=whole), descriptors

    def brief(self) -> tuple[State, Descriptors]:
        """Return the same without verdicts, acts and routers, which take long to collect."""
        config, remembered = self.running.config, self.handout.remembered()
        services, backends = self.running.slots
        descriptors = {"store": remembered.store, "rates": remembered.rates, "lock": self.state.lock}
        if self.control.listener is not None:
            descriptors["control"] = self.control.listener.fileno()
        listeners = []
        for member, fds in self.listeners.groups():
            listeners.append(
                ListenerRow(
                    number=member.listener, transport=member.transport, address=member.address, port=member.port,
                    members=len(fds),
                )
            )  # fmt: skip
            descriptors |= {f"listener-{member.listener}-{index}": fd for index, fd in enumerate(fds)}
        state = State(
            steelyard=__version__,
            pid=self.pid,
            node=config.node.name,
            state_dir=config.node.state_dir,
            control=config.control.socket,
            shape=ShapeRow.model_validate(Shape.of(self.columns.layout).tree()),
            services=tuple(services.rows()),
            backends=tuple(backends.rows()),
            lives=self.workers.lives,
            generation=remembered.generation,
            salt=remembered.salt,
            listeners=tuple(listeners),
        )
        return state, {name: fd for name, fd in descriptors.items() if fd >= 0}

    async def late(self) -> tuple[Late, Descriptors]:
        """Return what may have changed since `document`, and the workers that are left behind."""
        memory = await in_slices(self.readiness.remembered())
        late, descriptors = self.brief_late()
        routing = Routing.model_validate(self.redundancy.state())
        whole = {"memory": memory, "routing": routing, "notified": self.notifications.state}
        return late.model_copy(update=whole), descriptors

    def brief_late(self) -> tuple[Late, Descriptors]:
        """Return the same without verdicts and routers."""
        descriptors = {"base": self.columns.base_fd, **self.former.descriptors()}
        rows = self.former.present()
        for place in self.workers.present():
            if place.child is None or place.life is None:
                continue
            rows.append(
                FormerRow(
                    life=place.life, index=place.index, pid=place.child.pid, restarts=place.restarts, nurse=self.pid
                )
            )
            descriptors[f"column-{place.life}"] = self.columns.live[place.life].fd
            descriptors[f"journal-{place.life}"] = place.journal
        late = Late(
            opened=tuple(self.opening.services),
            workers=tuple(rows),
        )
        return late, descriptors
