"""The files of this host that a configuration names: there, trusted, and what they should be."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.secrets import AUTHORITIES, LARGEST
from proxy.config import ConfigError
from tests.health.databases import Authority

MAIL = """[service.mail]
listen = ["10.0.0.10:143/tcp"]
backends = ["10.0.0.11"]
send-proxy = "v2"
probe = { type = "imap", tls = "starttls", tls-name = "mail.example.net", %s }
"""
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "imap.pw"
    path.write_text("a-secret")
    path.chmod(0o600)
    return path


@pytest.fixture
def about(said, secret):
    """Return a function that returns what is said of a probe with the password and other keys."""

    def about_keys(keys: str = "") -> list[str]:
        return said(MAIL % f'user = "probe", password-file = "{secret}"{keys}')

    return about_keys


def test_what_a_password_file_should_be(about, secret):
    """H8: a password file that is empty, too long or no file is an error at its key, which says what is wrong."""
    assert about() == []
    for content, words in ((b"", "is empty"), (b"x" * (LARGEST + 1000), f"is larger than {LARGEST} bytes")):
        secret.write_bytes(content)
        assert about() == [f"5:107 error: password file {secret} {words}"]
    secret.unlink()
    assert about() == [f"5:107 error: {secret}: no such file or directory on this host"]
    secret.mkdir()
    assert about() == [f"5:107 error: {secret} is not a file"]


def test_what_a_file_of_authorities_should_be(about, tmp_path):
    """H13: a tls-ca-file that holds no certificate is an error at its key; everybody may read it."""
    authority = Authority(tmp_path)
    keys = ', tls-ca-file = "{}"'
    assert about(keys.format(authority.path)) == []
    empty = tmp_path / "empty.pem"
    for content, words in (("", "is empty"), ("none\n", "holds no certificate in PEM form")):
        empty.write_text(content)
        (one,) = about(keys.format(empty))
        assert one.endswith(f"error: {AUTHORITIES.label} {empty} {words}")


@pytest.fixture
def credentials(tmp_path, monkeypatch) -> Iterator[Path]:
    """Return a directory of credentials as systemd makes it: only its owner may enter, and nobody write."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "imap").write_text("a-secret\n")
    (directory / "imap").chmod(0o440)
    directory.chmod(0o550)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    yield directory
    directory.chmod(0o700)


IMAP = MAIL % 'user = "probe", password-file = "credential:{}"'


def test_a_credential_of_the_service_manager(said, loaded, credentials, monkeypatch):
    """S7, R13: a credential is trusted with systemd's modes; where it is missing, `run` refuses and `check` warns at its key."""
    text = IMAP.replace("{}", "imap")
    assert said(text) == []
    assert loaded(text).services[0].backends[0].probes[0].password_file == "credential:imap"
    missing = "credential:pop3: no such file or directory on this host"
    hint = "the unit's LoadCredential= does not name it"
    assert said(IMAP.replace("{}", "pop3")) == [f"5:107 warning: {missing} | {hint}"]
    with pytest.raises(ConfigError, match=f"5:107: error: {missing}"):
        loaded(IMAP.replace("{}", "pop3"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    (line,) = said(text)
    assert line.startswith(
        "5:107 warning: credential:imap cannot be looked at: the service manager has given this process"
    )
    with pytest.raises(ConfigError, match="5:107: error: credential:imap cannot be looked at"):
        loaded(text)


@pytest.mark.parametrize("name", ["", "..", "../imap", "a/b", "a:b"])
def test_a_credential_is_a_name(said, credentials, name):
    """S5: what could lead out of the directory of credentials is an error at its key."""
    assert any(
        one.startswith(f'5:107 error: "credential:{name}" names no credential')
        for one in said(IMAP.replace("{}", name))
    )


@ROOT
@pytest.mark.parametrize("which", ["", "imap"])
def test_a_credential_that_others_could_change(said, credentials, which):
    """S7: as root, a credential in a directory that another user could change is refused, as every file is."""
    os.chown(credentials / which, 65534, 0)
    (line,) = said(IMAP.replace("{}", "imap"))
    assert "belongs to another user (uid 65534), who could change it: root must not obey it" in line
    os.chown(credentials / which, 0, 0)
    (credentials / which).chmod(0o777)
    assert any("is writable by everybody" in one for one in said(IMAP.replace("{}", "imap")))


@ROOT
@pytest.mark.parametrize("which", ["password", "authorities", "folder"])
def test_root_reads_no_secret_of_another_user(about, secret, tmp_path, which):
    """S7: as root, a file that another user owns, or could replace, is refused at the key that names it."""
    folder = tmp_path / "tls"
    folder.mkdir()
    authority = Authority(folder)
    given = {"password": secret, "authorities": authority.path, "folder": folder}[which]
    os.chown(given, 65534, 0)
    (one,) = about(f', tls-ca-file = "{authority.path}"')
    words = f"error: {given} belongs to another user (uid 65534), who could change it: root must not obey it | chown 0 {given}"
    assert one.endswith(words)


@ROOT
def test_a_command_that_others_may_change(said, tmp_path):
    """S4, V20: as root, `check` says that a command of [notify] will not be run: another user could change it, or none is there."""
    command = tmp_path / "notify"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    text = f'[notify.ops]\ncommand = ["{command}"]\n' + MAIL % "port = 143"
    assert said(text) == []
    os.chown(command, 65534, 0)
    words = f"the daemon will not run it: {command} belongs to another user (uid 65534), who could change it"
    assert said(text) == [f"2:11 warning: {words} | chown 0 {command}"]
    command.unlink()
    assert said(text) == [f"2:11 warning: the daemon will not run it: {command}: no such file or directory"]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Return a directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="steelyard-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@ROOT
def test_a_script_that_the_probes_user_cannot_run(said, open_place):
    """H13: as root, `check` says that a script probe will not run: not there, not to be entered or run by node.user, not safe."""
    folder = open_place / "scripts"
    folder.mkdir()
    script = folder / "check"
    text = '[node]\nuser = "nobody"\n' + MAIL.replace("tls = ", "report-only = true, tls = ") % "port = 143"
    text = text.replace("probe = {", f'probe = [{{ type = "script", command = ["{script}"] }}, {{').replace(
        "port = 143 }", "port = 143 }]"
    )
    head = "7:39 warning: the daemon will not run this probe:"
    assert said(text) == [f"{head} {script}: no such file or directory"]
    script.write_text("#!/bin/sh\n")
    assert said(text) == [f"{head} user nobody may not run {script}"]
    script.chmod(0o755)
    assert said(text) == []
    folder.chmod(0o700)
    assert said(text) == [f"{head} user nobody may not enter {folder}"]
    folder.chmod(0o777)
    assert said(text) == [f"{head} {folder} is writable by everybody, so anybody could change it | chmod o-w {folder}"]
