"""The probes of this version, and single runs of a probe under its deadline.

Each protocol is one class in a separate module, listed in `CLASSES`.  No other code refers to it.  The module and its
library are imported when the first probe of that type is made.
"""

import importlib
import logging
import math
import traceback
from typing import Any, Final

from health.icmp import Echoes
from health.probes.base import Attempt, Failed, Full, NotSupported, OurFault, Probe
from health.run import Deadline
from health.secrets import Source
from health.spec import ProbeBase, ProbeSpec
from health.state import Outcome
from health.waiting import CannotWait, Waits

__all__ = ["CLASSES", "NotSupported", "OurFault", "attempt_once", "load_all", "make", "not_run", "run_once", "told"]

CLASSES: Final[dict[str, str]] = {
    "dns": "DnsCheck",
    "http": "HttpCheck",
    "imap": "ImapCheck",
    "ldap": "LdapCheck",
    "mysql": "MysqlCheck",
    "none": "NoneCheck",
    "pgsql": "PgsqlCheck",
    "ping": "PingCheck",
    "pop3": "Pop3Check",
    "redis": "RedisCheck",
    "script": "ScriptCheck",
    "smtp": "SmtpCheck",
    "tcp": "TcpCheck",
    "udp": "UdpCheck",
}
"""Type -> the class in the module of that name."""

_log = logging.getLogger("steelyard.health")


def make(spec: ProbeBase, secrets: Source | None = None, echoes: Echoes | None = None) -> Probe[Any]:
    """Return the probe that runs `spec`, with passwords from `secrets` (None: from the files themselves).

    `echoes` sends pings for a process that may not send any itself.  Raises `NotSupported`.
    """
    probe = _load(spec.type)(spec)
    if secrets is not None:
        probe.secrets = secrets
    probe.echoes = echoes
    return probe


def load_all() -> None:
    """Import every probe's module, for a process that will soon be unable to read them."""
    for kind in CLASSES:
        _load(kind)


def _load(kind: str) -> type[Probe[Any]]:
    if kind not in CLASSES:
        raise NotSupported(f"probe type {kind} is not supported by this version")
    found: type[Probe[Any]] = getattr(importlib.import_module(f"health.probes.{kind}"), CLASSES[kind])
    return found


async def attempt_once(
    probe: Probe[Any], address: str, port: int, *, recording: bool = True, waits: Waits | None = None
) -> tuple[Outcome, list[str]]:
    """Run `probe` once and return its outcome and transcript; the transcript is empty unless `recording` is set.

    The run ends at the probe's timeout whatever the server does, and leaves no descriptor, reader or task behind, even if
    it is cancelled (H4).  Raises `OurFault` if this host could not probe at all, and nothing else except cancellation.
    """
    attempt = Attempt(
        address, port, probe.spec.timeout, probe.spec.send_proxy, recording=recording, waits=waits, files=probe.secrets
    )
    try:
        with Deadline(attempt.waits, attempt.timeout):
            finding = await probe.check(attempt)
        outcome = Outcome(
            True, finding.reason, attempt.elapsed,
            reserve=finding.reserve, value=finding.value, weight=finding.weight, lag=finding.lag,
        )  # fmt: skip
    except TimeoutError:
        outcome = Outcome(False, attempt.late, attempt.elapsed)
    except Failed as failed:
        outcome = Outcome(False, str(failed), attempt.elapsed, failed.credentials_rejected, standby=failed.standby)
    except Full as full:
        outcome = Outcome(True, str(full), attempt.elapsed, reserve=True, full=True)
    except CannotWait as fault:
        raise OurFault(f"{fault} on this host") from None
    except OurFault as fault:
        fault.lines = attempt.lines
        raise
    except Exception as error:
        # This is our bug, but the server's bytes triggered it: an answer that the probe cannot handle is a failure.
        # The text of an exception may contain a password: if the probe has one, the log gets only the traceback (S6).
        secret = getattr(probe.spec, "password_file", None) is not None
        told = "".join(traceback.format_tb(error.__traceback__)) if secret else traceback.format_exc()
        what = type(error).__name__
        _log.error("the %s probe of %s port %d broke down: %s\n%s", probe.spec.type, address, port, what, told)
        outcome = Outcome(False, f"the probe broke down: {type(error).__name__}", attempt.elapsed)
    finally:
        attempt.close()
    if recording:
        attempt.lines.append(f"{'pass' if outcome.ok else 'FAIL'}: {outcome.reason}")
    return outcome, attempt.lines


async def run_once(spec: ProbeSpec, address: str, port: int, user: str = "") -> tuple[Outcome, list[str]]:
    """Probe `address`, `port` once as `spec` says and return the outcome and a transcript.

    An address or port in `spec` wins.  For `check --live`: raises only `NotSupported`; if this host could not run the
    probe, the outcome is a failure that says so.  `user` is the daemon's `node.user`: a root process runs scripts as it.
    """
    probe = make(spec)
    probe.user = user
    try:
        return await attempt_once(probe, spec.address or address, spec.port or port)
    except OurFault as fault:
        return not_run(fault)


def not_run(fault: OurFault) -> tuple[Outcome, list[str]]:
    """Return the outcome and the transcript of a run that this host could not make or complete."""
    reason = f"could not probe: {fault}"
    return Outcome(False, reason, math.nan), [*fault.lines, f"FAIL: {reason}"]


def told(outcome: Outcome, lines: list[str], behind: str = "") -> dict[str, Any]:
    """Return a single run in the form of an answer: {ok, reserve, standby, reason, latency_ms, transcript}.

    `behind` is the text that the backend is too far behind the others of its service, so that it fails, or "".
    `latency_ms` is None for a run that this host could not make.
    """
    if behind:
        lines = [*lines[:-1], f"FAIL: {behind}"]
    return {
        "ok": outcome.ok and not behind,
        "reserve": outcome.reserve,
        "standby": outcome.standby,
        "reason": behind or outcome.reason,
        "latency_ms": None if math.isnan(outcome.latency) else round(outcome.latency * 1000, 3),
        "transcript": lines,
    }
