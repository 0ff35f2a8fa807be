"""The command `config`."""

import json

from proxy.backends.effective import Running
from proxy.commands.config import config_handler, encoded
from proxy.config.loader import load
from proxy.control.server import Request
from proxy.stats.slots import Slots
from proxy.status.slices import finished

FILE = """
[node]
name = "n"
[service.a]
listen = ["192.0.2.1:53/tcp"]
backends = ["192.0.2.11", { address = "192.0.2.12", weight = 3 }]
[service.b]
listen = ["192.0.2.1:54/tcp"]
backends = ["192.0.2.11"]
"""
ASKED = Request("config", {}, 1, 0)


def loaded(directory):
    """Return the configuration of a file."""
    path = directory / "steelyard.toml"
    path.write_text(FILE)
    return load(path)


def test_the_whole_configuration(tmp_path):
    """What is encoded in slices is what the model says as a whole."""
    config = loaded(tmp_path)
    assert json.loads(finished(encoded(config))) == config.model_dump(mode="json", by_alias=True)


async def test_made_once_for_each(tmp_path):
    """R14: the answer is made once for each configuration, and anew when another one is in force."""
    running = Running(loaded(tmp_path), Slots(16), Slots(64))
    handler = config_handler(running)
    first = await handler(ASKED)
    assert await handler(ASKED) is first
    service = running.services["b"]
    running.replace(service.model_copy(update={"quorum": 7}))
    assert json.loads(b"{" + await handler(ASKED) + b"}")["config"]["services"][1]["quorum"] == 7
