"""proxy.cli.config: `steelyard config`."""

import json

from proxy.config.model import Backend, Config, Listener, Service
from proxy.config.settings import NodeSettings

CONFIG = Config(
    node=NodeSettings(name="lb1"),
    services=(
        Service(
            name="dns",
            protocol="dns",
            listeners=(Listener(address="10.0.0.10", port=53, transport="udp"),),
            backends=(Backend(name="ns1", address="10.0.0.11"),),
        ),
    ),
    sources=("/etc/steelyard/steelyard.toml",),
    sha256="ab" * 32,
)


def test_the_effective_file_is_printed(daemon, steelyard):
    """The text is a file with every default filled in, durations with their units, and where it came from."""
    daemon.config = CONFIG.model_dump(mode="json", by_alias=True)
    done = steelyard("config", "-s", daemon.path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[:2] == ["# from /etc/steelyard/steelyard.toml", f"# sha256 {'ab' * 32}"]
    assert {"[service.dns]", 'listen = ["10.0.0.10:53/udp"]', 'retry-after = "400ms"', 'name = "ns1"'} <= set(lines)


def test_as_json(daemon, steelyard):
    """With --json it is the whole configuration, which reads back equal."""
    daemon.config = CONFIG.model_dump(mode="json", by_alias=True)
    assert Config.model_validate(json.loads(steelyard("config", "--json", "-s", daemon.path).stdout)) == CONFIG


def test_secrets_are_masked(daemon, steelyard):
    """S6: whatever carries a secret's name is masked, in text and in JSON; the name of a secret's file is not."""
    daemon.config = {
        "probes": {"x": {"password": "hunter2", "password-file": "/etc/pw"}},
        "list": [{"token": "hunter2"}],
    }
    for flags in ((), ("--json",)):
        shown = steelyard("config", "-s", daemon.path, *flags).stdout
        assert "hunter2" not in shown
        assert "***" in shown
        assert "/etc/pw" in shown


def test_without_a_daemon(tmp_path, steelyard):
    """Without a daemon the exit code is 3."""
    assert steelyard("config", "-s", tmp_path / "none").returncode == 3
