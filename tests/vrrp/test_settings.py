"""Settings that come as JSON."""

import json
from dataclasses import asdict

import pytest

from vrrp.settings import AuthSettings, NotifySettings, RouterSettings, Settings, Track, former

TREE = {
    "routers": [
        {
            "name": "outside",
            "interface": "eth0",
            "vrid": 51,
            "addresses": ["198.51.100.10/24", "2001:db8::10/64"],
            "track": [{"interface": "eth1", "penalty": 60}, {"interface": "eth2"}],
            "auth": {"mode": "permissive", "keys": [[7, "00ff"]]},
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
    assert router.auth == AuthSettings("permissive", ((7, b"\x00\xff"),))
    assert router.of_family(4) == ("198.51.100.10/24",)
    assert router.of_family(6) == ("2001:db8::10/64",)
    assert settings.notify == (NotifySettings(to=("active",), command=("/bin/true", "x")),)
    assert settings.sync_groups == {"mail": ("outside",)}


def test_a_plain_tree_comes_back():
    """The tree of a router's own fields is read back equal."""
    auth = AuthSettings("enforce", ((1, bytes(32)), (2, bytes(64))))
    router = RouterSettings("outside", "eth0", 51, ("192.0.2.1/24",), peers=("192.0.2.3",), auth=auth)
    tree = json.loads(json.dumps({"routers": [asdict(router) | {"auth": auth.to_tree()}]}))
    assert Settings.from_tree(tree).routers == (router,)


@pytest.mark.parametrize("auth", [{"mode": "enforce", "keys": []}, {"mode": "force", "keys": [[1, "00"]]}])
def test_a_mode_wants_keys(auth):
    """V21: a mode that nobody knows, or one without keys, is refused rather than taken for `off`."""
    with pytest.raises(ValueError, match="mode"):
        Settings.from_tree({"routers": [TREE["routers"][0] | {"auth": auth}]})


def test_unknown_keys_are_refused():
    """A misspelt key is an error that names it."""
    tree = {"routers": [TREE["routers"][0] | {"prioritty": 1}]}
    with pytest.raises(ValueError, match="prioritty"):
        Settings.from_tree(tree)


def test_keys_are_not_shown():
    """S6: settings that are logged do not show the keys that sign adverts."""
    made = RouterSettings(
        "outside", "eth0", 51, ("192.0.2.10/24",), auth=AuthSettings("enforce", ((1, b"a-key-of-some-length"),))
    )
    assert "a-key-of" not in repr(made)


def routers(*made):
    """Return settings with routers of (name, interface, VRID, addresses)."""
    return Settings(tuple(RouterSettings(*one) for one in made), {})


def test_a_router_is_known_by_its_keys():
    """A router stays under another name if one of its keys does, and another interface or VRID makes another one."""
    four, six = ("192.0.2.1/24",), ("2001:db8::1/64",)
    old = routers(
        ("a", "eth0", 1, four), ("b", "eth0", 2, four), ("c", "eth1", 1, four + six), ("d", "eth0", 1, six),
    )  # fmt: skip
    new = routers(
        ("b", "eth0", 1, four), ("a", "eth0", 2, four), ("c", "eth1", 2, four), ("d", "eth0", 1, six), ("x", "eth1", 1, six),
    )  # fmt: skip
    assert former(old, new) == {"b": "a", "a": "b", "d": "d", "x": "c"}
