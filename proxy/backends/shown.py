"""A backend in the status: the master's verdict with the last result of each probe.  Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from health.backend import label
from health.spec import ProbeSpec
from proxy.status.rows import NO_VERDICT, Verdict

Row = Mapping[str, Any]
"""The last result of one probe, as `Monitor.report` has it."""


def shown(
    known: Verdict | None, probes: Sequence[ProbeSpec], rows: Sequence[Row], ejected: str | None, *, serving: bool
) -> Verdict | None:
    """Return the verdict with the results and the reason of the last ones, None without any.

    `rows` are those of `probes`, in their order, or none at all; `ejected` says why the backend is left out, None if it
    is not.
    """
    ran = [row for row in rows if row["at"] is not None]
    results: Any = [{name: value for name, value in row.items() if name != "standby"} for row in ran]
    if known is None:
        return Verdict("unknown", NO_VERDICT, None, results) if results else None
    state, reason = known.state, _reason(known, probes, rows)
    if ejected is not None and state != "down":
        state, reason = "down", f"{ejected} (probes: {reason})"
    elif known.unjudged and serving:
        reason = f"{reason} (not judged: taken as up)"
    standby = known.state == "down" and _plays_another_part(ran)
    return Verdict(state, reason, known.since, results, known.weight, serving, standby, known.unjudged)


def _reason(known: Verdict, probes: Sequence[ProbeSpec], rows: Sequence[Row]) -> str:
    """Return the last words of the probes that speak for the verdict; of all that decide where none does.

    The verdict's own reason may be weeks old, and the weight or the figures in it another's by now.  Where it still
    says the same it is shown, as it says how often that was found as well: "connection refused (3 failures in a row)".
    """
    found = _last_words(known, probes, rows) if len(rows) == len(probes) else ""
    counted = known.reason.startswith(f"{found} (") and known.reason.endswith(" in a row)")
    return known.reason if counted else found or known.reason


def _last_words(known: Verdict, probes: Sequence[ProbeSpec], rows: Sequence[Row]) -> str:
    deciding = [(probe, row) for probe, row in zip(probes, rows, strict=True) if not probe.report_only]
    ran = [(probe, row) for probe, row in deciding if row["at"] is not None]
    if len(deciding) == 1:
        return "".join(row["reason"] for _, row in ran)
    fit = known.state in {"up", "reserve"}
    speaking = [(probe, row) for probe, row in ran if bool(row["ok"]) == fit] or ran
    return "; ".join(f"{label(probe)}: {row['reason']}" for probe, row in speaking)


def _plays_another_part(rows: Sequence[Row]) -> bool:
    """Returns True if every probe that fails says that the backend is well, as a replica is where a writer is wanted."""
    failing = [row for row in rows if not row["ok"]]
    return bool(failing) and all(row.get("standby") for row in failing)
