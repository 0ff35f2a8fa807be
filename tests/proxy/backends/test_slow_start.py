"""The share of a backend that returns."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends import effective
from proxy.backends.admin import Admins
from proxy.backends.effective import STEPS, Running
from proxy.backends.readiness import Readiness
from proxy.backends.saved import SAVED, SavedActs
from proxy.backends.slow_start import next_step, share
from proxy.config.loader import load
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.layout import Layout
from proxy.stats.slots import Slots
from proxy.status.slices import finished
from proxy.workers import plans

FILE = """
[node]
name = "n"
workers = 1
[service.a]
listen = ["127.0.0.1:80/tcp"]
scheduler = "{scheduler}"
backends = [{{ address = "192.0.2.1", slow-start = "0.2s" }}, {{ address = "192.0.2.2", weight = 3 }}]
"""
FIRST = "a/192.0.2.1"


@given(st.floats(0.001, 1e6), st.floats(0, 2e6))
def test_a_share_only_grows(time, elapsed):
    """T24: a share is a tenth at first and the whole at the end, it never shrinks, and the next step comes after now."""
    assert share(0.0, time) == 1
    assert share(time, time) == share(2 * time, time) == STEPS
    assert share(elapsed, time) <= share(elapsed * 1.01, time)
    if elapsed < time:
        step = next_step(elapsed, time)
        assert elapsed < step * (1 + 1e-9)
        assert share(step * (1 + 1e-9), time) > share(elapsed, time)


@given(st.floats(0.01, 1e5))
def test_a_ramp_has_nine_steps(time):
    """T24: the way from a tenth to the whole takes nine changes, one each ninth of the time."""
    elapsed, steps = 0.0, 0
    while share(elapsed, time) < STEPS:
        elapsed = next_step(elapsed, time) * (1 + 1e-9)
        steps += 1
    assert steps == STEPS - 1
    assert elapsed == pytest.approx(time)


class Bed:
    """A service of two backends of which the first has a slow start."""

    def __init__(self, path, scheduler="round-robin"):
        path.write_text(FILE.format(scheduler=scheduler))
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

    def tell(self, kind, subject, text, *, level="info", **fields):
        """Note an event."""
        self.told.append(text)

    async def probed(self, *states):
        """Let health find these states of the first backend, one after the other."""
        for state in states:
            self.ready.probed(health_messages.Probed(FIRST, state, "because", 1.0))
            await asyncio.sleep(0)

    @property
    def weights(self):
        """What the workers were told to weigh the first backend with."""
        return [
            row[2] for message in self.sent if isinstance(message, worker_messages.Weights) for row in message.changes
        ]

    @property
    def shown(self):
        """The weight that status shows of it."""
        return finished(self.ready.shown({}))["a", "192.0.2.1"].weight


async def test_a_backend_that_returns_ramps(tmp_path):
    """T24: back from down, a backend has a tenth before its verdict is told, grows to the whole, and status shows it."""
    bed = Bed(tmp_path / "f.toml")
    await bed.probed("up", "down", "up")
    kinds = [type(message).__name__ for message in bed.sent]
    assert kinds == ["Verdicts", "Verdicts", "Weights", "Verdicts"]
    assert (bed.weights, bed.shown) == ([1], 0.1)
    assert bed.ready.weights().changes == [[0, 0, 1], [0, 1, 30]]  # of a worker that starts meanwhile
    await asyncio.sleep(0.35)
    assert bed.weights == sorted(bed.weights)
    assert len(set(bed.weights)) > 3
    assert (bed.weights[-1], bed.shown) == (STEPS, None)
    assert bed.ready.weights().changes == [[0, 0, 10], [0, 1, 30]]
    assert any("slow start" in text for text in bed.told)


async def test_no_ramp_at_the_start(tmp_path):
    """T24: the first verdict after the start of the daemon begins no ramp, nor does health when it tells all anew."""
    bed = Bed(tmp_path / "f.toml")
    await bed.probed("up", "up", "reserve", "up")
    assert bed.weights == []
    assert bed.shown is None


async def test_a_ramp_ends_when_its_backend_leaves(tmp_path):
    """T24: a backend that goes down in its ramp begins anew when it returns."""
    bed = Bed(tmp_path / "f.toml")
    await bed.probed("up", "down", "up")
    await asyncio.sleep(0.1)
    await bed.probed("down")
    before = len(bed.weights)
    await asyncio.sleep(0.2)
    assert len(bed.weights) == before
    await bed.probed("up")
    assert bed.weights[-1] == 1


@pytest.mark.parametrize(
    ("scheduler", "scale"), [("maglev", STEPS), ("least-connections", STEPS), ("failover", 1), ("source-hash", 1)]
)
async def test_weights_are_scaled_for_all(tmp_path, scheduler, scale):
    """T24: where a share grows, all weights of the service are told in tenths, else as they are written."""
    bed = Bed(tmp_path / "f.toml", scheduler)
    plan = plans.plan(bed.running, 1, Layout(16, 64), 20_000)
    assert [backend.weight for backend in plan.services[0].backends] == [scale, 3 * scale]
    assert effective.scale(bed.running.config.services[0]) == scale
    await bed.probed("up", "down", "up")
    assert bed.weights == ([1] if scale > 1 else [])
    bed.ready.probed(health_messages.Probed("a/192.0.2.2", "up", "because", 1.0, 5))
    assert bed.weights[-1] == 5 * scale


async def test_one_that_is_added_ramps(tmp_path):
    """T24: a backend that is added while its service serves begins with a tenth of its weight."""
    bed = Bed(tmp_path / "f.toml")
    await bed.probed("up")
    service = bed.running.services["a"]
    new = service.backends[0].model_copy(update={"name": "new"})
    slots = bed.running.replace(service.model_copy(update={"backends": (*service.backends, new)}))
    bed.ready.relisted("a", [bed.running.slots[1].key_at(slot) for slot in slots])
    bed.ready.probed(health_messages.Probed("a/new", "up", "because", 1.0))
    assert bed.ready.weights_of("a") == {"192.0.2.1": 10, "192.0.2.2": 30, "new": 1}
