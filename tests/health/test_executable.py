"""Which programs may be run unasked."""

import os
from pathlib import Path

import pytest

from health.executable import Unsafe, trusted

NOBODY = 65534
US = os.geteuid()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with one safe program."""
    program = tmp_path / "bin" / "check"
    program.parent.mkdir(mode=0o755)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program.parent


def test_safe(place: Path) -> None:
    """S4: a program that only its owner can write, in such directories, is run by its own path."""
    assert trusted(str(place / "check"), US) == str(place / "check")
    assert trusted("/bin/sh", US) == os.path.realpath("/bin/sh")
    assert trusted(f"{place}/../bin/./check", US) == str(place / "check")


def test_links_are_followed(place: Path) -> None:
    """S4: a chain of links, absolute and relative, is as safe as each of its steps; the sticky /tmp is no danger."""
    (place / "relative").symlink_to("check")
    (place / "absolute").symlink_to(place / "relative")
    assert trusted(str(place / "absolute"), US) == str(place / "check")
    elsewhere = place.parent / "open"
    elsewhere.mkdir()
    (elsewhere / "check").write_text("")
    elsewhere.chmod(0o777)
    (place / "out").symlink_to(elsewhere / "check")
    with pytest.raises(Unsafe, match="open is writable by everybody"):
        trusted(str(place / "out"), US)


@pytest.mark.parametrize("part", [".", "check"])
def test_writable_by_everybody(place: Path, part: str) -> None:
    """S4: neither the program nor a directory on the way to it may be writable by everybody."""
    (place / part).chmod(0o777)
    with pytest.raises(Unsafe, match="is writable by everybody"):
        trusted(str(place / "check"), US)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners_and_groups(place: Path) -> None:
    """S4: another owner is refused, of a link too, and a group that may write unless it is root's."""
    (place / "check").chmod(0o775)
    assert trusted(str(place / "check"), US)
    os.chown(place / "check", 0, NOBODY)
    with pytest.raises(Unsafe, match="is writable by group 65534"):
        trusted(str(place / "check"), US)
    (place / "check").chmod(0o755)
    os.chown(place / "check", NOBODY, 0)
    with pytest.raises(Unsafe, match="belongs to another user"):
        trusted(str(place / "check"), US)
    assert trusted(str(place / "check"), NOBODY)
    (place / "link").symlink_to("check")
    os.chown(place / "check", 0, 0)
    os.lchown(place / "link", NOBODY, 0)
    with pytest.raises(Unsafe, match="link belongs to another user"):
        trusted(str(place / "link"), US)


def test_endings(place: Path) -> None:
    """S4: a missing path, a path that is not a file, and an endless chain of links are refused with a reason."""
    (place / "loop").symlink_to("loop")
    for path, words in (
        (place / "none", "no such file"), (place, "is not a file"), (place / "loop", "too many links"),
        (place / "check" / "x", "is not a directory"),
    ):  # fmt: skip
        with pytest.raises(Unsafe, match=words):
            trusted(str(path), US)
