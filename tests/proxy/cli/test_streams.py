"""The standard streams of the command line: closed, full, or not there."""

import subprocess
import sys

import pytest

SENTENCES = {
    ">/dev/full": "steelyard: standard output: no space left on device\n",
    ">&-": "steelyard: standard output: it is closed\n",
    "<&- >&-": "steelyard: standard output: it is closed\n",
}


def shell(command, redirection):
    """Run the command line with what a shell does to its streams."""
    return subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m proxy {command} {redirection}'],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("redirection", SENTENCES)
@pytest.mark.parametrize("command", ["--help", "--version", "check examples/minimal.toml", "demo --pair --help"])
def test_an_output_that_cannot_be_written(command, redirection):
    """A command whose standard output is full or closed fails with 1 and one plain sentence: it is no bug of ours."""
    done = shell(command, redirection)
    assert (done.returncode, done.stderr) == (1, SENTENCES[redirection])


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("command", "code"),
    [("nonsense", 64), ("status -s /nowhere", 3), ("check /nowhere", 6)],
    ids=["usage", "no", "file"],
)
def test_an_error_that_cannot_be_told(command, code, redirection):
    """Where standard error takes nothing the exit code is the one that it would have been."""
    assert shell(command, redirection).returncode == code


def test_no_socket_takes_the_place_of_a_closed_stream():
    """A closed standard stream is occupied before anything is opened: what is written there must not reach a socket."""
    code = "import os\nfrom proxy.cli.streams import prepare\nprepare()\nos._exit(os.open('/dev/null', os.O_RDONLY))"
    done = subprocess.run(["/bin/sh", "-c", f'"{sys.executable}" -c "{code}" <&- >&- 2>&-'], check=False, timeout=60)
    assert done.returncode > 2
