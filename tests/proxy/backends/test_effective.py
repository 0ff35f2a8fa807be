"""What is in force: the file's configuration, what was changed of it, and the slots."""

import pytest

from proxy.backends.effective import Running, written
from proxy.config.loader import load
from proxy.stats.slots import Slots, SlotsFullError

FILE = """
[node]
name = "n"
[service.a]
listen = ["192.0.2.10:53/udp"]
backends = ["192.0.2.1", "192.0.2.2"]
probe = { type = "none" }
[service.b]
listen = ["192.0.2.10:54/udp"]
backends = ["192.0.2.1"]
probe = { type = "none" }
"""


@pytest.fixture
def running(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(FILE)
    return Running(load(path), Slots(2), Slots(4))


def with_backends(running, *names):
    """Service a with backends of these names."""
    service = running.services["a"]
    (first, *_) = service.backends
    return service.model_copy(update={"backends": tuple(first.model_copy(update={"name": name}) for name in names)})


def test_a_service_is_replaced(running):
    """R3: who stays keeps its slot, who is new has one that is told, who is gone has none; the file's word is kept."""
    assert running.replace(with_backends(running, "192.0.2.2", "x")) == [3]
    assert list(running.backends) == [("a", "192.0.2.2"), ("a", "x"), ("b", "192.0.2.1")]
    assert running.slots[1]["a", "192.0.2.2"] == 1
    assert [len(one.backends) for one in (running.config.services[0], running.file.services[0])] == [2, 2]
    assert running.file.services[0].backends[0].name == "192.0.2.1"
    assert running.services["b"] is running.config.services[1]


def test_no_room(running):
    """R3: a service for which there are too few slots is not replaced at all."""
    before = running.config
    with pytest.raises(SlotsFullError):
        running.replace(with_backends(running, "v", "w", "x", "y"))
    assert (running.config, len(running.backends)) == (before, 3)


def other(directory, *replacements):
    """Another file."""
    text = FILE
    for old, new in replacements:
        text = text.replace(old, new)
    path = directory / "g.toml"
    path.write_text(text)
    return load(path)


def test_another_file(running, tmp_path):
    """R3: what another file still has keeps its slots, what is new gets those that are told, and weights of others end."""
    running.weighed = {("a", "192.0.2.2"), ("b", "192.0.2.1")}
    new = other(tmp_path, ("service.b", "service.c"), ('"192.0.2.1", "192.0.2.2"', '"192.0.2.2", "192.0.2.3"'))
    services = [running.file.services[0], *new.services[1:]]
    assert running.replace_all(new, services) == ([1], [3])
    assert (running.file, list(running.services)) == (new, ["a", "c"])
    assert list(running.backends) == [("a", "192.0.2.1"), ("a", "192.0.2.2"), ("c", "192.0.2.1")]
    assert running.slots[1]["a", "192.0.2.2"] == 1
    assert running.weighed == {("a", "192.0.2.2")}
    assert running.config.services == tuple(services)
    assert list(running.scales) == ["a", "c"]


def test_no_room_for_another_file(running, tmp_path):
    """R3: another file for whose services or backends there are too few slots changes nothing, nor does asking."""
    before = (running.config, running.file, running.services, dict(running.backends))
    more = '"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"'
    many = other(tmp_path, ('"192.0.2.1", "192.0.2.2"', more))
    third = (
        '[service.c]\nlisten = ["192.0.2.10:55/udp"]\nbackends = ["192.0.2.1"]\nprobe = { type = "none" }\n[service.a]'
    )
    for new in (many, other(tmp_path, ("[service.a]", third))):
        for put in (running.room_for, lambda services, new=new: running.replace_all(new, services)):
            with pytest.raises(SlotsFullError):
                put(new.services)
    assert (running.config, running.file, running.services, running.backends) == before
    assert len(running.slots[0]) + len(running.slots[1]) == 5
    running.room_for(running.config.services)


def test_whose_slot_it_is(running):
    """A slot is told to be somebody's only as long as he has it, and of his service only."""
    assert running.key_at(0, 1) == ("a", "192.0.2.2")
    assert running.key_at(1, 1) is None
    assert running.key_at(0, 3) is None
    running.replace(with_backends(running, "192.0.2.1"))
    assert running.key_at(0, 1) is None


def test_it_is_written_as_events_have_it():
    """A backend is called by its service's name and its own."""
    assert written(("dns", "10.0.0.11")) == "dns/10.0.0.11"
