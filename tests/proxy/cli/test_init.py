"""The main group: lazy commands and exit codes."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import proxy.cli
from proxy import __version__
from proxy.cli import COMMANDS, LazyGroup, main
from proxy.config import ConfigError, Diagnostic


def run(*arguments, **environment):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_every_command_is_listed_without_being_imported():
    """The help page lists every command, and makes none of them."""
    code = (
        "import sys\nfrom proxy.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "ours = [name for name in sys.modules if name.startswith(('proxy.', 'health', 'pydantic'))]\n"
        "print([name for name in ours if name not in ('proxy.cli', 'proxy.cli.streams')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_the_packages():
    """`--version` prints the version and ends with 0."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"steelyard {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek"], 'no such command "chek", did you mean "check"?'),
        (["zzz"], 'no such command "zzz"'),
        (["check", "--bogus"], "No such option"),
        (["check", "a", "b"], "unexpected extra argument"),
        (["--bogus"], "No such option"),
    ],
)
def test_wrong_usage_is_64(arguments, words):
    """A command line that cannot be understood ends with 64 and says why."""
    done = run(*arguments)
    assert done.returncode == 64
    assert words in done.stderr


ENDINGS = [
    (ConfigError([Diagnostic("error", "a.toml", 1, 2, "wrong")]), 2, "a.toml:1:2: error: wrong"),
    (FileNotFoundError(2, "No such file or directory", "/x"), 6, "/x: no such file or directory"),
    (IsADirectoryError(21, "Is a directory", "/x"), 6, "/x: is a directory"),
    (PermissionError(13, "Permission denied", "/x"), 4, "/x: permission denied"),
    (click.UsageError("odd"), 64, "odd"),
    (click.ClickException("failed"), 1, "failed"),
    (click.Abort(), 130, ""),
    (click.exceptions.Exit(5), 5, ""),
    (RuntimeError("a\nb\x1b[2J"), 70, "steelyard: internal error: RuntimeError: a b"),
]


@pytest.fixture
def failing(monkeypatch):
    """Return a function that runs the command line with a command that raises."""

    def invoke(error):
        @click.command()
        def command():
            raise error

        module = type(sys)("failing")
        module.command = command
        monkeypatch.setitem(sys.modules, "failing", module)
        monkeypatch.setitem(proxy.cli.COMMANDS, "fail", ("failing:command", "Fail."))
        return CliRunner().invoke(main, ["fail"])

    return invoke


@pytest.mark.parametrize(("error", "code", "words"), ENDINGS, ids=lambda value: type(value).__name__)
def test_each_error_has_its_exit_code(failing, error, code, words):
    """2 for a bad configuration, 4 for no permission, 6 for no file, 64 for wrong usage, 70 for a bug, each with its words."""
    result = failing(error)
    assert (result.exit_code, words in result.stderr) == (code, True)


def test_a_bug_is_one_line_and_a_traceback_only_on_request(failing, monkeypatch):
    """A bug is told in one printable line; STEELYARD_DEBUG=1 adds where it happened."""
    monkeypatch.delenv("STEELYARD_DEBUG", raising=False)
    result = failing(RuntimeError("a\nb\x1b[2J"))
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    monkeypatch.setenv("STEELYARD_DEBUG", "1")
    assert "Traceback" in failing(RuntimeError("a")).stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "socket"),
    [
        (["-s", "/a", "show"], {}, "/a"),
        (["show", "-s", "/b"], {}, "/b"),
        (["-s", "/a", "show", "--socket", "/b"], {}, "/b"),
        (["show"], {"STEELYARD_SOCKET": "/c"}, "/c"),
        (["-s", "/a", "show"], {"STEELYARD_SOCKET": "/c"}, "/a"),
        (["show"], {}, ""),
    ],
)
def test_the_socket_is_told_before_or_behind_the_command(monkeypatch, arguments, environment, socket):
    """`-s` behind the command goes before `-s` in front of it, that before STEELYARD_SOCKET."""

    @click.command()
    @click.pass_context
    def command(ctx):
        click.echo(ctx.obj)

    module = type(sys)("showing")
    module.command = command
    monkeypatch.setitem(sys.modules, "showing", module)
    monkeypatch.setitem(proxy.cli.COMMANDS, "show", ("showing:command", "Show."))
    monkeypatch.delenv("STEELYARD_SOCKET", raising=False)
    assert CliRunner().invoke(main, arguments, env=environment).output == f"{socket}\n"


def test_a_reader_that_leaves_ends_the_command_quietly():
    """A closed pipe, as of `| head`, is no bug and makes no noise."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_group_can_be_part_of_another_program():
    """Without standalone mode errors are the caller's."""
    with pytest.raises(click.UsageError):
        LazyGroup("x").main(["zzz"], standalone_mode=False)
