"""keepalived's virtual servers."""

import pytest

from tests.proxy.config.importers.bed import bring, only

REAL = "real_server 10.0.0.1 80 {\nTCP_CHECK {\n}\n}\nreal_server 10.0.0.2 80 {\nTCP_CHECK {\n}\n}\n"


def served(lines="", head="virtual_server 10.0.0.10 80", real=REAL, more=""):
    """Import a service."""
    return bring("keepalived", f"{more}\n{head} {{\n{lines}\n{real}\n}}\n")


def service(*args, **more):
    return only(served(*args, **more).tables["service"])


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("", "listen", ["10.0.0.10:80/tcp"]),
        ("protocol UDP", "listen", ["10.0.0.10:80/udp"]),
        ("", "backends", ["10.0.0.1", "10.0.0.2"]),
        ("lb_algo wlc", "scheduler", "least-connections"),
        ("lvs_sched mh", "scheduler", "maglev"),
        ("lb_algo sh\nsh-port\nsh-fallback", "hash-on", "source-port"),
        ("persistence_timeout 50", "persistence", {"timeout": "50s"}),
        ("persistence_timeout", "persistence", {"timeout": "6m"}),
        (
            "persistence_granularity 255.255.255.0\npersistence_timeout 60",
            "persistence",
            {"timeout": "1m", "ipv4-prefix": 24},
        ),
        ("persistence_timeout 60\npersistence_granularity 64", "persistence", {"timeout": "1m", "ipv6-prefix": 64}),
        ("protocol UDP\nops", "udp", {"per-datagram": True}),
        ("quorum 2", "quorum", 2),
        ("alpha\ninhibit_on_failure", "on-down", None),
    ],
)
def test_words_of_a_service(lines, key, value):
    """Each word of a virtual server becomes its key."""
    assert service(lines).get(key) == value


def test_a_quorum_with_hysteresis():
    """Keepalived loses the quorum below quorum - hysteresis and has it again at quorum + hysteresis: so does the service."""
    real = "".join(f"real_server 10.0.0.{n} 80 {{\n}}\n" for n in range(1, 11))
    found = service("quorum 7\nhysteresis 2", real=real)
    assert (found["quorum"], found["quorum-hysteresis"]) == (5, 4)
    assert "not their weights" in served("quorum 2\nweight 3").note("quorum 2")


def test_a_sorry_server_is_an_unprobed_backup():
    """The sorry server stands by and is not probed, as with keepalived."""
    assert service("sorry_server 10.0.0.9 8080")["backends"][-1] == {
        "address": "10.0.0.9", "port": 8080, "backup": True, "probe": {"type": "none"}
    }  # fmt: skip


def test_real_servers():
    """Weights, limits and ports are the backend's; a server twice with two ports has two names."""
    real = "real_server 10.0.0.1 81 {\nweight 3\nuthreshold 100\n}\nreal_server 10.0.0.1 82 {\nweight 0\n}\nreal_server 10.0.0.2 80 {\n}\n"
    found = served(real=real)
    assert only(found.tables["service"])["backends"] == [
        {"address": "10.0.0.1", "name": "10.0.0.1:81", "port": 81, "weight": 3, "max-connections": 100},
        {"address": "10.0.0.1", "name": "10.0.0.1:82", "port": 82, "weight": 0},
        "10.0.0.2",
    ]
    assert only(found.tables["service"])["probe"] == {"type": "none"}
    assert "all count as up" in found.note("no server is probed")


@pytest.mark.parametrize("kind", ["NAT", "DR", "TUN"])
def test_servers_see_this_hosts_address(kind):
    """Whatever the kind, servers no longer see the client's address, unless transparent or by PROXY: that is said."""
    note = served(f"lb_kind {kind}").note(f"lb_kind {kind}")
    assert "transparent = true" in note
    assert 'send-proxy = "v2"' in note


