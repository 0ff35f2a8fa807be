"""What a new worker is given."""

import os
from dataclasses import replace

import pytest

from proxy.backends.effective import Running
from proxy.config.loader import load
from proxy.processes import codec
from proxy.processes.messages import worker as worker_messages
from proxy.relay.clients.store import Store
from proxy.relay.native.rates import Rates
from proxy.relay.plan import from_tree
from proxy.stats import sealed
from proxy.stats.layout import Layout
from proxy.stats.slots import Slots
from proxy.workers.provision import Handout, Remembered

FILE = """
[node]
name = "n"
workers = 1
[service.a]
listen = ["127.0.0.1:5353/tcp"]
backends = ["192.0.2.1"]
{keys}
"""


@pytest.fixture
def make(tmp_path):
    def made(keys=""):
        path = tmp_path / "f.toml"
        path.write_text(FILE.format(keys=keys))
        return Handout(Running(load(path), Slots(16), Slots(64)), Layout(16, 64), 20_000)

    return made


def plan(handout):
    """The plan in a worker's first message."""
    message = codec.decode(handout.setup())
    assert isinstance(message, worker_messages.Setup)
    return from_tree(message.plan)


def test_a_setup_is_encoded_once(make):
    """Each worker's first message is the same octets: a large configuration is not encoded anew at each death."""
    handout = make()
    assert handout.setup() is handout.setup()
    assert (plan(handout).generation, len(plan(handout).salt)) == (1, 32)


def test_what_has_changed_is_encoded_anew(make):
    """R3: a worker that starts after a change is told of it; another list of backends is another generation."""
    handout = make()
    first = handout.setup()
    handout.reweighed()
    assert handout.setup() is not first
    handout.changed()
    assert (plan(handout).generation, plan(handout).salt) == (2, from_tree(codec.decode(first).plan).salt)


def test_what_all_write(make):
    """Workers share the memory of templates and rates from the start, each by descriptors of its own."""
    handout = make()
    templates, rates = handout.shared()
    store = Store(templates)
    Rates(rates, b"secret").close()
    again = handout.shared()
    assert not {templates, rates} & set(again)
    handout.close()
    handout.close()
    store.close()
    for fd in (rates, *again):
        os.close(fd)


def test_workers_go_on_with_a_predecessors_memory(make, tmp_path):
    """R12: a successor's workers have the memory and the salt of the predecessor's, in the next generation."""
    before = make()
    for fd in before.shared():
        os.close(fd)
    given = before.remembered()
    running = Running(load(tmp_path / "f.toml"), Slots(16), Slots(64))
    handed = replace(given, store=os.dup(given.store), rates=os.dup(given.rates))
    after = Handout(running, Layout(16, 64), 20_000, handed)
    assert (plan(after).generation, plan(after).salt) == (2, plan(before).salt)
    for one, other in zip(before.shared(), after.shared(), strict=True):
        assert os.fstat(one).st_ino == os.fstat(other).st_ino
        os.close(one)
        os.close(other)
    before.close()
    after.close()


def test_memory_of_another_form_is_not_used(make, tmp_path):
    """R12: a predecessor's memory that has another form is closed, and new memory takes its place."""
    make()
    running = Running(load(tmp_path / "f.toml"), Slots(16), Slots(64))
    strange = [sealed.zeroed("strange", 4096) for _ in range(2)]
    after = Handout(running, Layout(16, 64), 20_000, Remembered(1, "ab", *strange))
    fds = after.shared()
    assert all(os.fstat(fd).st_size > 4096 for fd in fds)
    for fd in fds:
        os.close(fd)
    after.close()
