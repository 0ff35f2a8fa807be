"""What the keys of one service cannot say together."""

import pytest

HEAD = '[service.a]\nlisten = ["10.0.0.10:514/udp"]\nprobe = { type = "none" }\n'


def test_per_datagram_is_not_for_dns(said):
    """A DNS service that asks for per-datagram is told at the key, wherever it stands."""
    rest = 'backends = ["10.0.0.11"]\n[service.a.udp]\nper-datagram = true\n'
    assert said(HEAD + rest) == []
    (line,) = said(HEAD + 'protocol = "dns"\n' + rest)
    assert line.startswith('7:16 error: per-datagram is for protocol = "plain"')


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ('send-proxy = "v1"\nbackends = ["10.0.0.11", "10.0.0.12"]', "4:14"),
        ('backends = ["10.0.0.11", { address = "10.0.0.12", send-proxy = "v1" }]', "4:64"),
        ('backends = ["10.0.0.11"]\nbackend-defaults = { send-proxy = "v1" }', "5:35"),
    ],
)
def test_version_1_is_not_for_udp(said, rest, place):
    """T22: PROXY version 1 on a service that listens on UDP is one error, at the key that says so."""
    (line,) = said(HEAD + rest + "\n")
    assert line.startswith(f'{place} error: send-proxy = "v1" is for TCP')
    assert said(HEAD + rest.replace("v1", "v2") + "\n") == []
