"""Tests of giving up privileges, each in a process of its own."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.host import privileges

ROOT = Path(privileges.__file__).resolve().parents[2]
REPORT = """
import sys
from proxy.host import privileges
{act}
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(*(fields[name].split()[0] for name in ("Uid", "Gid", "CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs")))
{after}
"""
NONE = "0" * 16
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, of a user namespace at least")
needs_users = pytest.mark.skipif(os.geteuid() != 0 or privileges.alone(), reason="needs root and another user")


def run(act, after="", prefix=()):
    done = subprocess.run(
        [*prefix, sys.executable, "-c", REPORT.format(act=act, after=after)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    return done.stdout.split()


def test_nothing_is_left():
    """S1: after a drop no set of capabilities has any, whoever we are, as far as we could lower them at all."""
    found = run("privileges.drop(None, None)")
    assert found[2:5] == [NONE] * 3
    assert found[6:] == [NONE, "1"]
    if os.geteuid() == 0:
        assert found[5] == NONE


@needs_root
def test_root_of_a_namespace():
    """S1: under `unshare -r`, where there is no other user, the capabilities go all the same."""
    found = run("assert privileges.alone(); privileges.drop(None, None)", prefix=["unshare", "-r"])
    assert found == ["0", "0", *[NONE] * 5, "1"]


@needs_users
def test_another_user():
    """S1: root becomes the other user for good, without its groups, and cannot come back."""
    after = "import os\nprint(os.getgroups())\ntry: os.setuid(0)\nexcept PermissionError: print('no')"
    found = run("privileges.drop(65534, 65534)", after)
    assert found == ["65534", "65534", *[NONE] * 5, "1", "[]", "no"]


@needs_users
def test_what_is_kept_is_kept():
    """S1: who keeps one capability across the change of user has that one and no other."""
    found = run("privileges.drop(65534, 65534, [privileges.CAP_NET_RAW])")
    bit = f"{1 << privileges.CAP_NET_RAW:016x}"
    assert found == ["65534", "65534", bit, bit, NONE, bit, NONE, "1"]


@needs_users
def test_root_does_not_regain_by_exec():
    """S1: a process that stays root gets no capabilities back from an exec."""
    after = "import os, sys\nsys.stdout.flush()\nos.execv('/bin/grep', ['grep', 'CapEff', '/proc/self/status'])"
    assert run("privileges.drop(None, None)", after)[-1] == NONE


def test_open_files():
    """The soft limit of open files is raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        assert privileges.raise_open_files() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_users():
    """A user is found by name; one that this host does not know is a KeyError."""
    assert privileges.user_ids("root") == (0, 0)
    with pytest.raises(KeyError):
        privileges.user_ids("no-such-user")
