"""HAProxy's sections as services."""

import pytest

from tests.proxy.config.importers.bed import bring, only

BACK = "backend b\n server s1 10.0.0.1:80 check\n server s2 10.0.0.2:80 check\n"

RATED = (
    "stick-table type ip size 1m expire 10s store conn_rate(10s)\n tcp-request connection track-sc0 src\n"
    " tcp-request connection reject if { sc0_conn_rate gt 600 }"
)


def front(lines="", bind="bind 10.0.0.10:80", back=BACK, more=""):
    """Import a frontend and a backend."""
    return bring("haproxy", f"{more}\nfrontend f\n {bind}\n default_backend b\n {lines}\n{back}")


def service(*args, **more):
    return only(front(*args, **more).tables["service"])


def back(lines, **more):
    return front(back=BACK + f" {lines}\n", **more)


@pytest.mark.parametrize(
    ("bind", "listen"),
    [
        ("bind :80", ["0.0.0.0:80/tcp"]),
        ("bind *:80,10.0.0.9:81", ["0.0.0.0:80/tcp", "10.0.0.9:81/tcp"]),
        ("bind 10.0.0.10:80-82", ["10.0.0.10:80,81,82/tcp"]),
        ("bind [fd00::1]:80", ["[fd00::1]:80/tcp"]),
        ("bind :::80 v4v6", ["*:80/tcp"]),
        ("bind [::]:80", ["*:80/tcp"]),
        ("bind :80\n bind :::80 v6only", ["0.0.0.0:80/tcp", "[::]:80/tcp"]),
        ("bind ipv4@10.0.0.10:80\n bind ipv6@fd00::1:81", ["10.0.0.10:80/tcp", "[fd00::1]:81/tcp"]),
    ],
)
def test_listeners(bind, listen):
    """Addresses and ports of `bind` are the service's, with ranges and both families."""
    assert service(bind=bind)["listen"] == listen


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("maxconn 2000", "max-connections", 2000),
        ("timeout client 30m", "tcp", {"idle-timeout": "30m"}),
        ("timeout connect 5s\n timeout client-fin 10s\n timeout client 50000", "tcp",
         {"connect-timeout": "5s", "idle-timeout": "50s", "fin-timeout": "10s"}),
        ("contimeout 2000\n clitimeout 60000", "tcp", {"connect-timeout": "2s", "idle-timeout": "1m"}),
        ("backlog 100", "tcp", {"backlog": 100}),
        ("acl bad src 192.0.2.0/24 198.51.100.1\n tcp-request connection reject if bad", "deny", ["192.0.2.0/24", "198.51.100.1/32"]),
        ("tcp-request connection reject if { src 192.0.2.0/24 }", "deny", ["192.0.2.0/24"]),
        ("tcp-request connection reject if !{ src 10.0.0.0/8 }", "allow", ["10.0.0.0/8"]),
        ("acl ok src 10.0.0.0/8\n tcp-request connection accept if ok", "allow", None),
        ("acl ok src 10.0.0.0/8\n tcp-request connection reject unless ok", "allow", ["10.0.0.0/8"]),
        ("acl ok src 10.0.0.0/8\n tcp-request connection accept if ok\n tcp-request connection reject", "allow", ["10.0.0.0/8"]),
        ("tcp-request connection reject if { src_conn_cur ge 20 }", "max-connections-per-client", 20),
        ("acl a src 10.0.0.0/8\n acl b src 10.1.0.0/16\n tcp-request connection reject if !a\n tcp-request connection reject if ! b",
         "allow", ["10.1.0.0/16"]),
        ("acl a src 10.0.0.0/8\n acl b src 192.0.2.0/24\n tcp-request connection reject unless a || b", "allow", ["10.0.0.0/8", "192.0.2.0/24"]),
        ("acl a src 10.0.0.0/8\n acl b src 192.0.2.0/24\n tcp-request connection reject if a or b", "deny", ["10.0.0.0/8", "192.0.2.0/24"]),
        (RATED, "rate-per-client", "60/s"),
        ("stick-table type ip size 1m store conn_rate(1m)\n tcp-request connection reject if { src_conn_rate gt 30 }",
         "rate-per-client", "30/m"),
    ],
)  # fmt: skip
def test_words_of_a_frontend(lines, key, value):
    """Each word of a frontend becomes its key."""
    assert service(lines).get(key) == value


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("", "scheduler", "round-robin"),
        ("balance leastconn", "scheduler", "least-connections"),
        ("balance source\n hash-type consistent", "scheduler", "maglev"),
        ("balance random(3)", "scheduler", "random-two"),
        ("stick-table type ip size 200k expire 30m\n stick on src", "persistence", {"timeout": "30m"}),
        ("stick-table type ipv6 size 1 expire 1h\n stick match src,ipmask(24,64)", "persistence",
         {"timeout": "1h", "ipv4-prefix": 24, "ipv6-prefix": 64}),
        ("source 0.0.0.0 usesrc clientip", "transparent", True),
        ("source 10.0.0.7", "source-addresses", ["10.0.0.7"]),
        ("timeout tunnel 1h\n timeout server 5m", "tcp", {"idle-timeout": "1h"}),
    ],
)  # fmt: skip
def test_words_of_a_backend(lines, key, value):
    """Each word of a backend becomes its key; HAProxy's default scheduler is written out."""
    assert only(back(lines).tables["service"]).get(key) == value


