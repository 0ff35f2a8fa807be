"""Whether the files of the configuration have changed since they were read."""

import pytest

from proxy.config.loader import load
from proxy.config.on_disk import OnDisk

MAIN = """
include = ["{dir}/conf.d/*.toml"]
[service.a]
listen = ["127.0.0.1:8080/tcp"]
backends = ["192.0.2.1"]
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "conf.d").mkdir()
    main = tmp_path / "main.toml"
    main.write_text(MAIN.format(dir=tmp_path))
    return main


def test_the_digest_is_that_of_the_configuration(path):
    """The digest equals `sha256` of the configuration that was loaded, also of includes that appear later."""
    disk = OnDisk(str(path))
    first = load(path).sha256
    assert disk.sha256() == first
    (path.parent / "conf.d" / "more.toml").write_text('[log]\nlevel = "debug"\n')
    second = disk.sha256()
    assert second == load(path).sha256 != first


def test_a_file_that_cannot_be_read_has_none(path):
    """There is no digest while the file is away, and the same one when it is back."""
    disk = OnDisk(str(path))
    before = disk.sha256()
    path.rename(path.with_suffix(".away"))
    assert disk.sha256() is None
    path.with_suffix(".away").rename(path)
    assert disk.sha256() == before


def test_a_broken_file_has_another_digest(path):
    """A file that is no TOML any more differs from the one in force, and raises nothing."""
    disk = OnDisk(str(path))
    before = disk.sha256()
    path.write_text("[service")
    assert disk.sha256() not in {before, None}


def test_unchanged_files_are_not_read_again(path, monkeypatch):
    """The files are read only when their status changes, unless they changed a moment ago."""
    disk = OnDisk(str(path))
    reads = []
    monkeypatch.setattr("proxy.config.on_disk.Files", lambda report: reads.append(1) or real(report))
    from proxy.config.files import Files as real  # noqa: N813

    disk.sha256()
    disk.sha256()
    assert len(reads) == 2
    monkeypatch.setattr("proxy.config.on_disk.RECENT", -1.0)
    disk.sha256()
    assert len(reads) == 2
    path.write_text(path.read_text() + "# more\n")
    disk.sha256()
    assert len(reads) == 3
