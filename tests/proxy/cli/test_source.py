"""proxy.cli.source: the control socket or an http URL, asked in the same way."""

import subprocess
import sys

from proxy.cli.source import SocketSource, is_url, source


def test_a_daemon_on_its_socket(daemon):
    """The same comes over the control socket, which takes commands too."""
    daemon.add("verdict", "dns/10.0.0.11", "down: no answer")
    asked = source(str(daemon.path))
    assert asked.status()["node"] == "lb1"
    assert [event["text"] for event in asked.events(5)] == ["down: no answer"]
    assert asked.events(5, 2_000_000.0) == []
    assert asked.writable
    assert next(iter(asked.stream("config")))["ok"] is True


def test_what_is_a_url():
    """Only http and https make a URL; everything else is a path."""
    assert is_url("http://lb1:9600")
    assert is_url("https://lb1")
    assert not is_url("/run/steelyard/control.sock")
    assert not is_url(None)
    assert isinstance(source("/run/x"), SocketSource)


def test_no_command_pays_for_http():
    """The control socket is asked without importing what only a URL needs."""
    code = "import sys, proxy.cli.daemon, proxy.cli.source; sys.exit('http.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
