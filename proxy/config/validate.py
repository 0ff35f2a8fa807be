"""Turns pydantic's errors into ours: each with its place, in a sysadmin's words, and with a suggestion for a wrong key."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from health.units import FROM_FILE, kebab
from proxy.config.diagnostics import MOST_DIAGNOSTICS, Report, closest, did_you_mean, listed
from proxy.config.positions import Arr, Spot, Tab

Model = TypeVar("Model", bound=BaseModel)

_ROUNDS: Final = 4
"""How often a table is checked again without its wrong keys."""

_TYPES: Final = {
    "string_type": 'a string in quotes ("…")',
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list: [ … ]",
    "list_type": "a list: [ … ]",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "literal_error": "a string",
}
_FOREIGN: Final = {
    "algorithm": "scheduler",
    "allow-list": "allow",
    "backend": "backends",
    "balance": "scheduler",
    "bind": "listen",
    "check": "probe",
    "delay-loop": "interval",
    "health": "probe",
    "health-check": "probe",
    "healthcheck": "probe",
    "inter": "interval",
    "lb-algo": "scheduler",
    "members": "backends",
    "mode": "protocol",
    "port": "listen",
    "ports": "listen",
    "real-server": "backends",
    "real-servers": "backends",
    "retry": "fall",
    "sched": "scheduler",
    "server": "backends",
    "servers": "backends",
    "state": "priority",
    "track-interface": "track",
    "track-script": "track",
    "upstream": "backends",
    "virtual-ipaddress": "addresses",
    "virtual-router-id": "vrid",
    "vip": "listen",
}


def toml_type(value: Any) -> str:
    """Return a description of a value for a person."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value[:40]}"' if len(value) <= 40 else f'"{value[:40]}…"'  # noqa: PLR2004 - what fits a line
        case int() | float():
            return str(value) if abs(value) < 1e15 else "a very large number"  # noqa: PLR2004 - what fits a line
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that a table may have."""
    return [field.alias or kebab(name) for name, field in model.model_fields.items()]


def validate(
    model: type[Model],
    tab: Tab,
    report: Report,
    title: str,
    *,
    partial: bool = False,
    homes: Mapping[str, str] | None = None,
) -> Model | None:
    """Return the model of a table, or None after reporting each mistake.

    `title` names the table in "… is missing". `partial` allows missing keys. `homes` maps keys of other tables to the place
    where they belong.
    """
    found, sound = examine(model, tab, report, title, partial=partial, homes=homes)
    return found if sound else None


def examine(
    model: type[Model],
    tab: Tab,
    report: Report,
    title: str,
    *,
    partial: bool = False,
    homes: Mapping[str, str] | None = None,
) -> tuple[Model | None, bool]:
    """Return the model of a table and whether the table is valid.

    Wrong keys are reported and left out, and the rest is checked again. So a wrong value does not hide keys that do not fit
    together, and the caller can continue with a model of the rest (None if no key could be left out).
    """
    sound = True
    rest = tab
    for round_ in range(_ROUNDS):
        try:
            return model.model_validate(rest, context=FROM_FILE, by_alias=True, by_name=False), sound
        except ValidationError as error:
            details = error.errors(include_url=False)
        sound = False
        # After the first round, a missing key is one that was left out.
        told = details[:MOST_DIAGNOSTICS]
        _report(model, rest, told, report, title, partial=partial or round_ > 0, homes=homes or {})
        if len(told) < len(details):  # not a table of this program: checking it again would take minutes
            report.leave_out(len(details) - len(told))
            return None, False
        for detail in details:
            rest = _pruned(rest, _culprit(detail))
    return None, False


def _culprit(detail: ErrorDetails) -> tuple[str | int, ...]:
    key = detail.get("ctx", {}).get("key") if detail["type"] == "mistake" else None
    return (*detail["loc"], key) if key else detail["loc"]


def _pruned(tab: Tab, path: Sequence[str | int]) -> Tab:
    """Return the table without the key at the end of a path: the innermost key that is only below tables."""
    if not path or path[0] not in tab:
        return tab
    key = str(path[0])
    result = tab.copy()
    inner = tab[key]
    if isinstance(inner, Tab) and len(path) > 1 and path[1] in inner:
        result.put(key, _pruned(inner, path[1:]), tab.spots[key])
    else:
        del result[key]
    return result


def _report(
    model: type[BaseModel],
    tab: Tab,
    details: Sequence[ErrorDetails],
    report: Report,
    title: str,
    *,
    partial: bool,
    homes: Mapping[str, str],
) -> None:
    meant: set[tuple[str | int, ...]] = set()
    for detail in sorted(details, key=lambda each: each["type"] == "missing"):
        kind, path = detail["type"], detail["loc"]
        if kind == "default_factory_not_called" or (kind == "missing" and (partial or path in meant)):
            continue
        if kind == "too_short" and any(each["loc"][: len(path)] == path and each["loc"] != path for each in details):
            continue  # too short only because wrong elements were left out
        if kind == "extra_forbidden":
            table, spot, _ = locate(tab, path)
            known = keys_of(model_at(model, path[:-1]))
            hint = hint_for_key(str(path[-1]), known, table, homes)
            meant.update((*path[:-1], key) for key in known if hint == f'did you mean "{key}"?')
            report.error(spot, f'unknown key "{str(path[-1])[:60]}"', hint, at="key")
        elif kind == "missing":
            _, spot, _ = locate(tab, path[:-1])
            where = title if len(path) == 1 else f"{title} {'.'.join(str(part) for part in path[:-1])}"
            report.error(spot, f'"{path[-1]}" is missing in {where}', at="key")
        elif kind == "mistake":
            context = detail.get("ctx", {})
            key = context.get("key")
            table, spot, _ = locate(tab, path)
            if key:
                inner = locate(tab, (*path, key))[1]
                spot = inner
            report.error(spot, str(context.get("text")), str(context.get("hint") or ""))
        else:
            _, spot, name = locate(tab, path)
            message, hint = _words(name, kind, detail)
            report.error(spot, message, hint)


def locate(tab: Tab, path: Iterable[str | int]) -> tuple[Any, Spot, str]:
    """Follow a path as far as it exists in the file; return the innermost container, the last place and its name."""
    at: Any = tab
    table: Any = tab
    spot, name = tab.here, ""
    for part in path:
        if isinstance(at, Tab) and part in at:
            table, spot, name, at = at, at.spots[str(part)], str(part), at[str(part)]
        elif isinstance(at, Arr) and isinstance(part, int) and part < len(at):
            table, spot, at = at, at.spots[part], at[part]
        else:
            break
    return table, spot, name


def model_at(model: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel]:
    """Return the model of an inner table, as far as the path leads to a table."""
    for part in path:
        if not isinstance(part, str):
            continue
        for name, field in model.model_fields.items():
            if (field.alias or kebab(name)) == part:
                inner = _model_in(field.annotation)
                if inner is not None:
                    model = inner
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None


def hint_for_key(key: str, known: Iterable[str], table: Any, homes: Mapping[str, str]) -> str:
    """Return a suggestion for a key that is unknown here."""
    known = list(known)
    folded = key.casefold().replace("_", "-")
    if folded in known:
        return f'did you mean "{folded}"?'
    if folded in homes:
        return f'"{folded}" belongs in {homes[folded]}'
    if _FOREIGN.get(folded) in known:
        return f'did you mean "{_FOREIGN[folded]}"?'
    near = closest(key, [word for word in known if word not in table]) or closest(key, known)
    if near:
        return f'did you mean "{near}"?'
    return f"known keys: {', '.join(known)}" if len(known) <= 16 else ""  # noqa: PLR2004 - what fits two lines


def _words(name: str, kind: str, detail: ErrorDetails) -> tuple[str, str]:
    value, context = detail["input"], detail.get("ctx", {})
    if kind == "literal_error" and isinstance(value, str):
        choices = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return f"{name} = {toml_type(value)}: must be {listed(choices)}", did_you_mean(value, choices)
    if kind in _TYPES:
        wanted = _TYPES[kind]
        if kind == "literal_error":
            wanted = str(context["expected"]).replace("'", '"')
        hint = ""
        if isinstance(value, dict):
            hint = (
                'a value for each node needs nodes = ["…", "…"] at the top of the file'
                if value and "model" not in kind
                else ""
            )
        elif kind in ("tuple_type", "list_type") and isinstance(value, str):
            hint = f"write {name} = [{toml_type(value)}]"
        return f"{name} must be {wanted}, not {toml_type(value)}", hint
    bounds = {
        "greater_than_equal": ("ge", "is too small: at least"),
        "greater_than": ("gt", "is too small: more than"),
        "less_than_equal": ("le", "is too large: at most"),
        "less_than": ("lt", "is too large: less than"),
    }
    if kind in bounds:
        key, words = bounds[kind]
        return f"{name} = {toml_type(value)} {words} {context[key]:g}", ""
    if kind == "too_short":
        return f"{name} is empty", ""
    if kind == "string_pattern_mismatch":
        return f"{name} = {toml_type(value)} is not of the right form", ""
    return f"{name}: {detail['msg'][:120]}", ""
