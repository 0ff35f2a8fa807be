"""Why an operator's act on a backend is not done, and whose fault that is."""

from collections.abc import Collection


class RefusedError(Exception):
    """The operator asked for what makes no sense here; the text says why."""


class FailedError(Exception):
    """The act makes sense, and this host could not do all of it; the text says what and why."""


def refuse_to_strand(services: Collection[str]) -> None:
    """Raise RefusedError if an act would leave these services with nobody who serves them: clients are reset then."""
    if services:
        raise RefusedError(f"nobody else of {', '.join(sorted(services))} can serve now: --force does it all the same")
