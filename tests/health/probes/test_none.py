"""The probe that asks nothing."""

from health.probes import run_once
from health.spec import NoneProbe


async def test_always_up(leftovers) -> None:
    """A none probe passes without touching the network, and says that it knows nothing."""
    outcome, lines = await run_once(NoneProbe(), "192.0.2.1", 53)
    assert (outcome.ok, outcome.reason) == (True, "not probed: assumed up")
    assert lines == ["-> nothing to ask", "pass: not probed: assumed up"]
    await leftovers.check()
