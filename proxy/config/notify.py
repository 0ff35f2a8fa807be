"""[notify.NAME]: what changes of routers, services and backends a program or a FIFO is told of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from proxy.config.diagnostics import Report, did_you_mean, listed
from proxy.config.hostfiles import Use, check_command
from proxy.config.model import Notify, NotifySettings
from proxy.config.notify_choice import STATES, Kind, is_named, is_wanted
from proxy.config.positions import Spot, Tab
from proxy.config.routers import tables
from proxy.config.validate import locate, validate

_ALL: Final = tuple(state for states in STATES.values() for state in states)
_WORDS: Final[Mapping[Kind, str]] = {
    "router": "router or sync group",
    "service": "service",
    "backend": "backend",
}

Names = Mapping[Kind, Sequence[str]]
"""The names of each kind; a backend is called SERVICE/BACKEND."""


def notifies(tree: Tab, names: Names, report: Report, *, use: Use = "elsewhere") -> list[Notify]:
    """Return the notifications; `names` are those that there are, `use` says what they are read for."""
    found: list[Notify] = []
    for name, table, spot in tables(tree, "notify", report):
        settings = validate(NotifySettings, table, report, f"[notify.{name}]")
        if settings is None:
            continue
        _check_way(name, settings, table, spot, report, use)
        _check_states(settings, table, report)
        _check_names(settings, table, names, report)
        values = {key: getattr(settings, key) for key in type(settings).model_fields}
        found.append(Notify.model_construct(name=name, **values))
    return found


def _check_way(name: str, settings: NotifySettings, table: Tab, spot: Spot, report: Report, use: Use) -> None:
    if (settings.command is None) == (settings.fifo is None):
        report.error(spot, f"[notify.{name}] needs either command or fifo", at="key")
    elif settings.batch and settings.command is None:
        report.error(table.spots["batch"], "batch is for a command: a FIFO gets a line for each change")
    if settings.command is not None and not (settings.command and settings.command[0].startswith("/")):
        report.error(table.spots["command"], "command is a list that begins with an absolute path")
    elif settings.command is not None:
        check_command(settings.command[0], table.spots["command"], report, use=use)


def _check_states(settings: NotifySettings, table: Tab, report: Report) -> None:
    for index, state in enumerate(settings.to):
        if state not in _ALL:
            place = locate(table, ("to", index))[1]
            report.error(place, f'unknown state "{state[:40]}": one of {listed(_ALL)}', did_you_mean(state, _ALL))


def _check_names(settings: NotifySettings, table: Tab, names: Names, report: Report) -> None:
    """Warn of globs that name nothing, and of states of which nothing that is named can be."""
    kinds: list[Kind] = [kind for kind in STATES if is_wanted(settings.to, kind)]
    known = [name for kind in kinds for name in names[kind]]
    missing = [glob for glob in settings.on if not any(is_named((glob,), name) for name in known)]
    for index, glob in enumerate(settings.on):
        if glob in missing:
            what = " or ".join(_WORDS[kind] for kind in kinds)
            place = locate(table, ("on", index))[1]
            hint = did_you_mean(glob, known) or _hint(glob, kinds)
            report.warn(place, f'there is no {what} "{glob[:60]}": nothing is told of it', hint, of_host=True)
    for kind, states in _asked(settings.to):
        if not missing and not any(is_named(settings.on, name) for name in names[kind]):
            place = locate(table, ("to", settings.to.index(states[0])))[1]
            report.warn(place, f"{listed(states)}: no {_WORDS[kind]} is named that could be so", of_host=True)


def _asked(to: Sequence[str]) -> Iterator[tuple[Kind, list[str]]]:
    for kind, states in STATES.items():
        asked = [state for state in to if state in states]
        if asked:
            yield kind, asked


def _hint(glob: str, kinds: Sequence[Kind]) -> str:
    return "a backend is called SERVICE/BACKEND" if "backend" in kinds and "/" not in glob else ""
