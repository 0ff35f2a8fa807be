"""Characters that a file should not hold."""

import pytest

from proxy.config import diagnose

SERVICE = """[service.%s]
listen = ["10.0.0.10:80/tcp"]
backends = [{ address = "10.0.0.11", name = "%s" }]
probe = { type = "http", host = "%s" }
"""


def test_names_are_visible_ascii(said):
    """S3: names of services and backends, which stand in metrics, files and on terminals, are of visible ASCII letters."""
    assert said(SERVICE % ("web", "web-1", "www.example.net")) == []
    assert said(SERVICE % ('"b\u00fcro"', "a", "a")) == [
        '1:10 error: "b\u00fcro" is not a name: ASCII letters, digits, dots, hyphens, underscores, at most 63'
    ]
    for name in ("b\u00fcro", "a b", "a/b", "\u202ea"):
        (one,) = said(SERVICE % ("web", name, "a"))
        shown = name.replace("\u202e", "\u202e")
        assert (
            one
            == f'3:45 error: "{shown}" is not a valid backend name: use visible ASCII characters without blanks and "/"'
        )


@pytest.mark.parametrize("escape", ["\\u0000", "\\n", "\\u001b", "\\u007f", "\\u0085"])
@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('[node]\nuser = "a%s"', "2:8 error: user"),
        ('[control]\ngroup = "a%s"', "2:9 error: group"),
        ('[node]\nstate-dir = "/var/%s"', "2:13 error: state-dir"),
        ('[notify.a]\ncommand = ["/bin/true", "x%s"]', "2:25 error: command"),
        ('[probe.a]\ntype = "smtp"\nhelo = "a%s"', "3:8 error: helo"),
    ],
)
def test_no_value_holds_a_control_character(said, escape, line, place):
    """S3: a control character in a value, spelt by an escape, is an error at its place, which names its number."""
    number = ord(f'"{escape}"'.encode().decode("unicode-escape")[1])
    assert f"{place} contains a control character (U+{number:04X}) | remove it" in said(line % escape)


def test_what_a_probe_sends_may_hold_any_character(said):
    """What a probe sends and expects may hold control characters: the protocol is the user's."""
    text = SERVICE.replace('"http", host = "%s"', r'"tcp", send = "QUIT\r\n", expect = "\u0000"') % ("web", "a")
    assert said(text) == []


def test_any_text_is_told_or_taken(write):
    """R1: any strange character is reported with its place."""
    for text in ("\0", "[\0]", "\u2028 = 1", "a.\ud7ff = 1", "\x85", "a = \x7f"):
        config, found = diagnose(write(text))
        assert (config, [item.severity for item in found]) == (None, ["error"]), text
        assert "U+" in found[0].message, found[0].message
