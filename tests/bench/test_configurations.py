"""The configurations of `scale`."""

import pytest

from bench.configurations import GROUPS, plain
from bench.works import WORKS
from proxy.config import diagnose, unsupported

ROWS = [
    (load, row)
    for group in GROUPS.values()
    for load in group.loads
    for row in [plain(load), *group.configurations(load)]
]


class Named:
    """What a configuration needs of a work."""

    def __init__(self, name):
        kind = WORKS[name]
        self.port, self.transport, self.protocol = kind.port, kind.transport, kind.protocol


@pytest.mark.parametrize(("load", "row"), ROWS, ids=lambda one: getattr(one, "name", one))
def test_each_is_a_file_that_runs(load, row, tmp_path):
    """Each configuration is a file without errors, of keys that this version has, with as many backends as it says."""
    path = tmp_path / "steelyard.toml"
    path.write_text(row.text(Named(load), "198.51.100.20", tmp_path))
    config, diagnostics = diagnose(path)
    assert config is not None, [str(item) for item in diagnostics]
    assert unsupported(config) == []
    assert len(config.services) == row.services
    assert {len(service.backends) for service in config.services} == {row.backends}
