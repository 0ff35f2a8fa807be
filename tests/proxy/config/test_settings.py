"""The defaults of the reference, and relations within a table."""

import pytest
from pydantic import ValidationError

from proxy.balance.names import ALIASES, SCHEDULERS
from proxy.config import settings
from proxy.config.settings import (
    ControlSettings,
    DnsSettings,
    Eject,
    LogSettings,
    NodeSettings,
    ServiceSettings,
    TcpSettings,
    UdpSettings,
    WebSettings,
)


def test_the_defaults_of_the_reference():
    """Every default is that of the reference, in seconds."""
    service = ServiceSettings()
    assert (service.scheduler, service.hash_on, service.probe_require) == ("least-connections", "source", "all")
    assert (service.quorum, service.quorum_hysteresis, service.fail_open, service.failback) == (1, 0, False, True)
    assert (service.on_failback, service.on_down, service.drain_timeout) == ("keep", "keep", 3600.0)
    assert service.tcp == TcpSettings(
        connect_timeout=3.0, idle_timeout=3600.0, fin_timeout=30.0, keepalive=120.0, user_timeout=30.0, backlog=4096
    )
    assert service.udp == UdpSettings(idle_timeout=120.0, max_sessions=65536, when_full="drop-new", per_datagram=False)
    assert service.dns == DnsSettings(retry_after=0.4, give_up=4.5, idle_timeout=10.0, client_subnet="off")
    assert service.eject == Eject(errors=0, time=30.0, max_share=0.1)
    assert ControlSettings() == ControlSettings(socket="/run/steelyard/control.sock", group=None)
    assert WebSettings() == WebSettings(listen=("127.0.0.1:9600",), allow=("127.0.0.0/8", "::1/128"))
    assert LogSettings() == LogSettings(level="info", format="text", connections="failed", connections_to="stdout")


def test_the_nodes_defaults_come_from_the_host(monkeypatch):
    """Workers are the processors that the process may use; the user is steelyard where there is one, else nobody."""
    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda _: {1, 2, 3})
    monkeypatch.setattr(settings.pwd, "getpwnam", lambda _: None)
    assert (NodeSettings(name="a").workers, NodeSettings(name="a").user) == (3, "steelyard")

    def unknown(name):
        raise KeyError(name)

    monkeypatch.setattr(settings.pwd, "getpwnam", unknown)
    assert NodeSettings(name="a").user == "nobody"
    assert (NodeSettings(name="a").state_dir, NodeSettings(name="a").stop_timeout) == ("/var/lib/steelyard", 30.0)


@pytest.mark.parametrize("name", [*SCHEDULERS, *ALIASES])
def test_every_scheduler_has_one_name(name):
    """A scheduler may be written with its name or ipvsadm's alias; what is kept is the name."""
    assert ServiceSettings(scheduler=name).scheduler == ALIASES.get(name, name)


@pytest.mark.parametrize(
    ("model", "keys", "words"),
    [
        (ServiceSettings, {"scheduler": "round_robin"}, "unknown scheduler"),
        (ServiceSettings, {"scheduler": 5}, "valid string"),
        (ServiceSettings, {"probe_require": 0}, "at least 1"),
        (ServiceSettings, {"probe_require": True}, '"all", "any" or the number'),
        (ServiceSettings, {"hash_on": "query-name"}, 'needs protocol = "dns"'),
        (ServiceSettings, {"transparent": True, "source_addresses": ["10.0.0.1"]}, "exclude each other"),
        (DnsSettings, {"retry_after": 5.0}, "not below give-up"),
        (DnsSettings, {"retry_after": 0.0}, "greater than or equal"),
        (TcpSettings, {"idle_timeout": 0.0}, "greater than or equal"),
        (UdpSettings, {"max_sessions": 0}, "greater than or equal"),
        (NodeSettings, {"name": "a", "workers": 257}, "less than or equal"),
        (ControlSettings, {"socket": "/" + "x" * 107}, "at most 107 bytes"),
    ],
)
def test_what_a_table_cannot_say(model, keys, words):
    """A value out of its bounds, or two that exclude each other, is refused."""
    with pytest.raises(ValidationError, match=words):
        model(**keys)


def test_a_probe_count_is_a_number():
    """H15: probe-require is a word or a count."""
    assert ServiceSettings(probe_require=2).probe_require == 2
    assert ServiceSettings(probe_require="any").probe_require == "any"
