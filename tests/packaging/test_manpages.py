"""The man pages: one for each command, the file and the daemon, without a warning of either formatter."""

import os
import subprocess
from functools import cache

import click
import pytest

from proxy.cli import COMMANDS, main
from proxy.config.tables import FileTable, ServiceTable
from shipping import manpages
from tests.e2e.process import program
from tests.test_docs import fields


@cache
def pages() -> dict[str, str]:
    return manpages.pages("1.2.3", "2026-01-31")


@cache
def shown(name: str) -> str:
    """Return a page as a terminal of 80 columns shows it; it fails if groff has to say anything about it."""
    command = [program("man"), "--warnings", "--no-hyphenation", "-E", "ascii", "-l", "-"]
    environment = {**os.environ, "MANWIDTH": "80", "MANPAGER": "cat", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    done = subprocess.run(command, input=pages()[name], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return done.stdout


def test_there_is_one_of_each_command():
    """Every command has a page of section 1, the file one of section 5, the daemon one of section 8."""
    expected = {f"steelyard-{name}.1" for name in COMMANDS} | {"steelyard.1", "steelyard.toml.5", "steelyard.8"}
    assert set(pages()) == expected


@pytest.mark.parametrize("name", sorted(manpages.pages("1", "2026-01-31")))
def test_no_formatter_warns(name, tmp_path):
    """Neither groff nor mandoc has a warning about the page, and it names itself and its version."""
    text = shown(name)
    assert text.startswith(f"{name.rpartition('.')[0].upper()}({name[-1]})")
    assert "Steelyard 1.2.3" in text
    path = tmp_path / name
    path.write_text(pages()[name])
    done = subprocess.run([program("mandoc"), "-Tlint", "-Wwarning", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    """The page of a command has each of its options, with the words of its help."""
    text = " ".join(shown(f"steelyard-{name}.1").split())
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert option in text
    assert "EXIT STATUS" in text


def test_every_key_is_explained():
    """The page of the file has every key of a service and every section."""
    text = shown("steelyard.toml.5")
    missing = {key for table in (ServiceTable, FileTable) for key in fields(table) if key not in text}
    assert missing == set()


def test_the_reference_is_in_the_page_of_its_command():
    """What docs/reference/commands.md says of several commands is on the page of each."""
    for name in ("drain", "maint", "ready"):
        assert "overrides.json" in shown(f"steelyard-{name}.1")
    assert "overrides.json" not in shown("steelyard-pick.1")
