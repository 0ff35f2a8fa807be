"""What a worker is given: the plan, shared memory, verdicts, weights, listening sockets and the connection log."""

import os
import socket
from collections.abc import Collection
from dataclasses import asdict, dataclass

from proxy.backends.effective import Running
from proxy.backends.readiness import Readiness
from proxy.host.descriptors import most_connections
from proxy.processes import codec
from proxy.processes.messages import worker as worker_messages
from proxy.records.connection_log_file import ConnectionLogFile
from proxy.relay.clients import rates
from proxy.relay.clients.store import Store
from proxy.relay.plan import to_tree
from proxy.stats.columns import Columns
from proxy.stats.layout import Layout
from proxy.stats.table import TableError
from proxy.workers import plans, transparent_sockets
from proxy.workers.listeners import Listeners
from proxy.workers.opening import Opening


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a predecessor gave its workers: descriptors of the memory, -1 for what it had not, and the salt of its keys."""

    generation: int
    salt: str
    store: int
    rates: int


class Handout:
    """The plan and the shared memory, the same for every worker.

    It owns the descriptors in `remembered`.  Memory of another form than this version's is not used.
    """

    def __init__(self, running: Running, layout: Layout, open_files: int, remembered: Remembered | None = None) -> None:
        self._running = running
        self._layout = layout
        self._open_files = open_files
        self._encoded = b""
        # Random, so that a client cannot choose which clients share its place in a table.
        self._salt = os.urandom(16).hex() if remembered is None else remembered.salt
        self._templates = None if remembered is None else _store(remembered.store)
        self._rates = -1 if remembered is None else _rates(remembered.rates)
        if self._rates < 0:
            self._rates = rates.create()
        self.generation = 1 if remembered is None else remembered.generation + 1

    def changed(self) -> None:
        """Begin a new generation: the list of backends has changed."""
        self.generation += 1
        self._encoded = b""

    def reweighed(self) -> None:
        """Encode the plan anew: weights have changed, which is no new generation."""
        self._encoded = b""

    def setup(self) -> bytes:
        """Return a worker's first message, a `Setup`, encoded."""
        if not self._encoded:
            plan = plans.plan(self._running, self.generation, self._layout, self._open_files, self._salt)
            self._encoded = codec.encode(worker_messages.Setup(to_tree(plan)))
        return self._encoded

    def settings(self) -> worker_messages.Settings:
        """Return the settings of a worker as a whole, as they are now."""
        config = self._running.config
        return worker_messages.Settings(most_connections(config, self._open_files), asdict(plans.log_plan(config)))

    def shared(self) -> list[int]:
        """Return new descriptors of the memory that all workers write: the persistence store and clients' rates.

        The caller closes them.  They are there even if no service uses them yet: a reload may begin to.
        """
        if self._templates is None:
            self._templates = Store.create()
        return [self._templates.again(), os.dup(self._rates)]

    def remembered(self) -> Remembered:
        """Return what a successor needs for workers that go on where these end; the descriptors stay ours."""
        store = -1 if self._templates is None else self._templates.fd
        return Remembered(self.generation, self._salt, store, self._rates)

    def close(self) -> None:
        """Close the memory."""
        if self._rates >= 0:
            os.close(self._rates)
            self._rates = -1
        if self._templates is not None:
            self._templates.close()


def _store(fd: int) -> Store | None:
    """Return a predecessor's templates; None where it has none, or of another form."""
    if fd < 0:
        return None
    try:
        return Store(fd)
    except TableError:
        os.close(fd)
        return None


def _rates(fd: int) -> int:
    """Return the descriptor of a predecessor's table of rates; -1 where it has none, or one of another size."""
    if fd < 0 or os.fstat(fd).st_size == rates.SIZE:
        return fd
    os.close(fd)
    return -1


class Provision:
    """What the supervisor gives to workers, taken from the parts of the master that have it."""

    def __init__(
        self,
        running: Running,
        columns: Columns,
        handout: Handout,
        readiness: Readiness,
        listeners: Listeners,
        opening: Opening,
        connection_log: ConnectionLogFile,
    ) -> None:
        self._running = running
        self.columns = columns
        """All workers' counters."""
        self.setup = handout.setup
        self.shared = handout.shared
        self.verdicts = readiness.verdicts
        self.weights = readiness.weights
        self.member = listeners.member
        self.members = listeners.size
        self._opening = opening
        self._connection_log = connection_log

    def hold(self, life: int) -> None:
        """Keep the slots that a new worker learns of in its `Setup`, until `release` or `settle`."""
        for slots in self._running.slots:
            slots.hold(life)

    def settle(self, life: int) -> None:
        """Release the slots that a worker does not use any more, as it has confirmed the newest generation."""
        for slots in self._running.slots:
            slots.settle(life)

    def release(self, life: int) -> None:
        """Release all slots of a worker that has died."""
        for slots in self._running.slots:
            slots.release(life)

    @property
    def open_listeners(self) -> Collection[int]:
        """The numbers of the listeners that workers poll."""
        return self._opening.listeners

    @property
    def log_fd(self) -> int:
        """The descriptor of the connection log's file, -1 without one."""
        return self._connection_log.fd

    def prepare(self, wanted: worker_messages.Prepare) -> list[socket.socket]:
        """Return new transparent sockets; none where no service is transparent."""
        if not any(service.transparent for service in self._running.config.services):
            return []
        return transparent_sockets.make_some(wanted.family, wanted.kind, wanted.count)
