"""What is known of the backends, in the form in which one daemon gives it to its successor.  Pure.

The successor may be another version: fields that it does not know are ignored, and those that are missing have defaults.
Times that are not Unix times are those of the monotonic clock, which all processes of a host share.
"""

from pydantic import BaseModel, ConfigDict

from proxy.backends import choice
from proxy.balance.backend import Admin, Verdict
from proxy.config.model import BackendKey
from proxy.status import rows
from proxy.status.schema import State


class Row(BaseModel):
    """Of a document that another version may have written."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")


class KnownRow(Row):
    """A verdict of the probes, as `status.rows.Verdict`; for a probe that routers track, `service` is ""."""

    service: str
    backend: str
    state: State
    reason: str
    since: float | None = None
    weight: float | None = None
    unjudged: bool = False


class ChoiceRow(Row):
    """A service's choice, as `choice.Choice`."""

    service: str
    level: choice.Level
    serving: tuple[str, ...] = ()
    why: str = ""
    settled: bool = True
    waits: bool = False


class SentRow(Row):
    """What the workers know of a backend, and its own verdict when that was chosen."""

    service: str
    backend: str
    verdict: Verdict
    admin: Admin
    own: str = ""


class EjectionRow(Row):
    """A backend that is ejected, or was: as `ejection.Record`; `reason` is "" for one that is back."""

    service: str
    backend: str
    until: float
    count: int
    out: bool = False
    reason: str = ""


class RampRow(Row):
    """A backend in a slow start that began at `since`."""

    service: str
    backend: str
    since: float


class Memory(Row):
    """All that is known of the backends of a daemon; `late`: the wait for first verdicts is over."""

    verdicts: tuple[KnownRow, ...] = ()
    choices: tuple[ChoiceRow, ...] = ()
    sent: tuple[SentRow, ...] = ()
    rested: tuple[tuple[str, str], ...] = ()
    ramps: tuple[RampRow, ...] = ()
    ejections: tuple[EjectionRow, ...] = ()
    late: bool = False


def known_row(key: BackendKey, known: rows.Verdict) -> KnownRow:
    """Return the row of a verdict."""
    return KnownRow(
        service=key[0], backend=key[1], state=known.state, reason=known.reason, since=known.since, weight=known.weight,
        unjudged=known.unjudged,
    )  # fmt: skip


def verdict_of(row: KnownRow) -> rows.Verdict:
    """Return the verdict of a row."""
    return rows.Verdict(row.state, row.reason, row.since, weight=row.weight, unjudged=row.unjudged)


def sent_row(key: BackendKey, verdict: str, admin: str, own: str) -> SentRow:
    """Return the row of what the workers know of a backend."""
    return SentRow.model_validate(
        {"service": key[0], "backend": key[1], "verdict": verdict, "admin": admin, "own": own}
    )


def choice_row(service: str, one: choice.Choice) -> ChoiceRow:
    """Return the row of a choice."""
    return ChoiceRow(
        service=service, level=one.level, serving=one.serving, why=one.why, settled=one.settled, waits=one.waits
    )


def choice_of(row: ChoiceRow) -> choice.Choice:
    """Return the choice of a row."""
    return choice.Choice(row.level, row.serving, row.why, row.settled, row.waits)
