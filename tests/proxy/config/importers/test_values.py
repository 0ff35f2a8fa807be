"""Values of other programs as ours."""

import pytest

from proxy.config.importers.ledger import LeftError
from proxy.config.importers.values import address, block, command, common, decimal, duration, number, port, where


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (number, "7", 7), (number, "-0", 0), (decimal, "2.5", 2.5), (decimal, ".5", 0.5), (address, "FD00::1", "fd00::1"), (address, "localhost", "127.0.0.1"), (port, "53", 53),
        (block, "10.0.0.1/8", "10.0.0.0/8"), (block, "::1", "::1/128"), (where, "", "0.0.0.0"), (where, "::", "[::]"),
        (where, "fd00::1", "[fd00::1]"), (where, "10.0.0.1", "10.0.0.1"), (duration, 0.25, "250ms"), (duration, 90.0, "90s"),
    ],
)  # fmt: skip
def test_what_has_a_form_here(read, text, value):
    """Each function returns our form of a value."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [(number, "x"), (number, "1.5"), (number, ""), (number, "-1"), (decimal, "1e9"), (decimal, "soon"), (address, "www.example.net"),
     (address, "224.0.0.1"), (port, "0"), (port, "65536"), (block, "all"), (command, " ")],
)  # fmt: skip
def test_what_has_none_says_why(read, text):
    """Each function refuses a value that has no form here, with a reason."""
    with pytest.raises(LeftError, match=r"[a-z]"):
        read(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/bin/check a 'b c'", ["/bin/check", "a", "b c"]),
        ("killall -0 haproxy", ["/usr/bin/pgrep", "-x", "haproxy"]),
        ("/usr/bin/killall -0 sshd", ["/usr/bin/pgrep", "-x", "sshd"]),
        ("pidof nginx", ["/usr/bin/pgrep", "-x", "nginx"]),
        ("check me", ["/bin/sh", "-c", "check me"]),
        ("/bin/a | /bin/b", ["/bin/sh", "-c", "/bin/a | /bin/b"]),
        ("/bin/a 'b", ["/bin/sh", "-c", "/bin/a 'b"]),
    ],
)
def test_commands(text, words):
    """A command is a list of words; what needs a shell or a path gets /bin/sh, and a signal to a process becomes pgrep."""
    assert command(text) == words


def test_a_command_may_be_kept_exactly():
    """A notify script is not replaced by pgrep."""
    assert command("killall -0 x", exact=True)[0] == "/bin/sh"


def test_blocks_in_common():
    """Two lists of blocks have in common the smaller of each pair that overlaps."""
    assert common(["10.0.0.0/8", "fd00::/8"], ["10.1.0.0/16", "0.0.0.0/0", "::1/128"]) == ["10.1.0.0/16", "10.0.0.0/8"]
