"""The probes of this version, and one run of one of them under its deadline.

A protocol is one class in a module of its own, listed in `CLASSES`: nothing else needs to know of it.
"""

import asyncio
import logging
from typing import Any, Final

from health.probes.base import Attempt, Failed, NotSupported, OurFault, Probe
from health.probes.dns import DnsCheck
from health.probes.none import NoneCheck
from health.probes.tcp import TcpCheck
from health.spec import ProbeBase, ProbeSpec
from health.state import Outcome

__all__ = ["CLASSES", "NotSupported", "OurFault", "attempt_once", "make", "run_once"]

CLASSES: Final[dict[str, type[Probe[Any]]]] = {"tcp": TcpCheck, "dns": DnsCheck, "none": NoneCheck}

_log = logging.getLogger("steelyard.health")


def make(spec: ProbeBase) -> Probe[Any]:
    """Return the probe that runs `spec`; raises `NotSupported` in words."""
    found = CLASSES.get(spec.type)
    if found is None:
        raise NotSupported(f"probe type {spec.type} is not supported by this version")
    if spec.tls != "off":
        raise NotSupported(f'tls = "{spec.tls}" of a {spec.type} probe is not supported by this version')
    if spec.send_proxy not in {None, "off"}:
        raise NotSupported(f'send-proxy = "{spec.send_proxy}" of a {spec.type} probe is not supported by this version')
    return found(spec)


async def attempt_once(probe: Probe[Any], address: str, port: int) -> tuple[Outcome, list[str]]:
    """Run `probe` once and return what it found, with the transcript.

    Ends at the probe's timeout whatever the server does, and leaves no descriptor, reader or task behind, also when it
    is cancelled (H4).  Raises `OurFault` when this host could not probe at all; never anything else but cancellation.
    """
    attempt = Attempt(address, port, probe.spec.timeout)
    try:
        async with asyncio.timeout(attempt.timeout):
            finding = await probe.check(attempt)
        outcome = Outcome(True, finding.reason, attempt.elapsed, reserve=finding.reserve)
    except TimeoutError:
        outcome = Outcome(False, attempt.late, attempt.elapsed)
    except Failed as failed:
        outcome = Outcome(False, str(failed), attempt.elapsed, failed.credentials_rejected)
    except OurFault:
        raise
    except Exception as error:
        # A bug of ours, but the server's bytes woke it: what a probe cannot digest does not count as healthy.
        _log.exception("the %s probe of %s port %d broke down", probe.spec.type, address, port)
        outcome = Outcome(False, f"the probe broke down: {type(error).__name__}", attempt.elapsed)
    finally:
        attempt.close()
    attempt.lines.append(f"{'pass' if outcome.ok else 'FAIL'}: {outcome.reason}")
    return outcome, attempt.lines


async def run_once(spec: ProbeSpec, address: str, port: int) -> tuple[Outcome, list[str]]:
    """Probe `address`, `port` once as `spec` says (its own address and port win); the outcome and a transcript.

    For `check --live`: never raises but `NotSupported`; what this host could not do is a failure that says so.
    """
    probe = make(spec)
    try:
        return await attempt_once(probe, spec.address or address, spec.port or port)
    except OurFault as fault:
        reason = f"could not probe: {fault}"
        return Outcome(False, reason, 0.0), [f"FAIL: {reason}"]