def test_defaults_are_inherited():
    """The defaults before a section count in it, those that it names with `from`, and its own lines win."""
    more = "defaults a\n mode tcp\n timeout connect 1s\n balance leastconn\ndefaults b\n timeout connect 2s\n timeout client 3s\n timeout server 3s\n"
    assert service(more=more)["tcp"] == {"connect-timeout": "2s", "idle-timeout": "3s"}
    text = f"{more}\nlisten x from a\n bind :1\n server s 10.0.0.1:1 maxconn 5\n"
    found = bring("haproxy", text)
    assert only(found.tables["service"])["tcp"] == {"connect-timeout": "1s"}
    assert "no section below uses it" in found.note("defaults b")


def test_ports_choose_the_backend():
    """A frontend with several ports whose rules send them to different backends is several services."""
    text = (
        "frontend mail\n bind 10.0.0.10:25\n bind 10.0.0.10:143-144\n acl imap dst_port 143 144\n use_backend i if imap\n"
        " default_backend s\nbackend s\n server a 10.0.0.1:25\nbackend i\n server b 10.0.0.2\n"
    )
    services = bring("haproxy", text).tables["service"]
    assert {name: table["listen"] for name, table in services.items()} == {
        "mail-smtp": ["10.0.0.10:25/tcp"], "mail-imap": ["10.0.0.10:143,144/tcp"]
    }  # fmt: skip
    assert services["mail-imap"]["backends"] == [{"address": "10.0.0.2", "name": "b"}]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("http-request set-header X-A b", "HTTP is relayed as TCP"),
        ("option forwardfor", "HTTP is relayed as TCP"),
        ("redirect scheme https", "HTTP is relayed as TCP"),
        ("log-format %ci", "one form"),
        ("acl x hdr(host) a", "src"),
        ("use_backend b if { src 10.0.0.0/8 }", "not by addresses of clients"),
        ("use_backend b unless x", "dst_port"),
        ("tcp-request connection reject", "every client"),
        ("tcp-request connection reject if { src -f /x }", "list them"),
        ("tcp-request content reject if nosuch", "no form here"),
        ("tcp-request connection reject if", "no form here"),
        ("tcp-request connection reject if { }", "no form here"),
        ("tcp-request connection reject if !{ src 10.0.0.0/8 } || { src 192.0.2.0/24 }", "no form here"),
        ("tcp-request connection reject if { src 10.0.0.0/8 } { src 192.0.2.0/24 }", "hold together"),
        ("tcp-request connection accept unless { src 10.0.0.0/8 }", "no form here"),
        ("rate-limit sessions 10", "each client"),
        ("timeout http-request 5s", "HTTP is relayed as TCP"),
        ("maxcon 10", 'did you mean "maxconn"?'),
    ],
)
def test_what_a_frontend_loses(line, words):
    """HTTP rules are refused by name, and so is what has no key here, at its line and in the table."""
    found = front(line)
    assert words in found.note(line.split()[0])
    assert f"# a.conf:5: {line.split()[0]}" in found.text


