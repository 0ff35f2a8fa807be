"""Tests of `steelyard standby`, `resume` and `is-active`; what they do is in the end-to-end tests of pairs."""

import json

import pytest

from proxy.control.wire import UNKNOWN_NAME, ControlError

ROWS = [{"name": "inside", "state": "backup", "standby": True}, {"name": "out", "state": "active", "standby": False}]


@pytest.fixture
def asked(daemon):
    """Let the control socket answer what a daemon with two routers would, and note what it was asked."""
    noted = []

    async def standby(request):
        noted.append(("standby", dict(request.arguments)))
        yield {"timeout": 1.0, "more": True}
        yield {"vrrp": ROWS, "changed": False, "more": False}

    def resume(request):
        noted.append(("resume", dict(request.arguments)))
        if request.arguments.get("vrrp") == "elsewhere":
            raise ControlError("there is no [vrrp.elsewhere]: only inside, out", UNKNOWN_NAME)
        return {"vrrp": ROWS, "changed": True}

    def is_active(request):
        return {"vrrp": ROWS, "active": False} if request.arguments.get("vrrp") != "elsewhere" else resume(request)

    daemon.server.register("standby", standby, mutates=True)
    daemon.server.register("resume", resume, mutates=True)
    daemon.server.register("is-active", is_active, mutates=False)
    return noted


def test_standby_says_what_is(steelyard, daemon, asked):
    """Each router has a line with its state, then a word says whether anything changed."""
    done = steelyard("standby", "--drain", "1m30s", "inside", "-s", daemon.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "inside  backup, in standby\nout     active\nnothing changed\n"
    assert asked == [("standby", {"command": "standby", "drain": 90.0, "vrrp": "inside"})]


def test_is_active_is_an_exit_code(steelyard, daemon, asked):
    """An address that is elsewhere exits with 1, a daemon that is not there with 3."""
    assert steelyard("is-active", "-s", daemon.path).returncode == 1
    daemon.stop()
    assert steelyard("is-active", "-s", daemon.path).returncode == 3


def test_as_json(steelyard, daemon, asked):
    """JSON has the answer and nothing of the wire's own."""
    done = steelyard("resume", "--json", "-s", daemon.path)
    assert json.loads(done.stdout) == {"vrrp": ROWS, "changed": True}


@pytest.mark.parametrize("drain", ["5", "never", "soon"])
def test_wrong_durations(steelyard, daemon, asked, drain):
    """A drain that is no finite duration is wrong usage, and nothing is asked."""
    done = steelyard("standby", "--drain", drain, "-s", daemon.path)
    assert (done.returncode, asked) == (64, [])


@pytest.mark.parametrize("command", ["is-active", "resume"])
def test_a_name_that_there_is_not(steelyard, daemon, asked, command):
    """A router that there is not is wrong usage, in the daemon's words, and is never taken for the answer of `is-active`."""
    done = steelyard(command, "elsewhere", "-s", daemon.path)
    assert (done.returncode, done.stderr) == (64, "steelyard: there is no [vrrp.elsewhere]: only inside, out\n")
