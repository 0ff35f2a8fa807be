"""What is missing for the tests, and how it is told."""

import contextlib
import os
import subprocess

import pytest

from tests import packages


def test_lists_are_read():
    """A line is a package and its programs; comments and empty lines are nothing."""
    assert packages.wanted("# all\nnsd nsd nsd-control # both\n\ncurl curl\n") == {
        "nsd": ["nsd", "nsd-control"],
        "curl": ["curl"],
    }


def test_a_package_is_missing_when_one_of_its_programs_is(tmp_path):
    """A package is missing unless every one of its programs can be run from the path that is searched."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    lists = {"a": ["one", "two"], "b": ["two", "three"], "c": ["four"]}
    assert packages.missing(lists, str(tmp_path)) == ["b", "c"]


def test_a_file_may_stand_for_a_package(tmp_path):
    """A package without programs, such as a module of nginx, is missing until its file exists."""
    (tmp_path / "module.so").write_text("")
    lists = {"a": [str(tmp_path / "module.so")], "b": [str(tmp_path / "other.so")]}
    assert packages.missing(lists) == ["b"]


def test_who_is_not_root_is_told(tmp_path, monkeypatch, capsys):
    """Without root every missing package is named with the command that installs it, and the tests go on."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    listed = tmp_path / "list"
    listed.write_text("no-such-package no-such-program\ncoreutils ls\n")
    assert packages.main([str(listed)]) == 0
    told = capsys.readouterr().err
    assert "apt-get install --no-install-recommends no-such-package\n" in told
    assert "coreutils" not in told


@pytest.mark.parametrize("status", [0, 100])
def test_installing_starts_no_service(tmp_path, monkeypatch, status):
    """While packages are installed a policy forbids to start services, and it is gone afterwards, whatever happened."""
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    script = f'#!/bin/sh\necho "$*" $({tmp_path}/policy-rc.d; echo $?) >> {tmp_path}/seen\nexit {status}\n'
    (tmp_path / "apt-get").write_text(script)
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with contextlib.nullcontext() if status == 0 else pytest.raises(subprocess.CalledProcessError):
        packages.install(["nsd", "curl"])
    seen = (tmp_path / "seen").read_text().splitlines()
    assert [line.split()[-1] for line in seen] == ["101", "101"]
    assert seen[0].endswith("update 101")
    assert "install --no-install-recommends nsd curl" in seen[1]
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_policy_of_the_machine_stays(tmp_path, monkeypatch):
    """A policy that was there before is neither replaced nor removed."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("the machine's own")
    monkeypatch.setattr(packages, "POLICY", policy)
    (tmp_path / "apt-get").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    packages.install(["nsd"])
    assert policy.read_text() == "the machine's own"
