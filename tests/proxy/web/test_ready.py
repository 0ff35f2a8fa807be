"""Tests of readiness."""

from proxy.web.ready import why_not_ready
from tests.proxy.web.bed import service, status


def test_ready():
    """One service that works is enough, and so are addresses without services."""
    assert why_not_ready(status(service("a", state="down"), service("b", state="up"))) == ""
    assert why_not_ready(status() | {"services": [], "workers": []}) == ""


def test_not_ready():
    """A host that stops, has no worker, or no usable backend at all can serve nobody new, and says which it is."""
    assert why_not_ready(status(state="stopping")) == "the daemon is stopping"
    draining = [{**status()["workers"][0], "draining": True}]
    assert why_not_ready(status(workers=draining)) == "no worker is alive"
    assert why_not_ready(status(service("a", state="down"))) == "no service has a usable backend"
