"""Services: listeners, backends, and what they say of one another."""

import pytest

HEAD = '[service.a]\nlisten = ["10.0.0.10:80/tcp"]\nbackends = ["10.0.0.11", "10.0.0.12"]\n'


def service(name="a", listen='"10.0.0.10:80/tcp"', backends='"10.0.0.11"', rest=""):
    """Return a service's text."""
    return f"[service.{name}]\nlisten = [{listen}]\nbackends = [{backends}]\n{rest}\n"


def test_listeners_are_spelt_out(loaded):
    """Each address, port and transport of `listen` is one listener; a star is both families."""
    found = loaded(
        service(listen='"*:53/udp", "[2001:db8::1]:80-81,443/tcp"', rest="backend-defaults = { port = 1 }")
    ).services[0]
    assert [listener.text for listener in found.listeners] == [
        "0.0.0.0:53/udp", "[::]:53/udp", "[2001:db8::1]:80/tcp", "[2001:db8::1]:81/tcp", "[2001:db8::1]:443/tcp",
    ]  # fmt: skip


def test_a_routers_name_is_its_addresses(loaded):
    """A vrrp name in `listen` stands for every address of that router, of both families."""
    vrrp = '[vrrp.inside]\ninterface = "eth1"\nvrid = 52\naddresses = ["10.0.0.10/24", "fd00:10::10/64"]\n'
    found = loaded(vrrp + service(listen='"inside:389/tcp"')).services[0].listeners
    assert [(listener.text, listener.vrrp) for listener in found] == [
        ("10.0.0.10:389/tcp", "inside"),
        ("[fd00:10::10]:389/tcp", "inside"),
    ]


def test_a_routers_link_local_address(loaded):
    """A router's link-local address is bound on its interface: without one it is no address to bind."""
    vrrp = '[vrrp.inside]\ninterface = "eth1"\nvrid = 52\naddresses = ["fe80::10/64", "fd00:10::10/64"]\n'
    found = loaded(vrrp + service(listen='"inside:389/tcp"')).services[0].listeners
    assert [listener.text for listener in found] == ["[fe80::10%eth1]:389/tcp", "[fd00:10::10]:389/tcp"]


@pytest.mark.parametrize("backends", ['"fe80::1"', '"[fe80::1]:80"', '{ address = "fe80::1" }'])
def test_a_link_local_backend_needs_its_interface(said, loaded, backends):
    """A link-local backend without an interface could never be reached, and is refused; with one it is a backend."""
    assert [line.partition(": write")[0][-56:] for line in said(service(backends=backends))] == [
        'error: "fe80::1" is link-local, so it needs its interface'[-56:]
    ]
    assert (
        loaded(service(backends=backends.replace("::1", "::1%eth1"))).services[0].backends[0].address == "fe80::1%eth1"
    )


def test_backends_have_names_ports_and_weights(loaded):
    """A backend is a string or a table; `backend-defaults` fill the tables in, its own keys win; its name is as written."""
    text = service(
        backends='"10.0.0.11", "10.0.0.12:81", "[2001:DB8::1]:82", { address = "10.0.0.13", name = "three", weight = 0, backup = true }',
        rest="backend-defaults = { port = 8080, weight = 7 }",
    )
    assert [
        (found.name, found.address, found.port, found.weight, found.tier) for found in loaded(text).services[0].backends
    ] == [
        ("10.0.0.11", "10.0.0.11", 8080, 7, 0),
        ("10.0.0.12:81", "10.0.0.12", 81, 7, 0),
        ("[2001:DB8::1]:82", "2001:db8::1", 82, 7, 0),
        ("three", "10.0.0.13", 8080, 0, 1),
    ]


def test_a_backend_without_a_port_keeps_the_listeners(loaded):
    """Without a port anywhere a backend has none: each listener's is used."""
    assert loaded(service()).services[0].backends[0].port is None


