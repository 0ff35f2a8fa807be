"""The steps from one configuration to another."""

import textwrap

import pytest

from proxy.config.changes import NEEDS_REEXEC, adapted, listeners, reusing, steps
from proxy.config.loader import load

BASE = """
[node]
name = "n"
workers = 2

[control]
group = "adm"

[log]
level = "info"

[service.web]
listen = ["127.0.0.1:8080/tcp", "127.0.0.1:8081/tcp"]
backends = ["192.0.2.1", "192.0.2.2"]
probe = { type = "tcp", port = 80, interval = "2s" }

[service.dns]
listen = ["127.0.0.1:53/udp"]
protocol = "dns"
backends = ["192.0.2.1"]

[vrrp.one]
interface = "eth0"
vrid = 7
addresses = ["192.0.2.9"]
members = { n = "192.0.2.7", m = "192.0.2.8" }
track = [{ probe = "gateway", penalty = 10 }]

[probe.gateway]
type = "tcp"
address = "192.0.2.254"
port = 80

[sync-group.all]
vrrp = ["one"]

[notify.tell]
on = ["one"]
fifo = "/run/fifo"
"""


@pytest.fixture
def read(tmp_path):
    """Return the configuration of BASE with replacements."""

    def make(*pairs):
        text = BASE
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "f.toml"
        path.write_text(textwrap.dedent(text))
        return load(path, need_files=False)

    return make


def test_equal_files_have_no_steps(read):
    """Two configurations that differ in comments and order of keys alone have no steps."""
    assert steps(read(), read(("[log]\n", "# a comment\n[log]\n"))) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('level = "info"', 'level = "debug"', ['[log]: level "info" -> "debug"']),
        ('group = "adm"', "", ['[control]: group "adm" -> nothing']),
        ("workers = 2", 'workers = 2\nstop-timeout = "1m"', ['[node]: stop-timeout "30s" -> "1m"']),
        ("workers = 2", "workers = 3", ["[node]: workers 2 -> 3 (needs reexec)"]),
        ('protocol = "dns"', 'protocol = "dns"\ndns.give-up = "2s"', ['service dns: dns.give-up "4500ms" -> "2s"']),
        (', "127.0.0.1:8081/tcp"', "", ["listener 127.0.0.1:8081/tcp: removed, what is queued there is served"]),
        ("127.0.0.1:53/udp", "127.0.0.1:54/udp", [
            "listener 127.0.0.1:54/udp: added",
            "listener 127.0.0.1:53/udp: removed, what is queued there is served",
            "backend dns/192.0.2.1: probe.port 53 -> 54",
        ]),
        (', "192.0.2.2"', ', "192.0.2.3"', ["backend web/192.0.2.2: removed", "backend web/192.0.2.3: added"]),
        ('interval = "2s"', 'interval = "3s"', [
            'backend web/192.0.2.1: probe.interval "2s" -> "3s"',
            'backend web/192.0.2.2: probe.interval "2s" -> "3s"',
        ]),
        ("port = 80\n", "port = 81\n", ["probe gateway: port 80 -> 81"]),
        ("vrid = 7", "vrid = 7\npriority = 120", ["router one: priority 100 -> 120"]),
        ('addresses = ["192.0.2.9"]', 'addresses = ["192.0.2.10"]', [
            'router one: addresses ["192.0.2.9/32"] -> ["192.0.2.10/32"]',
        ]),
        ("penalty = 10", "penalty = 20", ["router one: track.penalty 10 -> 20"]),
        ("[sync-group.all]", "[sync-group.both]", ["sync-group both: added", "sync-group all: removed"]),
        ('fifo = "/run/fifo"', 'fifo = "/run/pipe"', ['notify tell: fifo "/run/fifo" -> "/run/pipe"']),
    ],
)  # fmt: skip
def test_what_differs_is_named(read, old, new, expected):
    """Each setting that differs makes one step, which names it with its old and its new value."""
    assert [step.text for step in steps(read(), read((old, new)))] == expected


