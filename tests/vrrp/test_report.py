"""What is said of a name that is two routers."""

from ipaddress import ip_address

import pytest

from vrrp.events import RouterConfig
from vrrp.report import state_of
from vrrp.router import Router


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (("active", "active"), "active"),
        (("active", "backup"), "backup"),
        (("backup", "init"), "init"),
        (("init", "fault"), "fault"),
        (("active",), "active"),
    ],
)
def test_a_name_is_what_its_worst_router_is(states, wanted):
    """V12: a name is active only when both of its IP versions are."""
    routers = []
    for state in states:
        config = RouterConfig("outside", 51, (ip_address("192.0.2.10"),), ip_address("192.0.2.2"))
        routers.append(Router(config, 0.0))
        routers[-1].state = state
    assert state_of(routers) == wanted
