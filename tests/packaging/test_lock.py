"""The lock file: every dependency at run time, on every Python that is supported, each with its hashes."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shipping import environment, lock

PYTHONS = ("3.11.2", "3.12.0", "3.13.5")
"""Debian 12's, one in between, Debian 13's."""


def needed(python: str) -> dict[str, Requirement]:
    """Return name -> requirement of everything that Steelyard needs on a Python, by the metadata of what is installed here."""
    short = python.rpartition(".")[0]
    place = default_environment() | {"python_version": short, "python_full_version": python}
    found: dict[str, Requirement] = {}
    open_ = [(Requirement(one), frozenset({""})) for one in lock.requirements()]
    while open_:
        one, extras = open_.pop()
        if one.marker is not None and not any(one.marker.evaluate({**place, "extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(one.name)
        first = name not in found
        found[name] = one
        if first or one.extras:
            wanted = frozenset({"", *one.extras})
            open_ += [(Requirement(text), wanted) for text in own_requirements(name)]
    return found


def own_requirements(name: str) -> list[str]:
    """Return what a library requires; of one that only other versions of Python need, this environment knows nothing."""
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_needed_is_pinned(python):
    """Each dependency, and each dependency of one, is pinned to a version that all who need it accept."""
    pins = {canonicalize_name(name): version for name, version in lock.pins().items()}
    found = needed(python)
    assert len(found) > 20
    assert {name for name in found if name not in pins} == set()
    assert {name: pins[name] for name, one in found.items() if not one.specifier.contains(pins[name])} == {}


def test_nothing_else_is_pinned():
    """What no Python needs is not in the lock."""
    pins = {canonicalize_name(name) for name in lock.pins()}
    assert pins - {name for python in PYTHONS for name in needed(python)} == set()


def test_debian_12_needs_more_than_the_others():
    """Python 3.11.2 needs a library that 3.11.3 has in its standard library, and the lock has it."""
    assert "async-timeout" in needed("3.11.2")
    assert "async-timeout" not in needed("3.13.5")


def test_every_pin_has_hashes_and_no_line_is_of_one_machine():
    """Every version has hashes of SHA-256, and the file names no index, no directory and no other option."""
    text = lock.LOCK.read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(lock.pins())
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert [line for line in text.splitlines() if line.startswith(("-", "/")) or "://" in line] == []


def test_a_file_with_another_hash_is_refused(tmp_path, monkeypatch, capfd):
    """A wheel that has not the hash of the lock file is not taken, wherever it comes from."""
    (version,) = re.findall(r"^h11==(\S+)", lock.LOCK.read_text(), re.MULTILINE)
    wanted = tmp_path / "requirements.lock"
    wanted.write_text(f"h11=={version} --hash=sha256:{'0' * 64}\n")
    (tmp_path / f"h11-{version}-py3-none-any.whl").write_bytes(b"not what it says")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(subprocess.CalledProcessError):
        environment.download(sys.executable, tmp_path / "wheels", wanted)
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
