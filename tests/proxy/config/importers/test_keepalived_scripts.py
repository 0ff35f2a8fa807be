"""keepalived's scripts: tracked ones as probes, notify scripts as notifications."""

import pytest

from tests.proxy.config.importers.bed import only
from tests.proxy.config.importers.test_keepalived_routers import router

SCRIPT = "vrrp_script chk {\nscript %s\ninterval 5\ntimeout 2\nrise 2\nfall 4\nweight -30\n}\n"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ('"/bin/check a"', {"type": "script", "command": ["/bin/check", "a"]}),
        ('"killall -0 haproxy"', {"type": "script", "command": ["/usr/bin/pgrep", "-x", "haproxy"]}),
        ('"</dev/tcp/127.0.0.1/80"', {"type": "tcp", "address": "127.0.0.1", "port": 80}),
        ('"/bin/ping -c 1 -W 2 10.0.0.1 > /dev/null 2>&1"', {"type": "ping", "address": "10.0.0.1"}),
        ('"ping -c1 10.0.0.1"', {"type": "ping", "address": "10.0.0.1"}),
        ('"curl -f http://x"', {"type": "script", "command": ["/bin/sh", "-c", "curl -f http://x"]}),
    ],
)
def test_scripts_are_probes(script, found):
    """A vrrp_script is a named probe with its timers, tracked with its weight as penalty."""
    made = router("track_script {\nchk\n}", SCRIPT % script)
    timers = {"interval": "5s", "down-interval": "5s", "timeout": "2s", "rise": 2, "fall": 4}
    assert made.tables["probe"]["chk"] == {**found, **timers}
    assert made.tables["vrrp"]["VI_1"]["track"] == [{"probe": "chk", "penalty": 30}]


def test_scripts_that_run_too_long():
    """A script's timeout is at most its interval, with a note; without one it is the interval."""
    text = "vrrp_script chk {\nscript /bin/true\ninterval 1\ntimeout 10\n}\n"
    found = router("track_script {\nchk weight 2\n}", text)
    assert found.tables["probe"]["chk"]["timeout"] == "1s"
    assert "at most its interval" in found.note("timeout 10")
    assert found.tables["vrrp"]["VI_1"]["priority"] == 102


@pytest.mark.parametrize(
    ("word", "to"),
    [
        ("notify", None),
        ("notify_master", ["active"]),
        ("notify_backup", ["backup"]),
        ("notify_fault", ["fault"]),
        ("notify_stop", ["stop"]),
    ],
)
def test_notify_scripts(word, to):
    """A notify script is a notification of the router's state, with a warning that it runs without privileges."""
    found = router(f'{word} "/bin/true a" root')
    told = only(found.tables["notify"])
    assert (told.get("to"), told["on"], told["command"]) == (to, ["VI_1"], ["/bin/true", "a"])
    assert "without privileges" in found.note(word)
