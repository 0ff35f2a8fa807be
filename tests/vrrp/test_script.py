"""One run of a script."""

import os
import time
from pathlib import Path

import pytest

from vrrp import script
from vrrp.script import NotRun


def allowed(path, _):
    return path


def make(tmp_path, text):
    """Make a script."""
    path = tmp_path / "script"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def lives(pid):
    """Tell whether a process is there, and not only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_run(tmp_path):
    """V20: a script gets its arguments, an environment of PATH alone, no input and a session of its own."""
    path = make(
        tmp_path,
        f'echo "$@" $(env | grep -c -v -E "^(PATH|PWD|_|SHLVL)=") $(ps -o sid= -p $$) $$ $(wc -c) > {tmp_path}/out',
    )
    script.run((path, "$HOME", "b c"), allowed, lambda _: time.monotonic() + 10)
    *words, others, session, pid, read = (tmp_path / "out").read_text().split()
    assert words == ["$HOME", "b", "c"]
    assert (others, session, read) == ("0", pid, "0")
    assert int(session) != os.getsid(0)


def test_a_limit_that_becomes_shorter(tmp_path):
    """V20: a script is ended with all that it started once its time is up, also if that was longer when it began."""
    path = make(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    limits = iter([60.0, 60.0])
    with pytest.raises(NotRun, match=r"took longer than \d s and was killed"):
        script.run((path,), allowed, lambda started: started + next(limits, 0.0))
    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 5
    while lives(child):
        assert time.monotonic() < end


@pytest.mark.parametrize(
    ("text", "why"),
    [("exit 3", "ended with 3"), ("kill -9 $$", "ended with -9"), (None, "was not run: .*No such file")],
)
def test_what_goes_wrong_is_said(tmp_path, text, why):
    """V20: a script that fails, is killed or is not there is told by its path and the reason."""
    path = str(tmp_path / "none") if text is None else make(tmp_path, text)
    with pytest.raises(NotRun, match=f"{path} {why}"):
        script.run((path,), allowed, lambda _: time.monotonic() + 10)
