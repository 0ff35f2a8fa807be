"""How the parts of a backend's weight meet: what is measured, a slow start, a script's weight and an operator's."""

import asyncio

import pytest

from proxy.backends.admin import Admins
from proxy.backends.effective import Running
from proxy.backends.readiness import Readiness
from proxy.backends.saved import SAVED, SavedActs
from proxy.config.loader import load
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots
from proxy.status.slices import finished

FILE = """
[node]
name = "n"
workers = 1
[service.a]
listen = ["127.0.0.1:80/tcp"]
scheduler = "{scheduler}"
weight-from = "{kind}"
backends = [{{ address = "192.0.2.1", weight = 4 }}, {{ address = "192.0.2.2", weight = 2, slow-start = "9s" }}]
probe = {{ type = "pgsql", user = "x", max-lag = "30s" }}
"""
FIRST, SECOND = "a/192.0.2.1", "a/192.0.2.2"


class Bed:
    """A service of two backends whose weights follow a measure."""

    def __init__(self, path, kind="latency", scheduler="round-robin"):
        path.write_text(FILE.format(kind=kind, scheduler=scheduler))
        self.running = Running(load(path), Slots(16), Slots(64))
        self.sent, self.told = [], []
        self.admins = Admins(
            self.running,
            SavedActs(Document(DiskThread("disk"), path.parent, SAVED), self.tell),
            self.tell,
            lambda keys: self.ready.administered(keys),  # noqa: PLW0108
            lambda _: 0,
        )
        self.ready = Readiness(self.running, self.tell, self.sent.append, lambda _: None, self.admins)

    def tell(self, kind, subject, text, **_):
        """Note an event."""
        self.told.append(f"{kind} {subject}: {text}")

    async def probed(self, *states, weight=-1):
        """Let health find these states of both backends, one after the other."""
        for state in states:
            for key in (FIRST, SECOND):
                self.ready.probed(health_messages.Probed(key, state, "because", 1.0, weight))
            await asyncio.sleep(0)

    def measured(self, key, value, limit=0.0):
        """Let health tell a measure."""
        self.ready.measured(health_messages.Measured(key, value, limit))

    @property
    def weights(self):
        """The weights that the workers have now."""
        return [row[2] for row in self.ready.weights().changes]

    def shown(self, name):
        """The weight and the reason that status shows of a backend."""
        found = finished(self.ready.shown({}))["a", name]
        return found.weight, found.reason


async def test_a_slow_backend_gets_less(tmp_path):
    """H8: the workers learn of a share at once, status shows the weight and the why, and the timeline has both changes."""
    bed = Bed(tmp_path / "f.toml")
    await bed.probed("up")
    assert bed.weights == [40, 20]
    bed.measured(FIRST, 0.010)
    bed.measured(SECOND, 0.040)
    assert bed.weights == [40, 4]
    (last,) = [message for message in bed.sent if isinstance(message, worker_messages.Weights)]
    assert last.changes == [[0, 1, 4]]
    assert bed.shown("192.0.2.2") == (0.4, "because; weight at 20 %: latency of 40 ms, the fastest has 10 ms")
    assert bed.shown("192.0.2.1") == (None, "because")
    bed.measured(SECOND, 0.010)
    assert (bed.weights, bed.shown("192.0.2.2")) == ([40, 20], (None, "because"))
    assert [text for text in bed.told if text.startswith("weight")] == [
        "weight a/192.0.2.2: weight at 20 %: latency of 40 ms, the fastest has 10 ms",
        "weight a/192.0.2.2: has its whole weight again",
    ]


async def test_a_lagging_backend_gets_less(tmp_path):
    """H8: with lag, the part of max-lag that is left decides, whatever the others have."""
    bed = Bed(tmp_path / "f.toml", "lag")
    await bed.probed("up")
    for key in (FIRST, SECOND):
        bed.measured(key, 15.0, 30.0)
    assert bed.weights == [20, 10]
    assert bed.shown("192.0.2.1") == (2.0, "because; weight at 50 %: lag of 15 s of max-lag 30s")


async def test_the_fastest_goes(tmp_path):
    """H8: if the fastest backend goes down, the next one has its whole weight."""
    bed = Bed(tmp_path / "f.toml")
    await bed.probed("up")
    bed.measured(FIRST, 0.010)
    bed.measured(SECOND, 0.040)
    bed.ready.probed(health_messages.Probed(FIRST, "down", "because", 1.0))
    await asyncio.sleep(0)
    assert bed.weights == [40, 20]


async def test_a_slow_start_multiplies(tmp_path):
    """H8: a backend in a slow start has a part of the part, and never less than a tenth of its weight."""
    bed = Bed(tmp_path / "f.toml")
    await bed.probed("up")
    bed.measured(FIRST, 0.010)
    bed.measured(SECOND, 0.020)
    assert bed.weights == [40, 10]
    bed.ready.probed(health_messages.Probed(SECOND, "down", "because", 1.0))
    bed.ready.probed(health_messages.Probed(SECOND, "up", "because", 1.0))
    await asyncio.sleep(0)
    assert bed.weights == [40, 2]
    assert bed.shown("192.0.2.2")[0] == 0.2


async def test_whose_weight_it_is_a_part_of(tmp_path):
    """H8: the part is one of the weight that a script asks for, and of the operator's, which replaces it."""
    bed = Bed(tmp_path / "f.toml", "lag")
    await bed.probed("up")
    bed.measured(FIRST, 15.0, 30.0)
    await bed.probed("up", weight=6)
    assert bed.weights == [30, 60]
    bed.running.weighed.add(("a", "192.0.2.1"))
    bed.ready.reweighed(("a", "192.0.2.1"))
    assert bed.weights == [20, 60]
    assert bed.shown("192.0.2.1")[0] == 2.0


async def test_maintenance_forgets(tmp_path):
    """H8: what was measured before maintenance does not count after it."""
    bed = Bed(tmp_path / "f.toml", "lag")
    await bed.probed("up")
    bed.measured(FIRST, 15.0, 30.0)
    bed.ready.reconfigured(["a"], [])
    assert bed.weights == [20, 20]
    bed.ready._weighing.forget(("a", "192.0.2.1"))
    assert bed.weights == [40, 20]


@pytest.mark.parametrize("scheduler", ["failover", "source-hash"])
async def test_schedulers_without_shares(tmp_path, scheduler):
    """H8: a scheduler that does not share by weight keeps the weights of the file, without a word in the status."""
    bed = Bed(tmp_path / "f.toml", "lag", scheduler)
    await bed.probed("up")
    bed.measured(FIRST, 15.0, 30.0)
    assert bed.weights == [4, 2]
    assert bed.shown("192.0.2.1") == (None, "because")
    assert not [text for text in bed.told if "weight at" in text]


async def test_a_service_that_follows_nothing(tmp_path):
    """H8: a measure that arrives after weight-from was turned off, or of a backend that is gone, changes nothing."""
    bed = Bed(tmp_path / "f.toml", "off")
    await bed.probed("up")
    bed.measured(FIRST, 15.0, 30.0)
    bed.measured("a/gone", 15.0, 30.0)
    bed.measured("gone/b", 15.0, 30.0)
    assert bed.weights == [40, 20]  # the second has a slow start
