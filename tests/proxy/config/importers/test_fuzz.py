"""Anything at all is either refused at a place, or printed as a file that `check` accepts; never a traceback (S1)."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.importers import dnsdist, haproxy, haproxy_proxies, haproxy_servers, keepalived, keepalived_scripts
from proxy.config.importers.convert import convert
from proxy.config.importers.keepalived_checks import CHECKERS
from proxy.config.importers.lexer import UnreadableError
from proxy.words import printable
from tests.proxy.config.importers.bed import judge

PATIENT = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

VALUES = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.10/24",
    "fd00::1",
    "fe80::1",
    "300.1.1.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.18",
    "localhost",
    "www.example.net",
    "80",
    "53",
    "0",
    "-1",
    "1",
    "3",
    "65536",
    "99999999999",
    "1.5",
    ".5",
    "1s",
    "10ms",
    "5m",
    "eth0",
    "eth1",
    "lo",
    "TCP",
    "UDP",
    "SCTP",
    "NAT",
    "DR",
    "rr",
    "wlc",
    "nosuch",
    "MASTER",
    "on",
    "off",
    "yes",
    "/bin/true",
    "/nosuch/script",
    "x",
    "é",
    "\u202e",
    "\x01",
    "*",
    "*:80",
    ":443",
    "[::]:53",
    "10.0.0.1:53",
    "10.0.0.2:53-55",
    "example.net",
    "SOA",
    "200-299",
    "PASS",
]

KEEPALIVED = [
    "global_defs", "vrrp_instance", "vrrp_sync_group", "vrrp_script", "virtual_server", "virtual_server_group", "real_server",
    "sorry_server", "interface", "virtual_router_id", "priority", "advert_int", "virtual_ipaddress", "track_interface", "track_script",
    "group", "unicast_peer", "unicast_src_ip", "authentication", "notify_master", "notify", "script", "weight", "lb_algo", "lb_kind",
    "protocol", "persistence_timeout", "persistence_granularity", "quorum", "hysteresis", "delay_loop", "url", "path", "digest",
    "status_code", "connect_port", "retry", "misc_path", "payload", "require_reply", "router_id", "notification_email", "smtp_alert",
    "fwmark", "dev", "include", "@a", "@^b", "$X=1", "$X", "${X}", "~SEQ(i, 1, 3)", "~LST({i, j}, {1, 2}, {3, 4})", "$i",
    *CHECKERS, *keepalived_scripts.NOTIFY, *keepalived_scripts.SERVED, "lvs_notify_fifo", "smtp_alert_checker", "no",
]  # fmt: skip
HAPROXY = [
    "global", "defaults", "frontend", "backend", "listen", "peers", "bind", "server", "default-server", "balance", "timeout", "option",
    "maxconn", "stick-table", "stick", "tcp-request", "acl", "use_backend", "default_backend", "tcp-check", "http-check", "mode", "source",
    "if", "{", "}", "src", "dst_port", "connection", "reject", "type", "ip", "expire", "check", "inter", "ssl", "crt", "httpchk",
    "mysql-check", "user", "send", "expect", "string", "connect", "port", "client", "weight", "backup", "send-proxy", "f", "b", "roundrobin",
    "on-marked-down", "shutdown-sessions", "!", "||", "tcp", "http", "from", "log", "hash-type", "consistent", "external-check", "command",
    *haproxy_servers._ALWAYS, *list(haproxy_proxies._LEFT)[:20],
]  # fmt: skip
LUA = [
    "newServer", "setLocal", "addLocal", "setACL", "addACL", "addAction", "MaxQPSIPRule", "NetmaskGroupRule", "DropAction", "PoolAction",
    "AllRule", "DSTPortRule", "NotRule", "setServerPolicy", "firstAvailable", "whashed", "(", ")", "{", "}", "=", ",", "..", ":", ".", "[",
    "]", "'", '"', "--", "--[[", "]]", "function", "end", "if", "then", "for", "do", "local", "x", "y", "not", "true", "nil", "-", "+",
    "address=", "order=", "weight=", "pool=", "qps=", "checkName=", "source=", "name=", "newNMG", "addMask", "getPool", "setUDPTimeout",
    *list(dnsdist._LEFT)[:20],
]  # fmt: skip
YAML = [
    "binds:", "backends:", "- ", "  ", "    ", "listen_address:", "address:", "protocol:", "Do53", "acl:", "health_checks:", "interval:",
    "query_rules:", "selector:", "action:", "type:", "MaxQPSIP", "qps:", "Drop", "{", "}", "[", "]", ",", "'", '"', "&a", "*a", "!!int", "|",
    "tuning:", "udp:", "timeout:", "pools:", "name:", "policy:", "true", "null", "load_balancing_policies:", "default_policy:", "order:",
]  # fmt: skip


def soup(words, joint=" "):
    """Return texts of words of a language, values, braces and lines in any order."""
    return st.lists(
        st.sampled_from([*words, *VALUES, "{\n", "}\n", "\n", "\n", "#", "!", '"', "\\", "\t"]), max_size=60
    ).map(joint.join)


def sound(program, name, text):
    """Import a text: a place with a reason, or a file without errors."""
    refused = None
    try:
        printed, ledger = convert(program, [(name, text)], lambda _: [], judge)
    except UnreadableError as error:
        refused = error
    if refused is not None:
        assert 1 <= refused.place.line <= text.count("\n") + 2
        assert refused.place.col >= 1
        assert str(refused)
        return
    assert not [item for item in judge(printed) if printed and item.severity == "error"]
    assert "Traceback" not in printed
    for note in ledger.notes:
        assert printable(str(note)) == str(note)


@pytest.mark.parametrize("name", ["keepalived.conf", "haproxy.cfg", "dnsdist.conf", "dnsdist.yml"])
@PATIENT
@given(content=st.binary(max_size=400))
def test_any_bytes(name, content):
    """Any bytes, read as the command reads them, are refused at a place or imported."""
    sound(name.partition(".")[0], name, content.decode(errors="replace"))


@pytest.mark.parametrize(
    ("name", "words"),
    [("keepalived.conf", KEEPALIVED), ("haproxy.cfg", HAPROXY), ("dnsdist.conf", LUA), ("dnsdist.yml", YAML)],
)
@PATIENT
@given(data=st.data())
def test_any_words_of_the_language(name, words, data):
    """The words of a format with any values in any order are refused at a place or imported."""
    text = data.draw(soup(words, "" if name.endswith("yml") else " "))
    sound(name.partition(".")[0], name, text)


def block(words, depth=2):
    """Return a block of keepalived's statements with random values, correctly nested."""
    line = st.tuples(st.sampled_from(words), st.lists(st.sampled_from(VALUES), max_size=3)).map(
        lambda each: " ".join([each[0], *each[1]])
    )
    if depth == 0:
        return st.lists(line, max_size=5).map("\n".join)
    inner = st.tuples(line, st.deferred(lambda: block(words, depth - 1))).map(
        lambda each: f"{each[0]} {{\n{each[1]}\n}}"
    )
    return st.lists(st.one_of(line, inner), max_size=5).map("\n".join)


