"""What the Debian package has beside the program."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from proxy.config import diagnose
from shipping import ROOT, deb, stage
from shipping.release import Release
from tests.e2e.process import program

DEBIAN = ROOT / "packaging" / "debian"


def test_the_example_is_a_file_of_comments(tmp_path):
    """Every line of the installed file is a comment; without the marks it is an example that `check` accepts."""
    text = stage.example()
    assert all(line.startswith("#") or not line for line in text.splitlines())
    _, _, example = text.partition("systemctl enable --now steelyard\n\n")
    path = tmp_path / "steelyard.toml"
    path.write_text(re.sub(r"^# ?", "", example, flags=re.MULTILINE))
    config, found = diagnose(path)
    assert config is not None, [str(one) for one in found]
    assert len(config.services) == 4


@pytest.mark.parametrize("number", ["12", "13"])
def test_the_unit_starts_the_installed_program(number, tmp_path):
    """The unit, and for Debian 12 its drop-in, name the program of the package and nothing of an installation by hand."""
    release = Release(number, (3, 11), "amd64")
    stage._services(tmp_path, release)
    below = tmp_path / stage.units(release)
    unit = (below / "steelyard.service").read_text()
    assert "\nExecStart=/usr/bin/steelyard run\n" in unit
    assert "/opt/" not in unit
    drop_in = below / "steelyard.service.d" / "steelyard-252.conf"
    assert drop_in.exists() == (number == "12")
    if number == "12":
        assert drop_in.read_text() == "[Service]\nExecReload=/usr/bin/steelyard reload\n"


@pytest.mark.parametrize("name", deb.SCRIPTS)
def test_a_script_is_one_of_posix(name):
    """Each maintainer script is right for a POSIX shell and ends at its first error."""
    subprocess.run(["dash", "-n", DEBIAN / name], check=True)
    assert (DEBIAN / name).read_text().startswith("#!/bin/sh\nset -e\n")


def test_the_log_is_rotated_as_the_documentation_says(tmp_path):
    """Logrotate accepts the file, which rotates the very file that the documentation of the connection log names."""
    text = (DEBIAN / "steelyard.logrotate").read_text()
    (example,) = re.findall(
        r"```\n(/var/log/.*?)```", (ROOT / "docs/reference/connection-log.md").read_text(), re.DOTALL
    )
    assert set(example.splitlines()) <= set(text.splitlines())
    log = tmp_path / "connections.log"
    log.write_text("a line\n")
    mine = tmp_path / "rotate"
    mine.write_text(text.replace("/var/log/steelyard/connections.log", str(log)))
    mine.chmod(0o644)
    command = [program("logrotate"), "--force", "--state", tmp_path / "state", mine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "connections.log.1").read_text() == "a line\n"


def test_users_and_directories_are_those_of_the_unit():
    """Sysusers.d makes the user that the daemon becomes, tmpfiles.d the directories of the unit with their modes."""
    assert "\nu steelyard - " in (DEBIAN / "steelyard.sysusers").read_text()
    unit = (ROOT / "packaging" / "steelyard.service").read_text()
    rows = [line.split() for line in (DEBIAN / "steelyard.tmpfiles").read_text().splitlines() if line.startswith("d ")]
    modes = {path: mode for _, path, mode, *_ in rows}
    assert set(modes) == {"/run/steelyard", "/var/lib/steelyard", "/var/log/steelyard"}
    for path, key in (("/var/lib/steelyard", "StateDirectoryMode"), ("/var/log/steelyard", "LogsDirectoryMode")):
        assert f"\n{key}={modes[path]}\n" in unit


def test_modes_are_settled(tmp_path):
    """Files are readable by all, programs and directories executable, modules not; no time is later than the sources'."""
    for name, mode in (("a/tool", 0o700), ("a/module.py", 0o775), ("a/text", 0o600)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    os.utime(tmp_path / "a" / "text", (5, 5))
    stage.finish(tmp_path, 1000)
    found = {path.name: (oct(path.stat().st_mode & 0o7777), path.stat().st_mtime) for path in Path(tmp_path).rglob("*")}
    assert found == {"a": ("0o755", 1000), "tool": ("0o755", 1000), "module.py": ("0o644", 1000), "text": ("0o644", 5)}
