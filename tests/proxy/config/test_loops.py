"""Backends that lead back to this host's own listeners."""

import pytest

ROUTER = '[vrrp.inside]\ninterface = "eth1"\nvrid = 52\naddresses = ["10.0.0.10/24", "fe80::10/64", "fd00:10::10/64"]\n'
WORDS = "is a listener of this service: its traffic would loop"


def service(listen, backends, name="a", rest=""):
    """Return a service's text: four lines."""
    return f"[service.{name}]\nlisten = [{listen}]\nbackends = [{backends}]\nprobe = {{ type = 'none' }}\n{rest}"


def errors(said, text):
    """Return the errors alone, without hints."""
    return [line.partition(" | ")[0] for line in said(text) if " error: " in line]


@pytest.mark.parametrize(
    ("listen", "backend"),
    [
        ('"10.0.0.10:80/tcp"', "10.0.0.10"),
        ('"10.0.0.10:80/tcp"', "10.0.0.10:80"),
        ('"10.0.0.10:53/udp"', "10.0.0.10"),
        ('"10.0.0.10:79-90/tcp"', "10.0.0.10"),
        ('"10.0.0.10:79-90/tcp"', "10.0.0.10:85"),
        ('"10.0.0.10:80/tcp"', "[::ffff:10.0.0.10]:80"),
        ('"[fd00:10:0::10]:80/tcp"', "[fd00:10::0:10]:80"),
        ('"*:80/tcp"', "127.0.0.1"),
        ('"*:80/tcp"', "127.3.2.1:80"),
        ('"*:80/tcp"', "::1"),
        ('"0.0.0.0:80/tcp"', "127.0.0.1:80"),
        ('"*:80/tcp", "10.0.0.9:81/tcp"', "10.0.0.9:80"),
    ],
)
def test_a_service_is_no_backend_of_its_own(said, listen, backend):
    """A backend that is a listener of its own service is an error at the backend, however either is written."""
    (line,) = errors(said, service(listen, f'"10.0.0.11", "{backend}"'))
    assert line == f"3:26 error: {backend} {WORDS}"


@pytest.mark.parametrize("address", ["10.0.0.10", "fe80::10%eth1", "fd00:10::10"])
@pytest.mark.parametrize("listen", ["inside", "*"])
def test_the_virtual_address_is_no_backend(said, listen, address):
    """A router's address is a backend neither of a service that listens on it by name nor of one that listens everywhere."""
    (line,) = errors(said, ROUTER + service(f'"{listen}:80/tcp"', f'"{address}"'))
    assert line == f"7:13 error: {address} {WORDS}"


def test_each_host_is_judged(said):
    """The address that one member of a pair has on its interface is found, whichever host the file is checked on."""
    text = (
        'nodes = ["lb1", "lb2"]\n' + ROUTER + 'members = { lb1 = ["10.0.0.2", "fd00:10::2"], lb2 = ["10.0.0.3", "fd00:10::3"] }\n'
        + service('"*:80/tcp"', '"10.0.0.3"')
    )  # fmt: skip
    assert errors(said, text) == [f"9:13 error: 10.0.0.3 {WORDS}"]


def test_services_that_lead_back(said):
    """A chain of services that comes back to where it began is an error at each backend on it, and shows the way."""
    text = (
        service('"10.0.0.10:80/tcp"', '"10.0.0.10:81", "10.0.0.11"')
        + service('"10.0.0.10:81/tcp"', '"10.0.0.12", "10.0.0.10:82"', "b")
        + service('"*:82/tcp"', '"10.0.0.10:80"', "c")
        + service('"10.0.0.10:83/tcp"', '"10.0.0.10:80"', "d")
    )
    assert errors(said, text) == [
        "3:13 error: 10.0.0.10:81 is a listener of [service.b], which leads back here (a -> b -> c -> a): its traffic would loop",
        "7:26 error: 10.0.0.10:82 is a listener of [service.c], which leads back here (b -> c -> a -> b): its traffic would loop",
        "11:13 error: 10.0.0.10:80 is a listener of [service.a], which leads back here (c -> a -> b -> c): its traffic would loop",
    ]


@pytest.mark.parametrize(
    "text",
    [
        service('"10.0.0.10:80/tcp"', '"10.0.0.10:81"') + service('"10.0.0.10:81/tcp"', '"10.0.0.11"', "b"),
        service('"10.0.0.10:80/tcp"', '"10.0.0.10:8080"'),
        service('"10.0.0.10:53/udp"', '"10.0.0.12"') + service('"10.0.0.12:53/tcp"', '"10.0.0.10"', "b"),
        service('"10.0.0.10:80/tcp"', '"127.0.0.1"'),
        service('"0.0.0.0:80/tcp"', '"::1"'),
        service('"*:80/tcp"', '"10.0.0.3"'),
    ],
    ids=["chain", "port", "transport", "loopback", "family", "another host"],
)
def test_what_leads_on(said, text):
    """Another service's listener, another port, transport, address or family is a backend like any other."""
    assert errors(said, text) == []


def test_many_listeners_and_backends_are_not_multiplied(said):
    """A service of 4,000 ports and as many backends is judged in a moment."""
    backends = ", ".join(f'"10.1.{number >> 8}.{number & 255}"' for number in range(4000))
    assert errors(said, service('"*:1001-3000/tcp"', backends)) == []