@PATIENT
@given(text=block([word for word in KEEPALIVED if word[0] not in "@~"], 3))
def test_keepalived_blocks(text):
    """Well nested blocks with any words and values are imported."""
    sound("keepalived", "keepalived.conf", text)


@PATIENT
@given(
    instance=st.lists(st.tuples(st.sampled_from(KEEPALIVED[8:24]), st.sampled_from(VALUES)).map(" ".join), max_size=12),
    server=st.lists(
        st.tuples(st.sampled_from(KEEPALIVED[25:45]), st.sampled_from(VALUES), st.sampled_from(VALUES)).map(" ".join),
        max_size=9,
    ),
    checker=st.sampled_from(CHECKERS),
)
def test_keepalived_values(instance, server, checker):
    """A router and a service with any values in the right places are imported."""
    lines = "\n".join(instance)
    more = "\n".join(server)
    text = (
        f"vrrp_instance V {{\ninterface eth0\nvirtual_router_id 7\nvirtual_ipaddress {{ 10.0.0.10/24 }}\n{lines}\n}}\n"
        f"virtual_server 10.0.0.10 80 {{\n{more}\nreal_server 10.0.0.1 80 {{\n{more}\n{checker} {{\n{more}\n}}\n}}\n}}\n"
    )
    sound("keepalived", "keepalived.conf", text)


