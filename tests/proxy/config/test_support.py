"""What this version refuses to run."""

import pytest

from proxy.config import Config, load, unsupported

PROBES = {"udp": ', send = "?"', "mysql": ', user = "probe"', "script": ', command = ["/bin/true"]'} | dict.fromkeys(
    ("tcp", "dns", "ldap", "http", "smtp", "pop3", "imap", "ping", "none"), ""
)
HEAD = '[service.a]\nlisten = ["10.0.0.10:80/tcp"]\nbackends = ["10.0.0.11", { address = "10.0.0.12" }]\n'


@pytest.mark.parametrize(
    ("rest", "place", "what"),
    [
        ('[web]\nlisten = "127.0.0.1:9600"', "4:2", "[web]"),
    ],
)  # fmt: skip
def test_what_comes_later_is_refused_at_its_place(loaded, rest, place, what):
    """A key whose feature is not there yet is an error at its place, not ignored."""
    config = loaded(HEAD + rest + "\n")
    assert [(f"{item.line}:{item.col}", item.message) for item in unsupported(config)] == [
        (place, f"{what} is not supported yet")
    ]


@pytest.mark.parametrize("key", ['send-proxy = "v2"', 'accept-proxy = ["10.0.0.0/8"]'])
def test_proxy_headers_run_on_both_transports(loaded, key):
    """T22: PROXY headers are there for TCP and UDP."""
    text = HEAD.replace('"10.0.0.10:80/tcp"', '"10.0.0.10:80/tcp", "10.0.0.10:80/udp"')
    assert unsupported(loaded(text + f'{key}\nprobe = {{ type = "tcp" }}\n')) == []


@pytest.mark.parametrize(
    "rest",
    [
        "quorum = 2\nfail-open = true\nfailback = false\non-failback = 'reset'", "backend-defaults = { backup = true, admin = 'drain' }", 'dns = { client-subnet = "on" }', "transparent = true", 'source-addresses = ["10.0.0.1"]', 'allow = ["10.0.0.0/8"]', 'deny = ["10.0.0.0/8"]', 'send-proxy = "off"', "queue = { size = 5 }", "max-connections = 5\nmax-connections-per-client = 1", 'rate-per-client = "5/s"', "eject = { errors = 5 }", "backend-defaults = { max-connections = 5, slow-start = '5s' }", "udp = { per-datagram = true }",
        'scheduler = "maglev"\nhash-on = "source-port"', 'scheduler = "sed"', 'scheduler = "lblcr"', 'persistence = { timeout = "5m", ipv4-prefix = 24 }', 'on-down = "reset"', 'probe = "p"\n[probe.p]\ntype = "tcp"',
        '[log]\nlevel = "debug"\nformat = "json"\nconnections = "all"\nconnections-to = "/var/log/connections"', "[node]\nworkers = 2", '[control]\ngroup = "adm"',
        'probe = [{ type = "tcp" }, { type = "dns", report-only = true }]\nprobe-require = 1',
        'probe = { type = "dns", query = "example.net SOA", max-serial-lag = 1 }', 'probe = { send-proxy = "v1" }',
        'probe = { tls = "implicit", tls-name = "www.example.net", tls-verify = false }',
        '[vrrp.r]\ninterface = "eth0"\nvrid = 1\naddresses = ["10.0.0.1"]\n[sync-group.g]\nvrrp = ["r"]',
        '[notify.n]\nfifo = "/run/x"\nto = ["active", "stop"]', '[notify.n]\nfifo = "/run/x"\nto = ["up", "down", "reserve"]',
        *(f'probe = {{ type = "{kind}"{more} }}' for kind, more in PROBES.items()),
    ],
)  # fmt: skip
def test_what_is_there_and_what_says_its_default_runs(loaded, rest):
    """What this version does is not refused, nor is a later key that says its default."""
    assert unsupported(loaded(HEAD + rest + "\n")) == []


def test_a_probe_that_cannot_be_made_is_refused_at_its_place(loaded):
    """What only a probe's library can tell, as of an LDAP filter, is an error of `run` at that probe, not a verdict."""
    text = HEAD + 'probe = { type = "ldap", base = "dc=example,dc=net", filter = "(no filter)" }\n'
    found = unsupported(loaded(text.replace('{ address = "10.0.0.12" }', '"10.0.0.12"')))
    assert {(item.line, item.col) for item in found} == {(4, 9)}
    assert "this ldap probe cannot be created" in found[0].message


def test_an_address_alone_runs(loaded, said):
    """A pair that only moves an address needs no service, and `check` has nothing to say of it."""
    text = '[vrrp.r]\ninterface = "eth0"\nvrid = 1\naddresses = ["10.0.0.1"]\n'
    assert unsupported(loaded(text)) == []
    assert said(text) == []


def test_nothing_to_run_is_refused(loaded):
    """A configuration without any service or router is an error for `run`."""
    assert [item.message for item in unsupported(loaded("[node]\nworkers = 1\n"))] == [
        "neither [service.NAME] nor [vrrp.NAME]: there is nothing to run"
    ]


def test_a_configuration_from_json_is_refused_too(write):
    """A configuration that lost its places on the channel is still refused, by the name of its file."""
    path = write("[node]\nworkers = 1\n")
    (found,) = unsupported(Config.model_validate(load(path).model_dump(mode="json")))
    assert (found.file, found.message.partition(":")[0]) == (str(path), "neither [service.NAME] nor [vrrp.NAME]")