def test_groups_have_ranges():
    """A group's addresses, also ranges of their last part, are one `listen`; a firewall mark in it is told."""
    group = "virtual_server_group G {\n10.0.0.10 80\n10.0.1.3-5 81\nfd00::9-a 82\nfwmark 1\n10.0.0.9-1 80\n}\n"
    found = served(head="virtual_server group G", more=group)
    assert only(found.tables["service"])["listen"] == [
        "10.0.0.10:80/tcp", "10.0.1.3:81/tcp", "10.0.1.4:81/tcp", "10.0.1.5:81/tcp", "[fd00::9]:82/tcp", "[fd00::a]:82/tcp"
    ]  # fmt: skip
    assert "no firewall marks" in found.note("fwmark 1")
    assert "runs backwards" in found.note("10.0.0.9-1")


def test_a_service_listens_on_its_router():
    """A virtual server on the only address of a router listens on the router by name."""
    router = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.10/24\n%s\n}\n}\n"
    assert service(more=router % "")["listen"] == ["V:80/tcp"]
    assert service(more=router % "10.0.0.11/24")["listen"] == ["10.0.0.10:80/tcp"]


def test_dns_is_told_of():
    """A UDP service on port 53 is told of protocol = "dns"."""
    assert 'protocol = "dns"' in served("protocol UDP", head="virtual_server 10.0.0.10 53").note(
        "each query is balanced"
    )


@pytest.mark.parametrize(
    ("head", "lines", "word", "words"),
    [
        ("virtual_server fwmark 1", "", "fwmark 1", "no firewall marks"),
        ("virtual_server 10.0.0.10", "", "10.0.0.10:", "all ports"),
        ("virtual_server group nosuch", "", "nosuch", "no such virtual_server_group"),
        ("virtual_server 10.0.0.10 80", "protocol SCTP", "virtual_server", "not relayed"),
    ],
)
def test_services_that_have_no_form(head, lines, word, words):
    """A service that cannot be is told with why, and everything in it counts as left out."""
    found = served(lines, head=head)
    assert words in found.note(word)
    assert found.text == ""
    assert found.counts["left"] >= 5


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lb_algo frr", "no such scheduler"),
        ("persistence_engine sip", "no payload"),
        ("omega", "daemon ends"),
        ("ha_suspend", "both hosts"),
        ("ops", "UDP"),
        ("persistence_granularity x", "neither"),
        ("lb_algoo rr", 'did you mean "lb_algo"?'),
    ],
)
def test_what_a_service_loses(line, words):
    """What has no key here is told at its line, and stands as a comment in its table."""
    found = served(line)
    assert words in found.note(line.split()[0])
    assert f"# a.conf:3: {line.split()[0]}" in found.text


@pytest.mark.parametrize(
    ("lines", "real", "on", "to"),
    [
        ("quorum_up /bin/true", "", "http", "serving"),
        ("quorum_down /bin/true", "", "http", "refusing"),
        ("", "notify_up /bin/true", "http/10.0.0.1", "up"),
        ("", 'notify_down "/bin/true"', "http/10.0.0.1", "down"),
    ],
)
def test_scripts_of_servers(lines, real, on, to):
    """Scripts that are told of a service or a server are notifications of its states."""
    found = served(lines, real=f"real_server 10.0.0.1 80 {{\n{real}\n}}\nreal_server 10.0.0.2 80 {{\n}}\n")
    assert only(found.tables["notify"]) == {"on": [on], "to": [to], "command": ["/bin/true"]}
    assert "number and reason as its last arguments" in found.note((lines or real).split()[0])


def test_a_sorry_server_keeps_a_quorum():
    """Where a sorry server takes over, the script of a lost quorum is told later than keepalived's: it says so."""
    found = served("quorum_down /bin/true\nsorry_server 10.0.0.9 80")
    assert any("the sorry server neither" in note for note in found.notes)


def test_servers_of_one_address_are_told_apart():
    """A script of one of two servers with the same address names that one."""
    found = served(real="real_server 10.0.0.1 81 {\n}\nreal_server 10.0.0.1 82 {\nnotify_up /bin/true\n}\n")
    assert only(found.tables["notify"])["on"] == ["http/10.0.0.1:82"]


def test_a_service_without_servers():
    """A virtual server whose servers all have names instead of addresses is left out."""
    found = served(real="real_server web1 80 {\n}\n")
    assert "is a name" in found.note("real_server web1")
    assert "no real servers" in found.note("virtual_server")