@PATIENT
@given(
    front=st.lists(
        st.tuples(st.sampled_from(HAPROXY[6:30]), *[st.sampled_from([*HAPROXY[6:], *VALUES])] * 3).map(" ".join),
        max_size=8,
    ),
    back=st.lists(
        st.tuples(st.sampled_from(HAPROXY[6:30]), *[st.sampled_from([*HAPROXY[6:], *VALUES])] * 4).map(" ".join),
        max_size=8,
    ),
)
def test_haproxy_values(front, back):
    """A frontend and a backend with any values in the right places are imported."""
    lines, more = "\n ".join(front), "\n ".join(back)
    sound(
        "haproxy",
        "haproxy.cfg",
        f"frontend f\n bind :80\n default_backend b\n {lines}\nbackend b\n server a 10.0.0.1:80\n {more}\n",
    )


CONDITION = st.lists(
    st.sampled_from(["if", "unless", "{", "}", "!", "||", "or", "!a", "a", "b", "src", "dst_port", "src_conn_cur", "gt", "10.0.0.0/8", "25:30", "-f"]),
    max_size=7,
).map(" ".join)  # fmt: skip


@PATIENT
@given(
    rules=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "tcp-request connection reject",
                    "tcp-request connection accept",
                    "use_backend b",
                    "acl a",
                    "acl b",
                    "acl",
                ]
            ),
            CONDITION,
        ).map(" ".join),
        max_size=6,
    )
)
def test_haproxy_conditions(rules):
    """Rules with any conditions are imported."""
    lines = "\n ".join(rules)
    sound(
        "haproxy",
        "haproxy.cfg",
        f"frontend f\n bind :25\n default_backend b\n {lines}\nbackend b\n server a 10.0.0.1:80\n",
    )


@PATIENT
@given(
    one=st.lists(st.tuples(st.sampled_from(KEEPALIVED[8:24]), st.sampled_from(VALUES)).map(" ".join), max_size=8),
    two=st.lists(st.tuples(st.sampled_from(KEEPALIVED[8:24]), st.sampled_from(VALUES)).map(" ".join), max_size=8),
)
def test_two_hosts(one, two):
    """Two files that differ in any way become one file that is sound for both hosts."""
    text = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 7\nvirtual_ipaddress { 10.0.0.10/24 }\n%s\n}\n"
    files = [("a.conf", text % "\n".join(one)), ("b.conf", text % "\n".join(two))]
    try:
        printed, _ = convert("keepalived", files, lambda _: [], judge)
    except UnreadableError:
        return
    assert not [item for item in judge(printed) if printed and item.severity == "error"]


@PATIENT
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(LUA[:16]), st.lists(st.sampled_from([f'"{each}"' for each in VALUES] + ["3", "{}", "true", "x", '{"10.0.0.0/8"}', "AllRule()", "DropAction()", 'PoolAction("p")']), max_size=3)).map(
            lambda each: f"{each[0]}({', '.join(each[1])})"
        ),
        max_size=8,
    )
)  # fmt: skip
def test_dnsdist_values(calls):
    """Calls with any arguments are imported."""
    sound("dnsdist", "dnsdist.conf", "\n".join(["newServer{address='10.0.0.1', order=2}", *calls]))


def test_deep_nesting_is_refused():
    """Blocks, tables and calls that are nested too deeply are errors at a place."""
    for program, text in (
        ("keepalived", "a {\n" * 500),
        ("dnsdist", "x(" * 5000),
        ("dnsdist", "newServer" + "{" * 5000),
        ("dnsdist", "x = " + "f(" * 3000),
    ):
        with pytest.raises(UnreadableError):
            convert(program, [("a.conf", text)], lambda _: [], judge)
    with pytest.raises(UnreadableError):
        convert("dnsdist", [("a.yml", "[" * 5000)], lambda _: [], judge)


def test_definitions_that_explode_are_refused():
    """Definitions that contain each other, and sequences without end, are errors at a place."""
    bomb = (
        "$A=x\n"
        + "\n".join(f"${chr(66 + n)}=${{{chr(65 + n)}}}${{{chr(65 + n)}}}${{{chr(65 + n)}}}" for n in range(20))
        + "\n${U}\n"
    )
    for text in (bomb, "$A=${A} x\n${A}\n", "~SEQ(a, 1, 0, 5) x\n", "~SEQ(a, 1, 900000) ~SEQ(b, 1, 900000) x\n"):
        with pytest.raises(UnreadableError):
            keepalived.convert([("a.conf", text)], lambda _: [], haproxy.Ledger())
    with pytest.raises(UnreadableError):
        keepalived.convert(
            [("/a.conf", "include /a.conf")], lambda _: [("/a.conf", "include /a.conf")], haproxy.Ledger()
        )
