"""[notify.NAME]: who is told of what, and what of it makes no sense."""

import pytest

from proxy.config.loader import diagnose

HEAD = """
[service.dns]
listen = ["10.0.0.10:53/udp"]
protocol = "dns"
allow = ["10.0.0.0/8"]
backends = ["10.0.0.11", { address = "10.0.0.12", name = "ns2" }]
[vrrp.inside]
interface = "eth0"
vrid = 1
addresses = ["10.0.0.10"]
[sync-group.all]
vrrp = ["inside"]
[notify.n]
command = ["/bin/true"]
"""


@pytest.fixture
def said(write):
    """Return a function that returns what is said of a text."""
    return lambda text: diagnose(write(text))[1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("", None),
        ('on = ["*"]\nto = ["active", "stop", "up", "down", "reserve", "serving", "refusing"]', None),
        ('on = ["inside", "all"]\nto = ["active"]', None),
        ('on = ["dns", "dns/ns2", "dns/10.*", "*/*"]\nto = ["down"]', None),
        ('on = ["dns"]\nto = ["refusing"]', None),
        ('on = ["dnz"]', 'there is no router or sync group or service or backend "dnz": nothing is told of it'),
        ('on = ["inside"]\nto = ["down"]', 'there is no backend "inside": nothing is told of it'),
        ('on = ["dns"]\nto = ["fault"]', 'there is no router or sync group "dns": nothing is told of it'),
        ('on = ["dns/ns3"]', 'there is no router or sync group or service or backend "dns/ns3": nothing is told of it'),
        ('on = ["dns/ns2"]\nto = ["refusing"]', 'there is no service "dns/ns2": nothing is told of it'),
        ('on = ["inside"]\nto = ["active", "down", "up"]', '"down" or "up": no backend is named that could be so'),
        ("batch = true", None),
    ],
)
def test_what_names_nothing(said, keys, message):
    """A glob that names nothing known is a warning, and so is a state that nothing named can have."""
    assert [item.message for item in said(HEAD + keys + "\n")] == ([message] if message else [])


def test_on_its_host_it_is_an_error(said):
    """On the host that the file is for, a name that there is not and a program that is missing are errors."""
    text = HEAD.replace("/bin/true", "/nonexistent/page") + 'on = ["dnz"]\n'
    found = said(text)
    assert [item.severity for item in found] == ["warning", "warning"]
    assert [item.on_its_host().severity for item in found] == ["error", "error"]
    assert all("of_host" not in item.as_dict() for item in found)
    (other,) = said(HEAD.replace('allow = ["10.0.0.0/8"]', 'allow = ["0.0.0.0/0"]')) or [None]
    assert other is None or other.on_its_host().severity == "warning"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('fifo = "/run/x"', "[notify.n] needs either command or fifo"),
        ('to = ["dwon"]', 'unknown state "dwon": one of'),
    ],
)
def test_what_makes_no_sense(said, keys, message):
    """A mistake is an error with its place."""
    (found,) = [item for item in said(HEAD + keys + "\n") if item.severity == "error"]
    assert found.message.startswith(message)


def test_a_fifo_has_no_batch(said):
    """A FIFO gets a line for each change anyway: `batch` is for commands."""
    text = HEAD.replace('command = ["/bin/true"]', 'fifo = "/run/x"\nbatch = true')
    assert [item.message for item in said(text)] == ["batch is for a command: a FIFO gets a line for each change"]


def test_a_state_gets_a_suggestion(said):
    """A misspelt state has the hint what was meant."""
    (found,) = [item for item in said(HEAD + 'to = ["dwon"]\n') if item.severity == "error"]
    assert found.hint == 'did you mean "down"?'
