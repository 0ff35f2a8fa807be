"""The names of the schedulers."""

import re

import pytest

from proxy.balance import names

DOCUMENTED = (
    "round-robin (rr, wrr), least-connections (lc, wlc), shortest-expected-delay (sed), never-queue (nq), "
    "source-hash (sh), destination-hash (dh), maglev (mh), destination-affinity (lblc), "
    "destination-affinity-replicated (lblcr), failover (fo), overflow (ovf), random-two, least-latency"
)


def test_every_documented_name_and_alias_is_known():
    """The canonical names and the aliases are exactly those of the documentation, in its order."""
    found = [
        (name, tuple(aliases.split(", ")) if aliases else ())
        for name, aliases in re.findall(r"([a-z-]+)(?: \(([a-z, ]+)\))?(?:, |$)", DOCUMENTED)
    ]
    assert [name for name, _ in found] == list(names.SCHEDULERS)
    assert {alias: name for name, aliases in found for alias in aliases} == dict(names.ALIASES)


@pytest.mark.parametrize(
    ("written", "name"),
    [("wlc", "least-connections"), ("maglev", "maglev"), ("MH", None), ("roundrobin", None), ("", None)],
)
def test_canonical(written, name):
    """A name stands for itself, an alias for its scheduler, and anything else for nothing."""
    assert names.canonical(written) == name
