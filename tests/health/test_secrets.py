"""Passwords: read, bounded, handed over, never shown."""

import os
from pathlib import Path

import pytest

from health.probes import make
from health.probes.base import OurFault
from health.secrets import LARGEST, FromDisk, NoSecret, Secrets
from health.spec import ImapProbe, TcpProbe


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret", "secret"),
        (b" se cret \n\n", " se cret \n"),
    ],
)
def test_one_line_end_is_cut_off(tmp_path: Path, written: bytes, read: str) -> None:
    """A password is the file's text without the line's end that editors put behind it."""
    path = tmp_path / "password"
    path.write_bytes(written)
    assert FromDisk().get(str(path)) == read


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """H13, S6: a password file that is missing, no file, empty, too large or no text is told by its name, without a byte of it."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (LARGEST + 1))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "blank").write_bytes(b"\r\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfes3cret")
    for name, words in (
        ("missing", "is missing"), ("directory", "is not a file"), ("pipe", "is not a file"), ("large", "is larger than 4096 bytes"),
        ("binary", "is not UTF-8"), ("empty", "is empty"), ("blank", "is empty"),
    ):  # fmt: skip
        with pytest.raises(NoSecret) as caught:
            FromDisk().get(str(tmp_path / name))
        assert str(caught.value) == f"password file {tmp_path / name} {words}"
        assert caught.value.__context__ is None or "s3cret" not in repr(caught.value.__context__)


def test_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password may be a credential of the service manager; if there is none, the reason says what to look at."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "mysql").write_text("s3cret\n")
    assert FromDisk().get("credential:mysql") == "s3cret"
    with pytest.raises(NoSecret) as caught:
        FromDisk().get("credential:imap")
    assert str(caught.value) == "password file credential:imap is missing: the unit's LoadCredential= does not name it"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(NoSecret, match=r"^password file credential:mysql cannot be read: .* no credentials"):
        FromDisk().get("credential:mysql")


def test_handed_over() -> None:
    """S6: what was handed over is found by its path, tells what changed, and shows nothing of itself."""
    held = Secrets()
    assert held.update({"/a": b"one\n", "/b": "password file /b is missing"}) == {"/a", "/b"}
    assert held.get("/a") == "one"
    with pytest.raises(NoSecret, match="password file /b is missing"):
        held.get("/b")
    with pytest.raises(NoSecret, match="password file /c was not passed to the health process"):
        held.get("/c")
    assert held.update({"/a": b"two\n", "/b": "password file /b is missing"}) == {"/a"}
    assert held.update({"/a": b"two\n"}) == {"/b"}
    assert repr(held) == "<Secrets 1>"


def test_a_probe_asks_each_time(tmp_path: Path) -> None:
    """A probe has the password of the moment: a changed file counts from its next run on."""
    held = Secrets()
    probe = make(ImapProbe(user="probe", password_file="/x"), held)
    with pytest.raises(OurFault, match="password file /x was not passed to the health process"):
        probe.secret()
    held.update({"/x": b"one"})
    assert probe.secret() == "one"
    held.update({"/x": b"two"})
    assert probe.secret() == "two"
    assert make(TcpProbe(), held).secret() == ""
