"""Files that a reload refuses: each says why and where, and changes nothing of the daemon that runs."""

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import steelyard
from tests.e2e.loopback import (
    Backend,
    Node,
    asker,
    connected,
    dns_service,
    echo_service,
    exchange,
    free_port,
    lift_loopback,
)
from tests.e2e.process import until

EXIT_FAILED, EXIT_CONFIG = 1, 2


@dataclass(frozen=True)
class Bad:
    """A way in which a file is bad: `text` makes it of the good one, or `spoil` changes the file itself.

    The answer says `words`, at the line of the file where `at` is, if it has one.
    """

    name: str
    words: str
    at: str | None = None
    text: Callable[[str], str] = str
    spoil: Callable[[Path], object] | None = None
    code: int = EXIT_CONFIG


def more(text: str) -> Callable[[str], str]:
    """Return an edit that appends a text to the file, at the end of its last service."""
    return lambda good: f"{good}\n{text}\n"


def service(name: str, rest: str, port: str = "1", comment: str = "") -> Callable[[str], str]:
    """Return an edit that appends a TCP service; a comment may be behind its listener."""
    return more(f'[service.{name}]\nlisten = ["127.0.0.1:{port}/tcp"]  {comment}\n{rest}')


def probed(probe: str) -> Callable[[str], str]:
    """Return an edit that appends a service with a probe."""
    return service("probed", f'backends = ["127.0.0.1:2"]\nprobe = {{ {probe} }}')


def as_folder(path: Path) -> None:
    """Put a directory in the file's place."""
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    """Put a named pipe in the file's place, which nobody writes to."""
    path.unlink()
    os.mkfifo(path)


MANY = ", ".join(f'"127.0.1.{number}:9"' for number in range(1, 101))
KEYS = 'auth = { mode = "enforce", key-files = ["%s"] }'
ROUTER = '[vrrp.outside]\ninterface = "steelyard-none"\nvrid = 7\naddresses = ["192.0.2.9"]\n'
PASSWORD = 'type = "imap", user = "u", password-file = "%s", tls = "starttls", tls-name = "imap.example.net"'
FILTER = 'type = "ldap", base = "dc=example,dc=net", filter = "(no filter)"'

BAD = [
    Bad("syntax", '"]" is missing', "[service.more", more("[service.more")),
    Bad("unknown-key", 'unknown key "schedular"', "schedular", more('schedular = "rr"')),
    Bad("unknown-section", 'unknown key "servise"', "[servise.x]", more('[servise.x]\nlisten = ["127.0.0.1:1/tcp"]')),
    Bad("section-twice", "is already defined", "[service.echo] # again", more("[service.echo] # again")),
    Bad("type", "quorum must be a whole number", "quorum =", more('quorum = "two"')),
    Bad("address", "127.0.0.256", "127.0.0.256", service("x", 'backends = ["127.0.0.256"]')),
    Bad("backend-twice", "is a backend of this service already", '"127.0.0.1:7"', service("x", 'backends = ["127.0.0.1:7", "127.0.0.1:7"]')),
    Bad("no-backends", "has no backends", "backends = []", service("x", "backends = []")),
    Bad("listener-twice", "is taken already", "# again", service("x", 'backends = ["127.0.0.1:7"]', "PORT", "# again")),
    Bad("loop", "its traffic would loop", '"127.0.0.1:1"]', service("x", 'backends = ["127.0.0.1:1"]')),
    Bad("node", '"n" is not in nodes', 'name = "n"', lambda good: f'nodes = ["x", "y"]\n{good}'),
    Bad("include", "cannot read /nonexistent/more.toml", "include =", lambda good: f'include = ["/nonexistent/more.toml"]\n{good}'),
    Bad("password-gone", "/nonexistent/pw: no such file", PASSWORD % "/nonexistent/pw", probed(PASSWORD % "/nonexistent/pw")),
    Bad("password-empty", "is empty", PASSWORD % "DIR/empty", probed(PASSWORD % "DIR/empty")),
    Bad("key-gone", "/nonexistent/key", "key-files", more(ROUTER + KEYS % "/nonexistent/key")),
    Bad("key-short", "DIR/short", "key-files", more(ROUTER + KEYS % "DIR/short")),
    Bad("web", "has no port", 'listen = "', more('[web]\nlisten = "127.0.0.1"')),
    Bad("probe", "this ldap probe cannot be created", FILTER, probed(FILTER)),
    Bad("group", "no group", "group =", lambda good: good.replace("[control]\n", '[control]\ngroup = "no-such-group-here"\n')),
    Bad("folder", "directory", spoil=as_folder),
    Bad("pipe", "not a file", spoil=as_pipe),
    Bad("gone", "no such file", spoil=Path.unlink),
    Bad("not-utf8", "not UTF-8", spoil=lambda path: path.write_bytes(path.read_bytes() + b"\xff\n")),
    Bad("empty", "nothing to run", spoil=lambda path: path.write_text("")),
    Bad("port-taken", "TAKEN", text=service("x", 'backends = ["127.0.0.1:7"]', "TAKEN"), code=EXIT_FAILED),
    Bad("table-full", "backends: 104 configured", text=service("x", f"backends = [{MANY}]"), code=EXIT_FAILED),
]  # fmt: skip
if os.geteuid() == 0:
    BAD.append(Bad("world-writable", "root must not obey it", spoil=lambda path: path.chmod(0o666)))


