"""Tests of what is said of [web]."""

import pytest

SERVICE = '[service.a]\nlisten = ["127.0.0.1:9600/tcp"]\nbackends = ["127.0.0.1:1"]\n'
OTHER = SERVICE.replace("9600", "8080")


def of_web(lines):
    return [line for line in lines if int(line.partition(":")[0]) > 3]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("[web]", []),
        ('[web]\nlisten = ["127.0.0.1:1", "[::1]:1"]\nallow = ["0.0.0.0/0"]', []),
        ('[web]\nlisten = "192.0.2.1:9600"\nallow = ["192.0.2.0/24"]', []),
        ('[web]\nlisten = "192.0.2.1:9600"', [
            '5:10 warning: 192.0.2.1:9600 is reached from other hosts, and all of them get 403: allow is loopback by default | allow = ["10.0.0.0/24"], the network of those who watch'
        ]),
        ('[web]\nlisten = ["127.0.0.1:1", "[::]:9600"]\nallow = ["10.0.0.0/8", "::/0"]', [
            "6:24 warning: everybody who reaches [::]:9600 can read the names, addresses and faults of all services: there is no login | list the networks of those who watch"
        ]),
    ],
)  # fmt: skip
def test_who_may_read(said, rest, expected):
    """S3: a listener beyond loopback is warned of where nobody there may ask, and where everybody may."""
    assert of_web(said(OTHER + rest)) == expected


def test_a_service_s_own_listener(said):
    """A port that a service has already is an error at its place."""
    assert of_web(said(SERVICE + "[web]")) == ["4:2 error: [service.a] listens on 127.0.0.1:9600 already"]


def test_without_the_table(loaded):
    """A file without [web] has no HTTP; an empty table has that of loopback."""
    assert loaded(OTHER).web is None
    assert loaded(OTHER + "[web]").web.listen == ("127.0.0.1:9600",)
