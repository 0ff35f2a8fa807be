"""Which services and backends a command means."""

from types import SimpleNamespace

import pytest

from proxy.commands.find import find_backends, find_keys, find_service
from proxy.control.wire import ControlError


def service(name, *backends):
    """A service with backends of these names, whose addresses are 192.0.2.1 and so on."""
    rows = [SimpleNamespace(name=one, address=f"192.0.2.{at}") for at, one in enumerate(backends, 1)]
    return SimpleNamespace(name=name, backends=rows)


SERVICES = {one.name: one for one in (service("dns", "ns1", "ns2"), service("web", "web1"))}


def test_by_name_and_by_address():
    """A backend is meant by its name or its address, in a service or, with "*", in every one that has it."""
    assert find_service(SERVICES, "dns") is SERVICES["dns"]
    assert [one.name for one in find_backends(SERVICES["dns"], "192.0.2.2")] == ["ns2"]
    assert find_keys(SERVICES, "dns", "ns1") == [("dns", "ns1")]
    assert find_keys(SERVICES, "*", "192.0.2.1") == [("dns", "ns1"), ("web", "web1")]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (("dms", "ns1"), 'there is no service "dms": did you mean "dns"?'),
        ((None, "ns1"), 'there is no service "None": only dns, web'),
        ((["dns"], "ns1"), "there is no service"),
        (("dns", "ns3"), 'dns does not have a backend "ns3": did you mean'),
        (("dns", 7), 'dns does not have a backend "7": only ns1, ns2'),
        (("*", "x" * 1000), "no service has a backend"),
    ],
)
def test_what_is_not_there(wanted, words):
    """R7: what is not there is told with what there is, and not at any length."""
    with pytest.raises(ControlError) as caught:
        find_keys(SERVICES, *wanted)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200
