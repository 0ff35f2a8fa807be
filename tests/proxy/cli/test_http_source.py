"""proxy.cli.http_source: a daemon that is asked over HTTP."""

import contextlib
import http.server
import json
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cli.http_source import HttpSource
from proxy.cli.source import source
from proxy.control.wire import ControlError, UnreachableError
from tests.proxy.cli.conftest import backend, whole_status

STATUS = {**whole_status(backend("10.0.0.11", "up")), "state": "running"}
EVENTS = [{"at": float(at), "kind": "verdict", "subject": "dns", "text": "x", "level": "info"} for at in range(5)]


class Server:
    """An HTTP server that answers each path with a status, a body and headers."""

    def __init__(self):
        self.pages = {
            "/status.json": (200, json.dumps(STATUS).encode()),
            "/events.json": (200, json.dumps({"events": EVENTS}).encode()),
        }
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                code, body = outer.pages.get(self.path.partition("?")[0], (404, b"no such page"))
                self.send_response(code)
                self.send_header("Location", "http://192.0.2.1/")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        """Stop it."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server():
    """Run a web server."""
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize("path", ["", "/", "/status.json"])
def test_a_daemon_over_http(server, path):
    """The status and the last events come from the server that the URL names."""
    asked = source(server.url + path)
    assert asked.status() == STATUS
    assert asked.events(2) == EVENTS[-2:]
    assert server.asked == ["/status.json", "/events.json?n=2"]
    assert not asked.writable


def test_over_http_nothing_is_changed(server):
    """A command is refused before anything is sent."""
    with pytest.raises(ControlError, match="drain needs the control socket"):
        HttpSource(server.url).stream("drain", service="dns")
    assert server.asked == []


@pytest.mark.parametrize(
    ("code", "body", "told"),
    [
        (404, b"", "answered 404"),
        (302, b"", "answered 302"),
        (403, b"{}", "answered 403"),
        (200, b"<html>", "is no JSON"),
        (200, b"[" * 100_000, "is no JSON"),
        (200, b"[]", "no status of Steelyard: it is no object"),
        (200, b'{"schema": 1}', "no status of Steelyard: it has no"),
    ],
)
def test_what_is_no_status(server, code, body, told):
    """Everything that is not a status ends in words that name the server; no redirection is followed."""
    server.pages["/status.json"] = code, body
    with pytest.raises(ControlError, match=told) as caught:
        HttpSource(server.url).status()
    assert str(caught.value).startswith(server.url)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_answer_is_words_at_worst(server, body, events):
    """Whatever bytes a server sends, the answer is a status, events, or a ControlError."""
    server.pages["/status.json"], server.pages["/events.json"] = (200, body), (200, events)
    asked = HttpSource(server.url)
    with pytest.raises(ControlError):
        asked.status()
    with contextlib.suppress(ControlError):
        assert isinstance(asked.events(5), list)


def test_events_that_are_none(server):
    """A document without events is said to be none; what is no event in the list is left out."""
    server.pages["/events.json"] = 200, b"[1]"
    with pytest.raises(ControlError, match="no events of Steelyard"):
        HttpSource(server.url).events(5)
    server.pages["/events.json"] = 200, b'{"events": [1, {"at": 2}, null]}'
    assert HttpSource(server.url).events(5) == [{"at": 2}]


def answering(data):
    """Run a server that sends these bytes to its first client, and then nothing."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            for part in data:
                connection.sendall(part)
            connection.settimeout(5)
            while connection.recv(4096):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    return listener, thread


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "no answer within"),
        ([b"HTTP/1.0 200 OK\r\n\r\n", b"{"], "no answer within"),
        ([b"SSH-2.0-OpenSSH\r\n"], "that is no web server"),
        ([b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 200], "that is no web server"),
    ],
)
def test_what_is_no_server(data, told):
    """A server that is silent, stops in the middle or speaks another protocol ends within the timeout, in words."""
    listener, thread = answering(data)
    with listener, pytest.raises(UnreachableError, match=told):
        HttpSource(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3).status()
    thread.join()


def test_an_answer_has_an_end(server, monkeypatch):
    """An answer that is larger than any status is cut off."""
    monkeypatch.setattr("proxy.cli.http_source.ANSWER_MAX", 1000)
    server.pages["/status.json"] = 200, b" " * 5000
    with pytest.raises(ControlError, match="does not end"):
        HttpSource(server.url).status()


def test_nobody_is_there():
    """A closed port is said to be one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError, match="connection refused"):
        HttpSource(f"http://127.0.0.1:{port}").status()


@pytest.mark.parametrize(
    "url", ["http://", "https://?x", "http://a/?q", "http://u@a/", "http://a/b c", "http://a:x/", "http://a:99999/"]
)
def test_what_is_no_url(url):
    """A URL that names no server, or more than one, is refused in words."""
    with pytest.raises(ValueError, match=r"."):
        source(url)


@given(st.text())
def test_any_url(text):
    """Whatever stands behind the scheme, it is a source or a ValueError."""
    with contextlib.suppress(ValueError):
        assert isinstance(source(f"http://{text}"), HttpSource)
