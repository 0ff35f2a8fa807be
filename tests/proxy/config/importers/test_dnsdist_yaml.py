"""dnsdist's YAML as the calls that mean the same."""

import sys

import pytest

from proxy.config.importers.dnsdist_lua import Name, Table
from proxy.config.importers.dnsdist_yaml import Yaml
from proxy.config.importers.lexer import UnreadableError


def read(text):
    return list(Yaml("f.yml", text).statements())


def test_backends_and_binds():
    """A backend is newServer with the Lua names of its settings, a bind addLocal; both know their places."""
    local, server = read(
        "binds:\n  - listen_address: 10.0.0.1:53\n    reuseport: true\n    tcp:\n      listen_queue_size: 5\n"
        "backends:\n  - address: 10.0.0.2\n    use_client_subnet: true\n    health_checks:\n      interval: 5\n      max_failures: 3\n"
    )
    assert (local.name, local.args[0], local.options) == (
        "addLocal",
        "10.0.0.1:53",
        {"reusePort": True, "tcpListenQueueSize": 5.0},
    )
    assert server.options == {
        "address": "10.0.0.2",
        "useClientSubnet": True,
        "checkInterval": 5.0,
        "maxCheckFailures": 3.0,
    }
    assert [each.place.line for each in server.statement.inner] == [7, 8, 10, 11]


def test_encrypted_listeners_keep_their_kind():
    """A listener for encrypted queries is not taken for a plain one."""
    (call,) = read("binds:\n  - listen_address: 10.0.0.1:853\n    protocol: DoT\n")
    assert call.name == "addTLSLocal"


def test_rules():
    """A rule is addAction with its selector and action; a selector may have a name."""
    text = (
        "selectors:\n  - {name: lan, type: NetmaskGroup, netmasks: [10.0.0.0/8]}\n"
        "query_rules:\n  - selector: {type: MaxQPSIP, qps: 5}\n    action: {type: Drop}\n"
        "  - selector: {type: Not, selector: {type: ByName, selector_name: lan}}\n    action: {type: RCode, rcode: Refused}\n"
    )
    one, two = read(text)
    assert [(each.name, each.args) for each in one.args] == [("MaxQPSIPRule", [5.0]), ("DropAction", [])]
    rule, action = two.args
    assert (rule.name, rule.args[0].name, rule.args[0].args) == (
        "NotRule",
        "NetmaskGroupRule",
        [Table(items=["10.0.0.0/8"])],
    )
    assert (action.name, action.args) == ("RCodeAction", ["Refused"])


def test_settings():
    """Other settings are the calls of the same name in Lua; a section without any is one statement."""
    found = read(
        "load_balancing_policies:\n  default_policy: firstAvailable\ntuning:\n  udp:\n    timeout: 3\nacl: [10.0.0.0/8]\nwebserver:\n  password: x\n"
    )
    assert [(each.name, each.args) for each in found] == [
        ("setServerPolicy", [Name("firstAvailable")]),
        ("setUDPTimeout", [3.0]),
        ("setACL", [Table(items=["10.0.0.0/8"])]),
        ("webserver", []),
    ]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1", (1, 6), "not YAML"),
        ("a: 1\nb: *c", (2, 4), "aliases"),
        ("- a", (1, 1), "mapping"),
        ("", (1, 1), "mapping"),
        ("a: \x00", (1, 1), "not YAML"),
        ("a: 1\n\tb: 2", (2, 1), "not YAML"),
    ],
)
def test_what_is_not_of_the_format(text, place, words):
    """Wrong YAML, aliases and anything but a mapping are errors at their place."""
    with pytest.raises(UnreadableError, match=words) as error:
        read(text)
    assert error.value.place[1:] == place


def test_without_the_library(monkeypatch):
    """Without PyYAML the error says what to install."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UnreadableError) as error:
        read("a: 1")
    assert "steelyard[yaml]" in error.value.hint
