"""proxy.cli.top: `steelyard top`."""

import json
import subprocess
import sys

import pytest

from tests.proxy.cli.test_http_source import Server
from tests.terminal import Terminal


def test_a_table_without_a_terminal(daemon, steelyard, make):
    """Without a terminal a table is printed once, with the last events below, and no colour."""
    daemon.status = make.status(make.backend("10.0.0.11", "down", reason="no answer within 1 s"), state="down")
    daemon.add("verdict", "dns/10.0.0.11", "down: no answer within 1 s")
    done = steelyard("top", "-s", daemon.path)
    assert done.returncode == 0
    assert "▾ dns" in done.stdout
    assert "no answer within 1 s" in done.stdout
    assert "verdict" in done.stdout
    assert "\x1b" not in done.stdout
    assert steelyard("top", "--once", "-s", daemon.path).stdout.count("▾ dns") == 1


def test_the_width_of_the_table(daemon, steelyard):
    """COLUMNS says how wide the table is."""
    for columns in (60, 100, 200):
        lines = steelyard("top", "-s", daemon.path, COLUMNS=str(columns)).stdout.splitlines()
        assert max(map(len, lines)) <= columns


def test_a_terminal_without_unicode(daemon, steelyard):
    """Where the encoding has no circles and blocks, ASCII stands in their place."""
    done = steelyard("top", "-s", daemon.path, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert done.stdout.isascii()
    assert "+ up" in done.stdout


def test_json(daemon, steelyard):
    """--json prints the snapshot, the same document as that of `status --json`."""
    done = steelyard("top", "--json", "-s", daemon.path)
    assert json.loads(done.stdout) == json.loads(steelyard("status", "--json", "-s", daemon.path).stdout)


def test_over_http(steelyard):
    """A URL takes the place of the socket, in top as an argument or for -s, and in status before the names."""
    server = Server()
    try:
        assert "dns" in steelyard("top", server.url).stdout
        assert json.loads(steelyard("top", "--json", "-s", server.url).stdout)["node"] == "lb1"
        assert "10.0.0.11" in steelyard("status", server.url).stdout
        assert "quorum 1" in steelyard("status", server.url, "dns").stdout
        assert steelyard("status", server.url, "ftp").returncode == 64
        refused = steelyard("top", "--rw", server.url)
        assert (refused.returncode, "only read" in refused.stderr) == (64, True)
        assert steelyard("drain", "dns", "10.0.0.11", "-s", server.url).returncode == 64
        server.pages.pop("/events.json")
        assert "(http" in steelyard("top", server.url).stdout
    finally:
        server.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rw", "--once"], "--rw is for the screen"),
        (["--rw", "--json"], "--rw is for the screen"),
        (["--rw"], "--rw needs a terminal"),
        (["/run/steelyard/control.sock"], "is no http URL; a control socket is named by -s"),
        (["http://"], "is no URL of a server"),
        (["--often"], "No such option"),
    ],
)
def test_wrong_usage(daemon, steelyard, arguments, told):
    """What makes no sense ends with 64, in words."""
    done = steelyard("-s", daemon.path, "top", *arguments)
    assert done.returncode == 64
    assert told in done.stderr


def test_no_daemon(tmp_path, steelyard):
    """Without a daemon a table cannot be printed: that ends with 3."""
    done = steelyard("top", "--once", "-s", tmp_path / "nowhere")
    assert done.returncode == 3
    assert "is the daemon running?" in done.stderr


def test_help_and_start(steelyard):
    """The help says what it is, and no other command pays for Textual."""
    assert "`?` explains keys" in steelyard("top", "--help").stdout
    code = "import sys, proxy.cli.status, proxy.cli.daemon; sys.exit('textual' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_on_a_terminal(daemon):
    """On a terminal the dashboard runs until `q`, and ends with 0."""
    terminal = Terminal("top", "-s", daemon.path)
    terminal.until("10.0.0.11")
    terminal.press("?")
    terminal.until("fold all services")
    terminal.press("\x1b")
    terminal.until("10.0.0.11")
    terminal.press("q")
    assert terminal.end() == 0


def test_a_dumb_terminal(daemon):
    """On a terminal whose cursor cannot be moved a table is printed once."""
    terminal = Terminal("top", "-s", daemon.path, TERM="dumb")
    assert terminal.end() == 0
    assert "10.0.0.11" in terminal.seen
    assert "\x1b" not in terminal.seen


def test_no_colour(daemon):
    """With NO_COLOR nothing that is written has a hue: red, green and blue are equal in every colour."""
    terminal = Terminal("top", "-s", daemon.path, NO_COLOR="1", COLORTERM="truecolor")
    seen = terminal.until("10.0.0.11")
    terminal.press("q")
    assert terminal.end() == 0
    assert "8;2;" in seen
    for part in seen.split("8;2;")[1:]:
        red, green, blue = part.replace("m", ";").split(";")[:3]
        assert red == green == blue