def test_defaults_are_merged_key_by_key(loaded):
    """[defaults] fills in what a service does not say, also inside its tables."""
    defaults = '[defaults]\nscheduler = "wlc"\ntcp = { backlog = 5, connect-timeout = "1s" }\n[defaults.backend-defaults]\nweight = 3\n'
    found = loaded(defaults + service(rest='tcp = { connect-timeout = "2s" }')).services[0]
    assert (found.scheduler, found.tcp.backlog, found.tcp.connect_timeout) == ("least-connections", 5, 2.0)
    assert found.backends[0].weight == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + 'schedular = "rr"', ['4:1 error: unknown key "schedular" | did you mean "scheduler"?']),
        (HEAD + 'scheduler = "leastconn"', ['4:13 error: unknown scheduler "leastconn" | did you mean "least-connections"?']),
        (HEAD + 'idle-timeout = "5s"', [
            '4:1 error: unknown key "idle-timeout" | "idle-timeout" belongs in [service.a.tcp] or [service.a.udp] or [service.a.dns]'
        ]),
        (HEAD + "port = 80", ['4:1 error: unknown key "port" | "port" belongs in [service.a.backend-defaults] or a backend\'s table']),
        (HEAD + "weight = 5", ['4:1 error: unknown key "weight" | "weight" belongs in [service.a.backend-defaults] or a backend\'s table']),
        (HEAD + 'balance = "rr"', ['4:1 error: unknown key "balance" | did you mean "scheduler"?']),
        (HEAD + "tcp = { backlog = 0 }", ["4:19 error: backlog = 0 is too small: at least 1"]),
        (HEAD + 'tcp = { idle_timeout = "1s" }', ['4:9 error: unknown key "idle_timeout" | did you mean "idle-timeout"?']),
        (HEAD + "tcp = 5", ["4:7 error: tcp must be a table, not 5"]),
        (HEAD + 'protocol = "udp"', ['4:12 error: protocol = "udp": must be "plain" or "dns"']),
        (HEAD + "fail-open = 1", ["4:13 error: fail-open must be true or false, not 1"]),
        (HEAD + 'hash-on = "query-name"', ['4:11 error: hash-on = "query-name" needs protocol = "dns": other traffic has no query name']),
        (HEAD + "quorum = 3", ["4:10 error: quorum = 3, but there are only 2 backends: it can never be met"]),
        (HEAD + "probe-require = 2", ["4:17 error: probe-require = 2, but only 1 of the probes count: no backend could ever be up"]),
        (HEAD + 'probe-require = "most"', ['4:17 error: probe-require is "all", "any" or the number of probes that must pass']),
        (HEAD + 'dns = { retry-after = "5s" }', [
            "4:23 error: retry-after (5s) is not below give-up (4.5s): no query would ever be retried"
        ]),
        (HEAD + 'allow = "10.0.0.0/8"', ['4:9 error: allow must be a list: [ … ], not "10.0.0.0/8" | write allow = ["10.0.0.0/8"]']),
        (HEAD + 'allow = ["10.0.0.1/8"]', ['4:10 error: "10.0.0.1/8" has bits set behind its prefix: write "10.0.0.0/8"']),
        (HEAD + "drain-timeout = 2024-01-01", [
            '4:17 error: a duration is a string with a unit: "500ms", "2s", "1h30m" or "never"'
        ]),
        (HEAD + 'transparent = true\nsource-addresses = ["10.0.0.1"]', [
            "5:20 error: source-addresses and transparent exclude each other: a connection has only one source address"
        ]),
        ("[service.a]\n", ['1:10 error: "listen" is missing in [service.a]', '1:10 error: "backends" is missing in [service.a]']),
        ('[service.a]\nlistens = ["10.0.0.1:80/tcp"]\nbackend = ["10.0.0.2"]\n', [
            '2:1 error: unknown key "listens" | did you mean "listen"?', '3:1 error: unknown key "backend" | did you mean "backends"?'
        ]),
        ("[service.a]\nlisten = []\nbackends = []\n", ["2:10 error: listen is empty", "3:12 error: [service.a] has no backends"]),
        (service(backends='"10.0.0.11", "10.0.0.11"'), ["3:26 error: 10.0.0.11 is a backend of this service already, at line 3"]),
        (service(backends='"10.0.0.11:80", { address = "10.0.0.11", port = 80 }'), [
            "3:29 error: 10.0.0.11:80 is a backend of this service already, at line 3"
        ]),
        (service(backends='"10.0.0.11", "10.0.0.12", "::ffff:10.0.0.11"'), [
            "3:39 error: 10.0.0.11 is a backend of this service already, at line 3"
        ]),
        (service(backends='"2001:db8::11", "[2001:DB8:0:0::11]"'), [
            "3:29 error: 2001:db8::11 is a backend of this service already, at line 3"
        ]),
        (service(backends='"10.0.0.11", "10.0.0.11:80"'), [
            "3:26 error: 10.0.0.11:80 is a backend of this service already, at line 3 | without a port a backend has the listener's"
        ]),
        (service(listen='"10.0.0.10:79-81/tcp"', backends='"10.0.0.11:81", "10.0.0.11"', rest="probe = { port = 1 }"), [
            "3:29 error: 10.0.0.11 is a backend of this service already, at line 3 | without a port a backend has the listener's"
        ]),
        (service(backends='{ address = "10.0.0.11", name = "x" }, { address = "10.0.0.12", name = "x" }'), [
            '3:52 error: two backends are called "x", the other at line 3 | give each a "name"'
        ]),
        (service(backends='"db1.example.net"'), [
            '3:13 error: "db1.example.net" is a name: write an IP address (the balancer does not resolve names)'
        ]),
        (service(backends='"0.0.0.0"'), ['3:13 error: "0.0.0.0" is the address of no host']),
        (service(backends='"[::]:80"'), ['3:13 error: "::" is the address of no host']),
        (service(backends='"224.0.0.1:53"'), ['3:13 error: "224.0.0.1" is a multicast address: no single host has it']),
        (service(backends='{ address = "255.255.255.255" }'), [
            '3:25 error: "255.255.255.255" is the broadcast address: no single host has it'
        ]),
        (service(listen='"224.0.0.18:53/tcp"'), ['2:11 error: "224.0.0.18" is a multicast address: no single host has it']),
        (service(rest='source-addresses = ["0.0.0.0"]'), ['4:21 error: "0.0.0.0" is the address of no host']),
        (service(rest='probe = { type = "tcp", address = "224.0.0.1" }'), [
            '4:35 error: "224.0.0.1" is a multicast address: no single host has it'
        ]),
        (service(rest='probe = { type = "dns", query = "example.net TYPE65536" }'), [
            '4:33 error: "TYPE65536" is not a record type: write for instance "example.net SOA"'
        ]),
        (service(rest=f'probe = {{ type = "udp", send = "{"x" * 65508}" }}'), [
            "4:9 error: send has 65508 bytes: a datagram carries at most 65507"
        ]),
        (service(backends='{ address = "10.0.0.11:80" }'), [
            '3:25 error: "10.0.0.11:80" has a port: in a table write address = "10.0.0.11", port = 80'
        ]),
        (service(backends='{ address = "10.0.0.11", weight = 65536 }'), ["3:47 error: weight = 65536 is too large: at most 65535"]),
        (service(backends='{ address = "10.0.0.11", tier = 2, backup = true }'), ["3:45 error: backup = true means tier = 1, but tier = 2"]),
        (service(backends="5"), ['3:13 error: a backend is an address in quotes or a table { address = "10.0.0.1" }, not 5']),
        (service(listen='"insde:80/tcp"'), [
            '2:11 error: "insde" is neither an address nor a router: there is no [vrrp.insde] | the balancer does not resolve names: write an IP address, [IPv6] in brackets, or *',
        ]),
        (service(listen='"*:1-4000/tcp"', rest="probe = { port = 1 }"), ["2:11 error: more than 4096 listeners in all"]),
    ],
)  # fmt: skip
def test_mistakes_in_services(said, text, expected):
    """Each mistake in a service is reported once, at the wrong word, with a suggestion."""
    assert said(text) == expected


