"""The example files: valid, and run by this version where they say so.

They are copied first: root obeys no file in a checkout of another user.
"""

import ipaddress
import re
import shutil
from pathlib import Path

import pytest

from proxy.config import diagnose, unsupported

EXAMPLES = {path.stem: path for path in (Path(__file__).parents[1] / "examples").glob("*.toml")}
RUNS = {"minimal", "dns-ldap-mysql"}
DOCUMENTATION = [
    ipaddress.ip_network(block)
    for block in (
        "10.0.0.0/8",
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",
        "fd00::/8",
        "127.0.0.0/8",
    )
]


def test_the_examples_that_the_documentation_names_are_there():
    """There is a minimal example, one of the main job, and one of everything."""
    assert {"minimal", "dns-ldap-mysql", "mail-hosting"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_has_no_errors(name, tmp_path):
    """`steelyard check` finds no error in an example, on any node."""
    config, found = diagnose(shutil.copy(EXAMPLES[name], tmp_path))
    assert config is not None, [str(item) for item in found]


@pytest.mark.parametrize("name", sorted(RUNS))
def test_this_version_runs_what_it_says_it_runs(name, tmp_path):
    """`steelyard run` refuses no key of the examples that are not about later features."""
    config, _ = diagnose(shutil.copy(EXAMPLES[name], tmp_path))
    assert unsupported(config) == []


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_points_at_nobody(name):
    """Every address in an example is private or of documentation."""
    for text in re.findall(r'[\["\s]((?:\d+\.){3}\d+|[0-9a-f]+:[0-9a-f:]+:[0-9a-f:]*)', EXAMPLES[name].read_text()):
        address = ipaddress.ip_address(text)
        assert any(address in block for block in DOCUMENTATION if block.version == address.version), text
