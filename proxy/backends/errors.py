"""The errors of operators' acts on backends: the operator's own, and this host's."""

from collections.abc import Collection


class RefusedError(Exception):
    """The act makes no sense here; the text says why."""


class FailedError(Exception):
    """The act makes sense, and this host could not do all of it; the text says what and why."""


class BusyError(FailedError):
    """The act makes sense, and this host cannot do it now: it may be tried again in a moment."""


def refuse_to_strand(services: Collection[str]) -> None:
    """Raise RefusedError if an act would leave these services without a backend: they would reset their clients."""
    if services:
        raise RefusedError(
            f"no other backend of {', '.join(sorted(services))} can serve now: use --force to do it anyway"
        )
