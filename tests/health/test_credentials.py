"""Credentials of the service manager in the place of files."""

from pathlib import Path

import pytest

from health.credentials import DIRECTORY, NoCredential, check_name, is_credential, located


def test_a_credential_is_in_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential is the file of its name in the directory that the service manager gives; a path is itself."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    assert located("credential:mysql") == f"{tmp_path}/mysql"
    assert located("/etc/mysql") == "/etc/mysql"
    assert is_credential("credential:mysql")
    assert not is_credential("/credential:mysql")


@pytest.mark.parametrize("directory", [None, "", "relative"])
def test_without_a_directory_there_is_none(monkeypatch: pytest.MonkeyPatch, directory: str | None) -> None:
    """Without a directory of credentials there is no credential, and the reason names the variable."""
    monkeypatch.delenv(DIRECTORY, raising=False)
    if directory is not None:
        monkeypatch.setenv(DIRECTORY, directory)
    with pytest.raises(NoCredential, match="CREDENTIALS_DIRECTORY is not set"):
        located("credential:mysql")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a:b", "a b", "a\n", "a\0", "ü", "x" * 256])
def test_names_that_could_lead_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """S5: a name that could lead out of the directory, or that systemd would not accept, is refused before any look."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    with pytest.raises(ValueError, match="names no credential"):
        check_name(f"credential:{name}")
    with pytest.raises(ValueError, match="names no credential"):
        located(f"credential:{name}")


@pytest.mark.parametrize("name", ["mysql", "mysql.pw", "vrrp@eth0", "...", "x" * 255])
def test_names_that_systemd_accepts(name: str) -> None:
    """A name that systemd accepts is accepted."""
    check_name(f"credential:{name}")