def test_a_renamed_service_keeps_its_listeners(read):
    """A listener whose service has another name is moved: it is the same place."""
    found = steps(read(), read(("[service.dns]", "[service.names]")))
    assert [(step.act, step.kind, step.name, step.service) for step in found] == [
        ("remove", "service", "dns", "dns"),
        ("add", "service", "names", "names"),
        ("move", "listener", "127.0.0.1:53/udp", "names"),
        ("add", "backend", "names/192.0.2.1", "names"),
    ]


def test_web_comes_changes_and_goes(read):
    """[web] has steps of its own: added, changed with its settings, removed."""
    without, table = read(), ("[log]", '[web]\nallow = ["192.0.2.0/24"]\n[log]')
    other = read((table[0], table[1].replace("192", "198")))
    assert [step.text for step in steps(without, read(table))] == ["[web]: added"]
    assert [step.text for step in steps(read(table), without)] == ["[web]: removed"]
    (changed,) = steps(read(table), other)
    assert changed.text.startswith("[web]: allow ")
    assert not changed.reexec


def test_what_operators_have_changed(read):
    """A backend that stays until its connections have ended is a removed one; an act that the file ends is a step."""
    key = ("web", "192.0.2.2")
    found = steps(read(), read(), retired=[key], ended=[(("dns", "192.0.2.1"), "the file has weight 5")])
    assert [(step.act, step.kind, step.name) for step in found] == [
        ("remove", "backend", "web/192.0.2.2"),
        ("end", "override", "dns/192.0.2.1"),
    ]
    assert found[0].text == "backend web/192.0.2.2: removed, its connections may finish until drain-timeout"
    assert found[1].text == "override dns/192.0.2.1: ended, the file has weight 5"


def test_what_needs_a_new_process_stays(read):
    """`adapted` leaves the settings that only a new process can have, takes all others, and keeps the places."""
    new = read(("workers = 2", 'workers = 5\nuser = "daemon"\nstate-dir = "/x"\nstop-timeout = "9s"'))
    old = read()
    config = adapted(old, new)
    assert [(step.name, step.reexec) for step in steps(old, new)] == [("node", True)] * 3 + [("node", False)]
    assert [step.text for step in steps(old, config)] == ['[node]: stop-timeout "30s" -> "9s"']
    assert config._tree is new._tree
    for table, key in NEEDS_REEXEC:
        field = key.replace("-", "_")
        assert getattr(getattr(config, table), field) == getattr(getattr(old, table), field)


def test_equal_parts_are_the_same_objects(read):
    """`reusing` puts equal services and equal backends of others into the new configuration, and changes no value."""
    old, new = read(), read((', "192.0.2.2"', ', "192.0.2.3"'))
    config = reusing(old, new)
    web, dns = config.services
    assert config == new
    assert config._tree is new._tree
    assert dns is old.services[1]
    assert web is not old.services[0]
    assert (web.backends[0] is old.services[0].backends[0], web.backends[1].name) == (True, "192.0.2.3")


def test_rows_are_json(read):
    """A step as JSON has its act, its kind, its name, each setting's old and new value, and its words."""
    (step,) = steps(read(), read(('protocol = "dns"', 'protocol = "dns"\nudp.idle-timeout = "never"')))
    assert step.row() == {
        "act": "change",
        "kind": "service",
        "name": "dns",
        "changes": [{"key": "udp.idle-timeout", "old": 120.0, "new": "never"}],
        "needs_reexec": False,
        "text": 'service dns: udp.idle-timeout "2m" -> "never"',
    }


def test_long_values_are_cut(read):
    """A value of more than 80 characters is cut in the words, and whole in the row."""
    many = ", ".join(f'"10.{number}.0.0/16"' for number in range(20))
    (step,) = steps(read(), read(('protocol = "dns"', f'protocol = "dns"\nallow = [{many}]')))
    assert step.text.endswith("...")
    assert len(step.text) < 130
    assert len(step.row()["changes"][0]["new"]) == 20


def test_listeners_by_place(read):
    """Each listener is known by its place, whichever service has it."""
    assert listeners(read().services) == {
        "127.0.0.1:8080/tcp": "web",
        "127.0.0.1:8081/tcp": "web",
        "127.0.0.1:53/udp": "dns",
    }