class Running:
    """A daemon with two services, clients that stay, and another process's port."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o755)
        self.port, self.dns_port = free_port(), free_port()
        self.backends = [Backend(), Backend()]
        services = dns_service(self.dns_port, self.backends) + echo_service(self.port, self.backends)
        self.node = Node(directory, services, workers=1)
        self.node.start()
        self.good = self.node.text
        (directory / "empty").write_text("")
        (directory / "short").write_text("aGk=\n")
        self.taken = free_port()
        self.holder = socket.create_server(("127.0.0.1", self.taken))
        self.client = socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.holder.close()
        self.node.end()
        for backend in self.backends:
            backend.close()

    def write(self, bad: Bad) -> str:
        """Make the file bad; return its text."""
        text = self.filled(bad.text(self.good))
        self.node.file.write_text(text)
        if bad.spoil is not None:
            bad.spoil(self.node.file)
        return text

    def filled(self, text: str) -> str:
        """Return a text with this daemon's directory, its port and the one that is taken in it."""
        values = {"DIR": self.node.dir, "PORT": self.port, "TAKEN": self.taken}
        return re.sub("|".join(values), lambda found: str(values[found[0]]), text)

    def restore(self) -> None:
        """Put the good file back."""
        if self.node.file.is_dir():
            self.node.file.rmdir()
        self.node.file.unlink(missing_ok=True)
        self.node.file.write_text(self.good)
        self.node.file.chmod(0o644)

    def reload(self, *options: str) -> tuple[int, str]:
        """Reload; the exit code, and what was said."""
        done = steelyard("reload", *options, "-s", self.node.socket)
        return done.returncode, done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        """Return what a refused file must not change; a status that follows a command is a new one."""
        status = self.node.status()
        services = [
            [one[key] for key in ("name", "protocol", "listen", "scheduler", "state", "quorum")]
            + [[backend[key] for key in ("name", "address", "state", "admin", "tier", "weight", "since")] for backend in one["backends"]]
            for one in status["services"]
        ]  # fmt: skip
        return {
            "generation": status["generation"],
            "sha256": status["config"]["sha256"],
            "services": services,
            "workers": [(one["pid"], one["alive"], one["restarts"]) for one in status["workers"]],
            "processes": sorted(self.node.family()),
            "effective": self.node.ask("config"),
        }

    def serves(self) -> None:
        """Assert that the connection that is open goes on, and that new clients are served."""
        assert exchange(self.client, b"still here") == b"still here"
        with connected(self.port) as sock:
            assert exchange(sock, b"new") == b"new"
        with asker(self.dns_port) as clients:
            clients.ask(3)
            assert clients.collect(4) == 0
            assert clients.bad == []

    def events(self) -> list[dict[str, Any]]:
        """Return the events of reloads so far."""
        return [event for event in self.node.ask("events")["events"] if event["kind"] == "reload"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Start the daemon."""
    lift_loopback()
    one = Running(tmp_path_factory.mktemp("n"))
    yield one
    one.close()


@pytest.fixture
def good(running):
    """Return the daemon with the good file in force."""
    running.restore()
    assert running.reload()[0] == 0
    return running


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_a_bad_file_changes_nothing(good, bad):
    """R1: a bad file is refused with its reason and place, in the answer, the status and the timeline, and changes nothing."""
    before, told = good.state(), len(good.events())
    text = good.write(bad)
    code, said = good.reload()
    assert code == bad.code, said
    words = good.filled(bad.words)
    assert words in said
    if bad.at is not None:
        line = 1 + next(at for at, one in enumerate(text.split("\n")) if good.filled(bad.at) in one)
        assert re.search(rf"^{re.escape(str(good.node.file))}:{line}:\d+: error: .*", said, re.MULTILINE), said
    config = good.node.status()["config"]
    assert config["valid"] is False
    assert words in config["error"]
    (event,) = good.events()[told:]
    assert (event["level"], event["error"]) == ("error", config["error"])
    assert good.state() == before
    good.serves()


def test_a_good_file_after_a_bad_one(good):
    """R1: the next good file is in force, and the status has no error any more."""
    good.write(BAD[0])
    assert good.reload()[0] == EXIT_CONFIG
    assert good.node.status()["config"]["valid"] is False
    good.node.file.write_text(good.good.replace("[service.echo]", '[service.echo]\nscheduler = "round-robin"'))
    assert good.reload()[0] == 0
    status = good.node.status()
    assert (status["config"]["valid"], status["config"]["error"]) == (True, None)
    assert next(one for one in status["services"] if one["name"] == "echo")["scheduler"] == "round-robin"
    good.serves()


def test_a_dry_run_changes_nothing(good):
    """R1: `reload --dry-run` says what a reload would do, or why it would be refused, and changes nothing."""
    before, told = good.state(), len(good.events())
    good.node.file.write_text(good.good.replace("[service.echo]", '[service.echo]\nscheduler = "round-robin"'))
    code, said = good.reload("--dry-run")
    assert code == 0
    assert "round-robin" in said
    assert good.state() == before
    good.write(BAD[1])
    code, said = good.reload("--dry-run")
    assert code == EXIT_CONFIG
    assert BAD[1].words in said
    assert good.state() == before
    assert good.node.status()["config"]["valid"] is True
    assert good.events()[told:] == []
    good.serves()


def test_bad_files_leave_nothing_behind(good):
    """R1: twenty refused reloads leave no descriptor in any process."""

    def files() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in sorted(good.node.family())]

    good.serves()
    before = files()
    for bad in [one for one in BAD if one.code == EXIT_FAILED] * 10:
        good.restore()
        good.write(bad)
        assert good.reload()[0] == EXIT_FAILED
    until(lambda: files() == before, 5, "the descriptors to be as many as before")
