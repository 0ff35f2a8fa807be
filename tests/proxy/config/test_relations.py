"""What the keys of one service cannot say together."""

import pytest

HEAD = '[service.a]\nlisten = ["10.0.0.10:514/udp"]\nprobe = { type = "none" }\n'


def test_per_datagram_is_not_for_dns(said):
    """A DNS service with per-datagram is reported at the key, wherever the key is."""
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


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ('source-addresses = ["10.0.0.1"]\nbackends = ["10.0.0.11", "2001:db8::11", "2001:db8::12"]', "4:20"),
        ('backends = ["10.0.0.11", { address = "10.0.0.12", source-addresses = ["2001:db8::1"] }]', "4:70"),
    ],
)
def test_a_backend_needs_a_source_of_its_family(said, rest, place):
    """Source addresses without one of a backend's family are one error at their key, which names the backend."""
    (line,) = said(HEAD + rest + "\n")
    assert line.startswith(f"{place} error: source-addresses has no IPv")
    mixed = rest.replace('["10.0.0.1"]', '["10.0.0.1", "2001:db8::1"]').replace('["2001:db8::1"]', "[]")
    assert said(HEAD + mixed + "\n") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('protocol = "dns"\nbackends = ["10.0.0.11"]', 'transparent is not for protocol = "dns"'),
        ('backends = ["10.0.0.11", "2001:db8::11"]', "transparent with both IPv4 and IPv6"),
        ('backends = ["2001:db8::11"]', "transparent with both IPv4 and IPv6"),
        (
            'backends = [{ address = "10.0.0.11", source-addresses = ["10.0.0.1"] }]',
            "source-addresses of a backend and",
        ),
    ],
)
def test_what_transparent_cannot_be_with(said, text, words):
    """T23: DNS, two families and sources of a backend's own are each one error, at the key."""
    (line,) = said(HEAD + "transparent = true\n" + text + "\n")
    assert line.startswith(f"4:15 error: {words}")
    assert said(HEAD + 'transparent = true\nbackends = ["10.0.0.11"]\n') == []


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ('backends = ["10.0.0.11", { address = "10.0.0.12", max-outstanding = 9 }]', "4:69"),
        ('backends = ["10.0.0.11"]\nbackend-defaults = { max-outstanding = 9 }', "5:40"),
    ],
)
def test_outstanding_queries_are_of_dns(said, rest, place):
    """A limit on queries in flight is an error, at its key, in a service that relays no queries."""
    (line,) = said(HEAD + rest + "\n")
    assert line.startswith(f"{place} error: max-outstanding limits DNS queries in flight")
    dns = '[service.a]\nlisten = ["10.0.0.10:53/udp"]\nprotocol = "dns"\n\n'
    assert said(dns + rest + "\n") == []


@pytest.mark.parametrize(
    ("kind", "probe", "error"),
    [
        ("lag", '{ type = "pgsql", user = "x", role = "standby", max-lag = "30s" }', ""),
        ("lag", '[{ type = "tcp" }, { type = "redis", max-lag = "30s" }]', ""),
        (
            "lag",
            '{ type = "pgsql", user = "x" }',
            'weight-from = "lag", and backend 10.0.0.11 has no probe that measures its lag',
        ),
        ("lag", '{ type = "tcp" }', "has no probe that measures its lag"),
        ("latency", '{ type = "tcp" }', ""),
        ("latency", '{ type = "none" }', "has no probe that measures its latency"),
        ("latency", '{ type = "tcp", report-only = true }', "has no probe that measures its latency"),
        ("off", '{ type = "none" }', ""),
    ],
)
def test_a_weight_follows_what_is_measured(said, kind, probe, error):
    """A weight that follows a measure which no probe of a backend takes is an error at the key."""
    head = '[service.a]\nlisten = ["10.0.0.10:80/tcp"]\nbackends = ["10.0.0.11"]\n'
    found = [line for line in said(f'{head}weight-from = "{kind}"\nprobe = {probe}\n') if "error" in line]
    assert len(found) == bool(error)
    assert all(line.startswith("4:15 error: ") and error in line for line in found)
