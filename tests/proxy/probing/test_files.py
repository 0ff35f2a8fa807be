"""The files of probes, read by the master."""

import base64
import os
from pathlib import Path

import pytest

from health.secrets import AUTHORITIES, PASSWORD
from proxy.config import load
from proxy.probing.files import ProbeFiles, named
from tests.health.databases import Authority

AGO = 1_000_000_000


def age(path: Path) -> None:
    """Let a file look as if nobody had touched it for long, but for its ctime."""
    os.utime(path, (AGO, AGO))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "password"
    found.write_text("one\n")
    return found


def test_read_and_read_again(path: Path) -> None:
    """S6: a password file is read again when it is written, replaced, or given an old date; else it is not a change."""
    held = ProbeFiles({str(path): PASSWORD})
    assert held.rows() == {str(path): [base64.b64encode(b"one\n").decode(), ""]}
    assert held.look() == {}
    path.write_text("two\n")
    age(path)
    assert held.look() == {str(path): ""}
    assert held.look() == {}
    other = path.with_name("other")
    other.write_text("six\n")
    age(other)
    other.rename(path)
    assert held.look() == {str(path): ""}
    assert base64.b64decode(held.rows()[str(path)][0]) == b"six\n"


def test_what_cannot_be_read(path: Path) -> None:
    """H13: a file that goes away is told once in words, which are handed on in place of a password, and so is its return."""
    held = ProbeFiles({str(path): PASSWORD})
    path.unlink()
    words = f"password file {path} is missing"
    assert held.look() == {str(path): words}
    assert (held.faults(), held.rows()) == ([words], {str(path): ["", words]})
    assert held.look() == {}
    path.write_text("back")
    assert held.look() == {str(path): ""}
    assert held.faults() == []


def test_a_credential_is_read_and_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential of the service manager is handed on under its name, and read again when it changes."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    held = ProbeFiles({"credential:password": PASSWORD})
    assert held.rows() == {"credential:password": [base64.b64encode(b"one\n").decode(), ""]}
    path.write_text("two\n")
    assert held.look() == {"credential:password": ""}
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    (words,) = held.look().values()
    assert words.startswith("password file credential:password cannot be read: ")


def test_nothing_is_shown(path: Path) -> None:
    """S6: what it holds is not in its `repr`."""
    path.write_text("s3cret")
    assert "s3cret" not in repr(ProbeFiles({str(path): PASSWORD}))


def test_named(tmp_path: Path) -> None:
    """The files are those that probes name, of backends and of routers, each once."""
    for name in ("mysql.pw", "imap.pw", "pop3.pw"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    path = tmp_path / "steelyard.toml"
    authority = Authority(tmp_path)
    path.write_text(
        f'[service.a]\nlisten = ["127.0.0.1:1/tcp"]\nbackends = ["127.0.0.2", "127.0.0.3"]\nprobe = [\n'
        f'  {{ type = "mysql", user = "p", password-file = "{tmp_path}/mysql.pw" }},\n'
        f'  {{ type = "imap", user = "p", password-file = "{tmp_path}/imap.pw" }}, {{ type = "tcp", tls = "implicit", tls-ca-file = "{authority.path}" }},\n]\n'
        f'[probe.box]\ntype = "pop3"\naddress = "192.0.2.1"\nport = 110\nuser = "p"\npassword-file = "{tmp_path}/pop3.pw"\n'
        '[vrrp.v]\ninterface = "eth0"\nvrid = 1\naddresses = ["192.0.2.9"]\ntrack = [{ probe = "box", penalty = 9 }]\n'
    )
    assert named(load(path)) == {
        f"{tmp_path}/ca.pem": AUTHORITIES, **{f"{tmp_path}/{name}.pw": PASSWORD for name in ("imap", "mysql", "pop3")}
    }  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_others_could_put_there_is_not_handed_on(path: Path) -> None:
    """S7: as root, a file that comes into another user's hands is no longer read: a link there would hand out any file."""
    held = ProbeFiles({str(path): PASSWORD})
    os.chown(path, 65534, 0)
    (words,) = held.look().values()
    assert words.startswith(f"password file {path} is not read: {path} belongs to another user (uid 65534)")
    assert held.rows() == {str(path): ["", words]}
    os.chown(path, 0, 0)
    assert held.look() == {str(path): ""}
