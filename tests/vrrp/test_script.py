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
    [("exit 3", "ended with 3"), ("kill -9 $$", "was killed by signal 9"), (None, "was not run: .*No such file")],
)
def test_what_goes_wrong_is_said(tmp_path, text, why):
    """V20: a script that fails, is killed or is not there is told by its path and the reason."""
    path = str(tmp_path / "none") if text is None else make(tmp_path, text)
    with pytest.raises(NotRun, match=f"{path} {why}"):
        script.run((path,), allowed, lambda _: time.monotonic() + 10)


def test_what_it_reads(tmp_path):
    """A script reads what it is given, and then the end of its input."""
    given = b"a line\n" * 20_000
    script.run((make(tmp_path, f"cat > {tmp_path}/out"),), allowed, lambda _: time.monotonic() + 10, given)
    assert (tmp_path / "out").read_bytes() == given


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("echo one >&2; echo two >&2", "ended with 3: two"),
        ("printf 'a \\033[2J b\\r' >&2", "ended with 3: a ?[2J b"),
        ("head -c 3000 /dev/zero | tr '\\0' x >&2", f"ended with 3: {'x' * 200}..."),
        ("printf '\\377\\376' >&2", "ended with 3: \ufffd\ufffd"),
        ("echo gone > /dev/stderr", "ended with 3: gone"),
        ("true", "ended with 3"),
    ],
)
def test_the_last_line_of_its_errors(tmp_path, said, shown):
    """S3: the reason of a failure has the last line of standard error, bounded, and without control characters."""
    with pytest.raises(NotRun) as caught:
        script.run((make(tmp_path, f"{said}\nexit 3"),), allowed, lambda _: time.monotonic() + 10)
    assert str(caught.value) == f"{tmp_path}/script {shown}"


def test_errors_are_bounded(tmp_path, monkeypatch):
    """What a script writes to standard error takes bounded memory while it runs."""
    sizes = []
    truncate = os.ftruncate
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: (sizes.append(os.fstat(fd).st_size), truncate(fd, size)))
    began = time.monotonic()
    with pytest.raises(NotRun, match="took longer"):
        script.run((make(tmp_path, "head -c 3000000 /dev/zero >&2; sleep 60"),), allowed, lambda _: began + 1.5)
    assert sizes
    assert max(sizes) <= 3_000_000


def test_what_it_leaves_running_is_not_disturbed(tmp_path):
    """What a script leaves running may go on, and write errors without an end by SIGPIPE; no run waits for it."""
    path = make(tmp_path, f"(sleep 0.3; echo late >&2; echo on > {tmp_path}/on) &")
    began = time.monotonic()
    script.run((path,), allowed, lambda _: time.monotonic() + 10)
    assert time.monotonic() - began < 5
    while not (tmp_path / "on").exists():
        assert time.monotonic() - began < 10
        time.sleep(0.01)
