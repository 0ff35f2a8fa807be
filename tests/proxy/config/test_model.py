"""The effective configuration."""

import pytest
from pydantic import ValidationError

from proxy.config.model import Config, Listener
from proxy.config.settings import NodeSettings

TEXT = '[service.a]\nlisten = ["10.0.0.10:80/tcp"]\nbackends = ["10.0.0.11"]\ntcp = { idle-timeout = "never" }\n'


@pytest.mark.parametrize(
    ("address", "transport", "text"),
    [("10.0.0.10", "udp", "10.0.0.10:53/udp"), ("::1", "tcp", "[::1]:53/tcp"), ("0.0.0.0", "tcp", "0.0.0.0:53/tcp")],
)
def test_a_listener_is_written_as_in_listen(address, transport, text):
    """A listener's text has brackets around IPv6 and names its transport."""
    assert Listener(address=address, port=53, transport=transport).text == text


def test_a_configuration_cannot_be_changed(loaded):
    """Every model is frozen: a change is a new configuration."""
    with pytest.raises(ValidationError):
        loaded(TEXT).services[0].quorum = 2


def test_the_same_words_elsewhere_are_the_same_configuration(loaded, write):
    """Where in a file something stands does not matter for equality; what it says does."""
    one = loaded(TEXT)
    two = loaded("# moved\n\n" + TEXT).model_copy(update={"sha256": one.sha256})
    assert one == two
    assert one != loaded(TEXT.replace("never", "1h")).model_copy(update={"sha256": one.sha256})
    assert one != "a text"


def test_never_survives_json(loaded):
    """An infinite duration is the word "never" in JSON."""
    assert loaded(TEXT).model_dump(mode="json")["services"][0]["tcp"]["idle_timeout"] == "never"


def test_the_least_configuration():
    """A node is all that a configuration needs to be one."""
    assert Config(node=NodeSettings(name="a")).services == ()
