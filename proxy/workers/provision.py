"""What a new worker is given: the plan, and the memory that all workers share."""

import os

from proxy.backends.effective import Running
from proxy.processes import codec
from proxy.processes.messages import worker as worker_messages
from proxy.relay.clients import rates
from proxy.relay.clients.store import Store
from proxy.relay.plan import to_tree
from proxy.stats.layout import Layout
from proxy.workers import plans


class Handout:
    """The same for every worker of a configuration."""

    def __init__(self, running: Running, layout: Layout, open_files: int) -> None:
        services = running.config.services
        self._running = running
        self._layout = layout
        self._open_files = open_files
        self._encoded = b""
        self._salt = os.urandom(16).hex()  # nobody can choose whom a client shares its place in a table with
        self._templates: Store | None = None
        self._persistent = any(service.persistence for service in services)
        self._rates = rates.create() if any(service.rate_per_client for service in services) else -1
        self.generation = 1

    def changed(self) -> None:
        """What is running has changed: workers to come are told of it."""
        self.generation += 1
        self._encoded = b""

    def reweighed(self) -> None:
        """Weights have changed, which is no new generation."""
        self._encoded = b""

    def setup(self) -> bytes:
        """Return the first message, encoded."""
        if not self._encoded:
            plan = plans.plan(self._running, self.generation, self._layout, self._open_files, self._salt)
            self._encoded = codec.encode(worker_messages.Setup(to_tree(plan)))
        return self._encoded

    def shared(self) -> list[int]:
        """Return new descriptors of what all write: the templates of clients that keep their backends, and clients' rates."""
        if self._templates is None and self._persistent:
            self._templates = Store.create()
        templates = [self._templates.again()] if self._templates is not None else []
        return [*templates, os.dup(self._rates)] if self._rates >= 0 else templates

    def close(self) -> None:
        """Let go of the memory."""
        if self._rates >= 0:
            os.close(self._rates)
            self._rates = -1
        if self._templates is not None:
            self._templates.close()
