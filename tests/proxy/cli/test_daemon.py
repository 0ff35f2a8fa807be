"""proxy.cli.daemon: what the commands that ask a daemon have in common."""

import click
import pytest

from proxy.cli.daemon import WrongUsageError, daemon, print_json, socket_path
from proxy.control.wire import ControlError, PermissionDeniedError, UnreachableError


def context(path):
    """Return a command's context with the socket that the main group found."""
    return click.Context(click.Command("x"), obj=path)


def test_which_socket():
    """It is the one that was given, or the usual one; an http URL is for status and top alone."""
    assert socket_path(context("/tmp/x.sock")) == "/tmp/x.sock"
    assert socket_path(context(None)) == "/run/steelyard/control.sock"
    for url in ("http://127.0.0.1:9600", "https://lb1.example.net"):
        with pytest.raises(WrongUsageError, match="status and top alone") as caught:
            socket_path(context(url))
        assert caught.value.exit_code == 64


@pytest.mark.parametrize(
    ("error", "code"), [(ControlError("no"), 1), (UnreachableError("no"), 3), (PermissionDeniedError("no\x1b[2J"), 4)]
)
def test_an_error_ends_the_command(tmp_path, capsys, error, code):
    """What the daemon refuses ends the command with its words, made printable, and the exit code of the manual."""
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(1)
        with pytest.raises(click.exceptions.Exit) as caught, daemon(context(str(tmp_path / "socket"))):
            raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == "steelyard: no" + ("\\x1b[2J" if code == 4 else "") + "\n"


def test_json_is_ascii(capsys):
    """JSON for people is indented, and carries no character that a terminal would obey."""
    print_json({"reason": "\x1b[2J\u202eé"})
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert "\x1b" not in shown
    assert shown.startswith("{\n  ")
