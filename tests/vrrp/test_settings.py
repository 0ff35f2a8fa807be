"""Settings that come as JSON."""

import json
from dataclasses import asdict

import pytest

from vrrp.settings import NotifySettings, RouterSettings, Settings, Track

TREE = {
    "routers": [
        {
            "name": "outside",
            "interface": "eth0",
            "vrid": 51,
            "addresses": ["198.51.100.10/24", "2001:db8::10/64"],
            "track": [{"interface": "eth1", "penalty": 60}, {"interface": "eth2"}],
            "auth_keys": ["00ff"],
        }
    ],
    "sync_groups": {"mail": ["outside"]},
    "notify": [{"command": ["/bin/true", "x"], "to": ["active"]}],
}


def test_read_from_json():
    """What JSON carries becomes frozen values: tuples for lists, octets for keys."""
    settings = Settings.from_tree(json.loads(json.dumps(TREE)))
    (router,) = settings.routers
    assert router.track == (Track("eth1", 60), Track("eth2"))
    assert router.auth_keys == (b"\x00\xff",)
    assert router.of_family(4) == ("198.51.100.10/24",)
    assert router.of_family(6) == ("2001:db8::10/64",)
    assert settings.notify == (NotifySettings(to=("active",), command=("/bin/true", "x")),)
    assert settings.sync_groups == {"mail": ("outside",)}


def test_a_plain_tree_comes_back():
    """The tree of a router's own fields is read back equal."""
    router = RouterSettings("outside", "eth0", 51, ("192.0.2.1/24",), peers=("192.0.2.3",))
    tree = json.loads(json.dumps({"routers": [asdict(router)]}))
    assert Settings.from_tree(tree).routers == (router,)


def test_unknown_keys_are_refused():
    """A misspelt key is an error that names it."""
    tree = {"routers": [TREE["routers"][0] | {"prioritty": 1}]}
    with pytest.raises(ValueError, match="prioritty"):
        Settings.from_tree(tree)


def test_keys_are_not_shown():
    """S6: settings that are logged do not show the keys that sign adverts."""
    made = RouterSettings("outside", "eth0", 51, ("192.0.2.10/24",), auth_keys=(b"a-key-of-some-length",))
    assert "a-key-of" not in repr(made)
