"""proxy.status.summary: the state in one line."""

import pytest

from proxy.status.summary import summary

FIVE = dict.fromkeys(["dns", "imap", "ldap", "mysql", "smtp"], True)


@pytest.mark.parametrize(
    ("services", "routers", "expected"),
    [
        (FIVE, {"vip": "active"}, "serving 5 services on 9 listeners; vip active"),
        (FIVE | {"dns": None, "ldap": "unjudged"}, {}, "serving 5 services on 9 listeners"),
        (
            FIVE | {"imap": False}, {"in": "backup", "out": "fault"},
            "serving 4 of 5 services on 9 listeners, no usable backend for imap; in backup, out fault",
        ),
        (
            dict.fromkeys(FIVE, False), {},
            "serving 0 of 5 services on 9 listeners, no usable backend for dns, imap, ldap and 2 more",
        ),
        ({}, {"vip": "backup"}, "no services; vip backup"),
    ],
)  # fmt: skip
def test_a_line(services, routers, expected):
    """The line says how many services this host serves, which it cannot serve, and where the addresses are."""
    assert summary(9, services, routers, serving=True, stopping=False) == expected


def test_what_matters_more():
    """A daemon without a worker, or one that stops, never says that it serves."""
    assert summary(9, FIVE, {"vip": "backup"}, serving=False, stopping=False) == "no worker is alive; vip backup"
    assert summary(9, FIVE, {}, serving=True, stopping=True) == "stopping"


def test_a_refused_reload_is_named():
    """The line says why the last reload was refused, with the first line of the reason."""
    line = summary(1, {"dns": True}, {}, serving=True, stopping=False, refused="a.toml:1:2: error: no\n  x = 1")
    assert line == "serving 1 service on 1 listener; the last reload was refused: a.toml:1:2: error: no"
