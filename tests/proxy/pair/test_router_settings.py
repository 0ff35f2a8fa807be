"""Tests of what the vrrp process is told, and of its rows in the status."""

import json

import pytest

from proxy.config.loader import load
from proxy.pair import router_rows, router_settings
from proxy.status.schema import RouterStatus
from vrrp.settings import AuthSettings, NotifySettings, Settings

FILE = """
nodes = ["lb1", "lb2"]
[node]
name = "lb1"
[vrrp.inside]
interface = "eth1"
vrid = 52
addresses = ["10.0.0.10/24", "fd00:10::10/64"]
priority = {{ lb1 = 150, lb2 = 100 }}
members = {{ lb1 = ["10.0.0.2", "fd00:10::2"], lb2 = ["10.0.0.3", "fd00:10::3"] }}
advert-interval = "200ms"
track = [{{ interface = "eth0", penalty = 20 }}, {{ service = "*", penalty = 60 }}]
announce = {{ count = 3 }}
auth = {{ mode = "permissive", key-files = ["7:{key}"] }}
[vrrp.outside]
interface = "eth0"
vrid = 51
addresses = ["198.51.100.10/24"]
[sync-group.both]
vrrp = ["inside", "outside"]
[notify.pager]
to = ["active", "stop"]
command = ["/usr/local/bin/page", "--now"]
[service.web]
listen = ["inside:80/tcp"]
backends = ["10.0.0.61"]
"""


@pytest.fixture
def config(tmp_path):
    key = tmp_path / "key"
    key.write_text("0123456789abcdef-0123456789abcdef-secret\n")
    key.chmod(0o600)
    file = tmp_path / "steelyard.toml"
    file.write_text(FILE.format(key=key))
    return load(file)


def test_settings_travel(config):
    """Routers, groups and whom to notify come out of JSON as the vrrp process reads them, for this node."""
    found = Settings.from_tree(json.loads(json.dumps(router_settings.prepare(config).tree)))
    inside, outside = found.routers
    assert (inside.priority, inside.peers, inside.sources) == (
        150,
        ("10.0.0.3", "fd00:10::3"),
        ("10.0.0.2", "fd00:10::2"),
    )
    assert (inside.advert_interval, inside.announce_count, inside.auth) == (
        0.2, 3, AuthSettings("permissive", ((7, b"0123456789abcdef-0123456789abcdef-secret"),)),
    )  # fmt: skip
    assert outside.auth == AuthSettings()
    assert [(one.interface, one.penalty) for one in inside.track] == [("eth0", 20)]
    assert (outside.peers, outside.sources, outside.awaits_verdicts) == (None, (), True)
    assert (inside.owned, outside.owned) == (False, False)
    assert found.sync_groups == {"both": ("inside", "outside")}
    assert found.notify == (
        NotifySettings(to=("active", "init"), command=("/usr/local/bin/page", "--now"), name="pager"),
    )


@pytest.mark.parametrize(
    ("text", "why"), [("short", "5 octets: it must have 32 to 64"), (None, "is missing"), ("x" * 5000, "larger than")]
)
def test_a_key_file_that_is_none(config, tmp_path, text, why):
    """S6: a key file that cannot be used is named, and what it holds is not shown."""
    key = tmp_path / "key"
    key.unlink()
    if text is not None:
        key.write_text(text)
    with pytest.raises(router_settings.KeyFileError, match=why) as caught:
        router_settings.settings(config)
    assert str(key) in str(caught.value)
    assert text is None or text not in str(caught.value)


def test_an_advert_of_each_router_is_built(config):
    """R2: settings that no advert can carry are refused with the router's name before anything has changed."""
    inside, outside = config.vrrp
    many = tuple(f"203.0.{n // 250}.{n % 250}/32" for n in range(256))
    other = outside.model_copy(update={"addresses": many})
    bad = config.model_copy(update={"vrrp": (inside, other)})
    with pytest.raises(router_settings.RouterError, match=r"^vrrp outside: no advert can be built.*addresses"):
        router_settings.prepare(bad)
    assert "secret" not in repr(router_settings.prepare(config))


def test_rows_have_wall_clock_times_and_names_of_nodes(config):
    """A row tells when by the wall clock, how long ago the peer spoke, and which node it is."""
    told = {
        "name": "inside",
        "state": "backup",
        "priority": 150,
        "effective_priority": 90,
        "addresses": ["10.0.0.10/24"],
        "standby": True,
        "priority_parts": [["configured", 150], ["service web", -60]],
        "since": 90.0,
        "peer": {"address": "10.0.0.3", "priority": 100, "heard_at": 99.5},
        "last_change": {"at": 90.0, "from": "active", "to": "backup", "reason": "because"},
    }
    counters = {
        "inside/4": {"ttl": 1}, "inside/6": {"ttl": 2}, "outside/4": {"ttl": 9}, "eth1/4": {"too_long": 4}, "kernel": {"dumps": 1},
    }  # fmt: skip
    standby = {"inside": (999_980.0, "standby requested by uid 0")}
    (row,) = router_rows.rows(config, [told], counters, standby, 100.0, 1_000_000.0)
    assert row["counters"] == {"ttl": 3, "socket_too_long": 4, "kernel_dumps": 1}
    assert (row["standby_since"], row["standby_reason"]) == ("1970-01-12T13:46:20.000Z", "standby requested by uid 0")
    assert row["priority_parts"] == {"configured": 150, "service web": -60}
    assert row["since"] == row["last_change"]["at"] == "1970-01-12T13:46:30.000Z"
    assert row["peer"] == {"node": "lb2", "address": "10.0.0.3", "priority": 100, "last_advert_s": 0.5}
    bare = {**told, "peer": None, "last_change": None, "standby": False}
    (alone,) = router_rows.rows(config, [bare], {}, {}, 100.0, 1_000_000.0)
    assert (alone["peer"], alone["last_change"], alone["standby_since"], alone["counters"]) == (None, None, None, {})
    assert alone.keys() == RouterStatus.__annotations__.keys()


def test_a_process_that_says_nothing(config):
    """While the vrrp process says nothing every router is shown all the same, in the state it was known in last."""
    rows = router_rows.unheard(config, {"inside": "active"}, {"outside": (None, "since before the start")})
    assert [row["standby_reason"] for row in rows] == [None, "since before the start"]
    assert all(row.keys() == RouterStatus.__annotations__.keys() for row in rows)
    assert [(row["name"], row["state"], row["addresses"]) for row in rows] == [
        ("inside", "active", ["10.0.0.10/24", "fd00:10::10/64"]),
        ("outside", "init", ["198.51.100.10/24"]),
    ]
