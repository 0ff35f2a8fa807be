"""proxy.commands.status: the answers of `status` and `latency`."""

from types import SimpleNamespace

import pytest

from proxy.commands.status import Overview
from proxy.config.model import Backend, Listener, Service
from proxy.control.server import Request
from proxy.control.wire import UnknownNameError

SERVICE = Service(
    name="dns",
    protocol="dns",
    listeners=(Listener(address="10.0.0.10", port=53, transport="udp"),),
    backends=(Backend(name="ns1", address="10.0.0.11"),),
)


def asked(**arguments):
    """Ask for a histogram; return which one was read."""
    parts = SimpleNamespace(running=SimpleNamespace(services={"dns": SERVICE}))
    builder = SimpleNamespace(histogram=lambda key: [(1.25, key)])
    overview = Overview(parts, builder, SimpleNamespace(), SimpleNamespace())
    return overview.latency(Request("latency", arguments, 0, 0))


@pytest.mark.parametrize("backend", ["ns1", "10.0.0.11"])
async def test_the_histogram_of_a_backend(backend):
    """A backend is named by its name or its address."""
    assert await asked(service="dns", backend=backend) == {"cells": [(1.25, ("dns", "ns1"))]}


@pytest.mark.parametrize(
    "arguments", [{}, {"service": "ftp", "backend": "ns1"}, {"service": "dns"}, {"service": ["dns"], "backend": 3}]
)
async def test_an_unknown_backend(arguments):
    """A service or a backend that there is not is an unknown name, with a suggestion."""
    with pytest.raises(Exception, match=r".") as caught:
        await asked(**arguments)
    assert isinstance(caught.value, UnknownNameError) or caught.value.code == "unknown-name"
