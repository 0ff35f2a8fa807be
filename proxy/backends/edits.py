"""What operators have changed of the lists of backends and their weights, as values and as rows to save [pure]."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.config.model import MOST_WEIGHT, Backend, BackendKey

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """The author and the time (Unix seconds) of a change, and whether it survives a restart."""

    by: str
    at: float
    saved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition(Edit):
    """A backend that was added, with the weight that was asked for.

    `backend` is what the file in force makes of it, None until it is resolved.
    """

    weight: int | None
    backend: Backend | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing(Edit):
    """A weight that was set, and the file's at that time."""

    weight: int
    filed: int


@dataclass(slots=True)
class Edits:
    """All changes: an added backend that is leaving is in `added` and in `removed`."""

    added: dict[BackendKey, Addition] = field(default_factory=dict)
    removed: dict[BackendKey, Edit] = field(default_factory=dict)
    weights: dict[BackendKey, Weighing] = field(default_factory=dict)

    def copy(self) -> "Edits":
        """Return an independent copy."""
        return Edits(dict(self.added), dict(self.removed), dict(self.weights))

    def to_save(self) -> list[Row]:
        """Return the rows that survive a restart.

        An added backend that is leaving leaves no trace, and a removed one loses its weight.
        """
        rows = [
            _row(key, "add", one, weight=one.weight)
            for key, one in self.added.items()
            if one.saved and key not in self.removed
        ]
        rows += [_row(key, "remove", one) for key, one in self.removed.items() if one.saved and key not in self.added]
        rows += [
            _row(key, "weight", one, weight=one.weight, filed=one.filed)
            for key, one in self.weights.items()
            if one.saved and key not in self.removed
        ]
        return rows

    def rows(self) -> list[Row]:
        """Return all changes for a successor, with whether they are saved."""
        rows: list[tuple[Row, Edit]] = [
            (_row(key, "add", one, weight=one.weight), one) for key, one in self.added.items()
        ]
        rows += [(_row(key, "remove", one), one) for key, one in self.removed.items()]
        for key, one in self.weights.items():
            rows.append((_row(key, "weight", one, weight=one.weight, filed=one.filed), one))
        return [{**row, "saved": one.saved} for row, one in rows]


def parsed(rows: Iterable[Mapping[str, Any]]) -> Edits:
    """Return the changes of these rows, of which other acts are left out; raises KeyError, TypeError or ValueError."""
    edits = Edits()
    for row in rows:
        key = (str(row["service"]), str(row["backend"]))
        match row["act"]:
            case "add":
                weight = None if row["weight"] is None else _weight(row["weight"])
                edits.added[key] = Addition(**_edit(row), weight=weight)
            case "remove":
                edits.removed[key] = Edit(**_edit(row))
            case "weight":
                edits.weights[key] = Weighing(**_edit(row), weight=_weight(row["weight"]), filed=_weight(row["filed"]))
    return edits


def _row(key: BackendKey, act: str, edit: Edit, **more: Any) -> Row:
    return {"act": act, "service": key[0], "backend": key[1], **more, "by": edit.by, "at": edit.at}


def _edit(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"by": str(row["by"]), "at": float(row["at"]), "saved": bool(row.get("saved", True))}


def _weight(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_WEIGHT:
        raise ValueError(f"{value!r} is not a weight")
    return value