def test_all_mistakes_are_told_at_once(said):
    """R1: wrong values hide neither one another, nor wrong listeners, backends, probes or relations."""
    text = (
        '[service.a]\nlisten = ["10.0.0.10:80"]\nbackends = ["x"]\nfail-open = 1\nhash-on = "query-name"\n'
        'probe = { type = "tpc" }\n[service.b]\nlisten = ["10.0.0.10:81/tcp"]\nbackends = ["10.0.0.1"]\nquorum = 0\n'
    )
    assert [line.split(" ")[0] for line in said(text)] == ["2:11", "3:13", "4:13", "5:11", "6:18", "10:10"]


def test_two_services_cannot_share_a_listener(said):
    """The same address, port and transport in two services, or twice in one, is an error that names the holder."""
    found = said(service("a") + service("b"))
    assert len(found) == 1
    assert found[0].startswith("6:11 error: 10.0.0.10:80/tcp is taken already, by [service.a], ")
    again = said(service(listen='"*:80/tcp", "*:80/tcp"'))
    assert len(again) == 1
    assert again[0].startswith("2:23 error: *:80/tcp is taken already, in this list, ")


def test_a_star_and_an_address_may_share_a_port(said):
    """A wildcard listener beside a specific one, and one port for both transports, are legal."""
    rest = 'protocol = "dns"'
    assert [
        line
        for line in said(
            service("a", '"*:53/udp", "*:53/tcp"', rest=rest) + service("b", '"10.0.0.10:53/udp"', rest=rest)
        )
        if "error" in line
    ] == []


