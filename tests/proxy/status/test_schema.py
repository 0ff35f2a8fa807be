"""proxy.status.schema: what a status amounts to."""

import pytest

from proxy.status.schema import exit_status


def status(*states, vrrp=(), workers=(True,), former=(), valid=True, state="running"):
    """Return as much of a status as its exit code is made of; `former` workers belong to a former daemon."""
    return {
        "state": state,
        "services": [{"state": state} for state in states],
        "vrrp": [{"state": state} for state in vrrp],
        "workers": [
            *({"alive": alive, "draining": state == "stopping"} for alive in workers),
            *({"alive": alive, "draining": True} for alive in former),
        ],
        "config": {"valid": valid},
    }


@pytest.mark.parametrize(
    ("code", "given"),
    [
        (0, status()),
        (0, status("up", "up", vrrp=["active", "backup"])),
        (0, status("up", workers=[True, False])),
        (1, status("up", "degraded")),
        (1, status("up", vrrp=["backup", "fault"])),
        (1, status("up", valid=False)),
        (2, status("up", "degraded", "down")),
        (2, status("down", vrrp=["fault"], valid=False)),
        (2, status("up", workers=[False, False])),
        (0, status("up", workers=[True], former=[True])),
        (2, status("up", workers=[False], former=[True])),
        (0, status("up", state="stopping")),
        (2, status("stopping", state="stopping")),
    ],
)
def test_exit_codes(code, given):
    """0 all up, 1 degraded or a vrrp fault or a failed reload, 2 where a service refuses or no own worker lives."""
    assert exit_status(given) == code
