"""proxy.commands.probe: the command `probe`."""

from types import SimpleNamespace

import pytest

from proxy.commands.probe import probe_handler
from proxy.control.server import Request
from proxy.control.wire import BUSY, ControlError


def probing(answer, **arguments):
    """Return the lines of `probe` on a service "dns" with the backends ns1 and ns2, and the keys that were asked for."""
    asked = []

    async def run(keys, patience):
        asked.append((keys, patience))
        return answer(keys)

    probe = SimpleNamespace(timeout=2.5)
    backends = [
        SimpleNamespace(name=name, address=f"10.0.0.{at}", probes=(probe,)) for at, name in enumerate(("ns1", "ns2"))
    ]
    running = SimpleNamespace(
        services={name: SimpleNamespace(name=name, backends=backends) for name in ("dns", "ldap")}
    )
    return probe_handler(running, run)(Request("probe", arguments, 1, 0)), asked


async def test_probe_asks_for_the_right_backends():
    """`probe` runs those of the service, or the one that is named or addressed, and gives the rows their names."""
    for backend, wanted in (
        ({}, ["dns/ns1", "dns/ns2"]),
        ({"backend": "ns2"}, ["dns/ns2"]),
        ({"backend": "10.0.0.0"}, ["dns/ns1"]),
    ):
        lines, asked = probing(lambda keys: [{"key": key, "ok": True} for key in keys], service="dns", **backend)
        first, last = [line async for line in lines]
        assert first == {"timeout": 2.5, "more": True}
        assert asked == [(wanted, 2.5)]
        assert last["probes"][-1] == {"service": "dns", "backend": wanted[-1].partition("/")[2], "ok": True}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "no service"),
        ({"service": 5}, "no service"),
        ({"service": "dns", "backend": ["ns1"]}, "does not have a backend"),
    ],
)
async def test_probe_of_what_is_not_there(arguments, words):
    """`probe` of an unknown service or backend says which there are."""
    lines, asked = probing(lambda _: [], **arguments)
    with pytest.raises(ControlError, match=words):
        [line async for line in lines]
    assert asked == []


async def test_probe_without_a_health_process():
    """`probe` that the health process cannot run now fails in its words, and says nothing of maintenance."""
    lines, _ = probing(lambda _: "16 probe runs are in progress already: try again", service="dns")
    with pytest.raises(ControlError) as refused:
        [line async for line in lines]
    assert (str(refused.value), refused.value.code) == ("16 probe runs are in progress already: try again", BUSY)