def test_a_broken_router_is_told_once(said):
    """A router that is wrong itself is not also missing in the services that listen on it."""
    vrrp = '[vrrp.inside]\ninterface = "eth1"\nvrid = 0\naddresses = ["10.0.0.10"]\n'
    assert said(vrrp + service(listen='"inside:80/tcp"')) == ["3:8 error: vrid = 0 is too small: at least 1"]


def test_a_misspelt_router_is_suggested(said):
    """An unknown name in `listen` is compared with the routers'."""
    vrrp = '[vrrp.inside]\ninterface = "eth1"\nvrid = 1\naddresses = ["10.0.0.10"]\n'
    assert said(vrrp + service(listen='"insde:80/tcp"')) == [
        '6:11 error: "insde" is neither an address nor a router: there is no [vrrp.insde] | did you mean "inside"?'
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[services.a]\nx = 1", ['1:2 error: unknown key "services" | did you mean "service"?']),
        ('[service]\nlisten = ["*:53/udp"]', [
            "2:1 error: [service] holds tables with names of their own: write [service.NAME] before this key"
        ]),
        ("service = 5", ["1:1 error: service holds tables: write [service.NAME]"]),
        ("defaults = 5", ["1:12 error: defaults must be a table: write [defaults]"]),
        ("[defaults]\nprobe = 5", ["2:9 error: defaults.probe must be a table"]),
        ("[defaults]\nlisten = []", ['2:1 error: unknown key "listen" | "listen" belongs in each [service.NAME]']),
        ('[defaults]\nscheduler = "zzz"', None),
        ('scheduler = "rr"', ['1:1 error: unknown key "scheduler" | "scheduler" belongs in [service.NAME]']),
        ('[service."a b"]\n', ['1:10 error: "a b" is not a name: ASCII letters, digits, dots, hyphens, underscores, at most 63']),
        ("[control]\nsocket = 'x.sock'", [
            '2:10 error: "x.sock" is a relative path: write it from the root, so that it means the same everywhere'
        ]),
        (f"[control]\nsocket = '/{'x' * 120}'", ["2:10 error: the path of a unix socket has at most 107 bytes"]),
        ('[log]\nlevel = "warn"', ['2:9 error: level = "warn": must be "debug", "info", "warning" or "error" | did you mean "warning"?']),
        ('[web]\nlisten = "127.0.0.1"', ['2:10 error: "127.0.0.1" has no port: write "127.0.0.1:9600"']),
        ("[node]\nworkers = 0", ["2:11 error: workers = 0 is too small: at least 1"]),
        ('[node]\nuser = "a b"', ['2:8 error: "a b" is not a valid user name: ASCII letters, digits, ".", "_", "-", at most 32']),
    ],
)  # fmt: skip
def test_mistakes_in_the_other_tables(said, text, expected):
    """Each mistake outside the services is reported once, at the wrong word."""
    found = [line for line in said(text) if "nothing to run" not in line]
    assert found == expected or (expected is None and len(found) == 1)


@pytest.mark.parametrize("key", ["max-connections", "max-connections-per-client"])
def test_bounds_on_connections_need_tcp(said, loaded, key):
    """A bound on TCP connections is an error, at its place, of a service that listens on UDP only."""
    rest = f'{key} = 5\nprobe = {{ type = "none" }}'
    (found,) = said(service(listen='"10.0.0.10:80/udp"', rest=rest))
    assert found.startswith(
        f"4:{len(key) + 4} error: {key} bounds TCP connections, and this service listens on UDP only"
    )
    assert loaded(service(listen='"10.0.0.10:80/udp", "10.0.0.10:80/tcp"', rest=rest)).services
