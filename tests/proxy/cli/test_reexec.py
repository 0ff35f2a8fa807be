"""Tests of `steelyard reexec`; what it does is in the end-to-end tests."""

import json

import pytest

from proxy.control.wire import BAD_CONFIG, FAILED, ControlError


@pytest.fixture
def answers(daemon):
    """Let the control socket answer with two steps, and then as the list says: an error, or the outcome."""
    outcome = []

    async def reexec(request):
        yield {"step": "pid 7 starts", "more": True}
        yield {"step": "pid 7 is \x1b[31mready", "more": True}
        if outcome:
            raise outcome[0]
        yield {"pid": 7, "changed": True, "more": False}

    daemon.server.register("reexec", reexec, mutates=True)
    return outcome


def test_each_step_is_shown(steelyard, daemon, answers):
    """Each step is a line, without what a terminal would obey, and the new process is the last."""
    done = steelyard("reexec", "-s", daemon.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[::2] == ["pid 7 starts", "replaced by pid 7"]
    assert "\x1b" not in done.stdout


def test_json(steelyard, daemon, answers):
    """With --json the outcome is one object."""
    done = steelyard("reexec", "--json", "-s", daemon.path)
    assert json.loads(done.stdout) == {"pid": 7, "changed": True}


@pytest.mark.parametrize(("code", "status"), [(FAILED, 1), (BAD_CONFIG, 2)])
def test_a_failure_has_its_exit_code(steelyard, daemon, answers, code, status):
    """A reexec that fails says why and exits with 1, or with 2 if the file is wrong."""
    answers.append(ControlError("f.toml:3:1: error: no", code))
    done = steelyard("reexec", "-s", daemon.path)
    assert done.returncode == status
    assert "f.toml:3:1: error: no" in done.stderr