def test_tls_that_ends_here():
    """A listener that ends TLS is not carried over: clients would get the servers' clear text."""
    found = front(bind="bind :443 ssl crt /x.pem\n bind :80")
    assert only(found.tables["service"])["listen"] == ["0.0.0.0:80/tcp"]
    assert "TLS ends at the servers" in found.note("bind")
    assert front(bind="bind :443 ssl crt /x.pem").text == ""


def test_tls_that_goes_through():
    """If TLS ends at HAProxy and begins again towards every server, it goes through here, and without, servers with TLS are left out."""
    tls = "backend b\n server s1 10.0.0.1:443 ssl verify none check\n"
    found = front(bind="bind :443 ssl crt /x.pem alpn h2", back=tls)
    assert only(found.tables["service"])["listen"] == ["0.0.0.0:443/tcp"]
    assert only(found.tables["service"])["probe"]["tls"] == "implicit"
    assert "their own certificates" in found.note("bind")
    found = front(back=tls + " server s2 10.0.0.2:80\n")
    assert [row["name"] for row in only(found.tables["service"])["backends"]] == ["s2"]
    assert "no TLS towards servers" in found.note("server s1")


def test_listeners_with_and_without_a_header():
    """Only the listener with accept-proxy expects a header: it is a service of its own."""
    services = front(bind="bind :80\n bind :81 accept-proxy").tables["service"]
    assert {table["listen"][0]: table.get("accept-proxy") for table in services.values()} == {
        "0.0.0.0:80/tcp": None, "0.0.0.0:81/tcp": ["0.0.0.0/0", "::/0"]
    }  # fmt: skip


def test_http_is_relayed_as_tcp():
    """A section of mode http is carried over as TCP, with a note that says what is lost."""
    assert "relayed as TCP" in front("mode http").note("mode http")
    assert "no mode health" in front("mode health").note("mode health")


def test_accept_proxy_is_from_everybody():
    """accept-proxy needs a list of senders here: all, with a note to name them."""
    found = front(bind="bind :80 accept-proxy")
    assert only(found.tables["service"])["accept-proxy"] == ["0.0.0.0/0", "::/0"]
    assert "only your proxies" in found.note("bind")


def test_full_servers_have_a_queue():
    """HAProxy lets clients wait for a full server: so does the service, as long as `timeout queue`."""
    found = front("timeout queue 9s", back="backend b\n server s1 10.0.0.1:80 maxconn 5 maxqueue 7\n")
    assert only(found.tables["service"])["queue"] == {"size": 7, "timeout": "9s"}


def test_global():
    """Limits and the log of `global` are the node's and the log's; the rest is told."""
    text = "global\n maxconn 5000\n nbthread 4\n hard-stop-after 30s\n log 10.0.0.5 local0\n log /dev/log local1\n user haproxy\n daemon\n tune.bufsize 1\n"
    found = front("option tcplog\n log global", more=text)
    assert found.tables["node"] == {"max-connections": 5000, "workers": 4, "stop-timeout": "30s"}
    assert found.tables["log"] == {"connections-to": "udp://10.0.0.5:514", "connections": "all"}
    assert "node.user" in found.note("user")
    assert "tuned" in found.note("tune.bufsize")


@pytest.mark.parametrize(
    ("section", "words"),
    [("peers p\n peer a 10.0.0.1:1", "one host"), ("mailers m\n mailer a 10.0.0.1:25", "no mail"), ("resolvers r\n x", "addresses only"),
     ("userlist u\n user a password hunter2", "no users"), ("backend c\n server s 10.0.0.1:1", "no frontend"), ("program p\n x", "services")],
)  # fmt: skip
def test_sections_that_have_no_form(section, words):
    """Other sections are told as left out, without their passwords (S7)."""
    found = front(more="", back=f"{BACK}{section}\n")
    assert words in found.note(section.split("\n")[0])
    assert "hunter2" not in found.text + "".join(found.notes)


def test_a_disabled_section_is_left_out():
    """A disabled proxy is not a service."""
    assert "disabled" in front("disabled").note("frontend f: not")


def test_several_files_are_one_configuration():
    """As with `haproxy -f a -f b`, the files are read one after the other."""
    assert bring("haproxy", "frontend f\n bind :80\n default_backend b\n", BACK).tables["service"]["f"]["listen"] == [
        "0.0.0.0:80/tcp"
    ]
