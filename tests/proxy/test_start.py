"""What must hold before a daemon starts."""

import os

import pytest

from proxy import start
from proxy.config.loader import load
from proxy.host import privileges
from proxy.start import StartError, standing

FILE = """
[node]
name = "n"
workers = 2
user = "nobody"
[control]
socket = "{dir}/control.sock"
[service.a]
listen = ["127.0.0.1:5353/udp"]
backends = ["192.0.2.1"]
probe = {{ type = "none" }}
"""
PLENTY = 1 << 20


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "steelyard.toml"
    path.write_text(FILE.format(dir=tmp_path))
    return load(path)


def as_root(monkeypatch, *, alone=False, ids=(65534, 65534), becomes=True):
    """Let the process be root, in a user namespace in which this holds."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "alone", lambda: alone)
    monkeypatch.setattr(privileges, "user_ids", lambda name: ids)
    monkeypatch.setattr(privileges, "can_become", lambda uid, gid: becomes)


def test_all_that_is_wrong_is_told_at_once(config, tmp_path):
    """A start that fails tells all its reasons, touches nothing, and needs no second try to learn the next one."""
    wrong = config.model_copy(update={"control": config.control.model_copy(update={"group": "no-such-group"})})
    with pytest.raises(StartError) as caught:
        standing(wrong, 100, lambda *_: None)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "no-such-group" in lines[0]
    assert "the limit of open files is 100" in lines[1]
    assert [one.name for one in tmp_path.iterdir()] == ["steelyard.toml"]


def test_children_of_root_are_somebody_else(config, monkeypatch):
    """S1: started as root, the children run as another user, who exists and is not root."""
    as_root(monkeypatch)
    found = standing(config, PLENTY, lambda *_: None)
    assert (found.identity.uid, found.identity.gid, found.group) == (65534, 65534, None)
    as_root(monkeypatch, ids=(0, 0))
    with pytest.raises(StartError, match="workers must not run as root"):
        standing(config, PLENTY, lambda *_: None)
    as_root(monkeypatch, becomes=False)
    with pytest.raises(StartError, match="does not exist in this user namespace"):
        standing(config, PLENTY, lambda *_: None)


def test_where_there_is_nobody_else(config, monkeypatch):
    """S1: in a user namespace of one user the children keep it, and that is told; who is not root keeps his own."""
    as_root(monkeypatch, alone=True)
    told = []
    found = standing(config, PLENTY, lambda *warning: told.append(warning))
    assert found.identity.uid is None
    assert told == [("security", "children keep our user: this user namespace has no other")]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert standing(config, PLENTY, lambda *_: None).identity.uid is None


def test_an_unknown_user(config, monkeypatch):
    """S1: a user that this host does not have is an error in words."""
    as_root(monkeypatch)

    def unknown(name):
        raise KeyError(name)

    monkeypatch.setattr(start.privileges, "user_ids", unknown)
    with pytest.raises(StartError, match='this host has no user "nobody"'):
        standing(config, PLENTY, lambda *_: None)
