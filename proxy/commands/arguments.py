"""Reads the arguments of commands: each is checked, and a wrong one is refused with the reason."""

import contextlib
import math
from collections.abc import Iterator
from typing import Final

from proxy.backends.errors import FailedError, RefusedError
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, ControlError
from proxy.moments import unix
from proxy.records.document import StateError

WORDS: Final = 200
"""Characters of a reason at most."""


_MOST: Final = 1 << 31


def moment(request: Request, name: str) -> float | None:
    """Return an argument that is a time, None where it is not given; ControlError for anything else.

    Written as Unix seconds or as RFC 3339 has it.
    """
    value = request.arguments.get(name)
    if value is None:
        return None
    try:
        return unix(value)
    except ValueError:
        raise ControlError(
            f"{name} must be a time: Unix seconds, or as in RFC 3339 with its zone", BAD_REQUEST
        ) from None


def number(request: Request, name: str) -> int | None:
    """Return an argument that is a whole number from 0 on, None where it is not given; ControlError for anything else."""
    value = request.arguments.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST):
        raise ControlError(f"{name} must be a whole number", BAD_REQUEST)
    return value


def flag(request: Request, name: str) -> bool:
    """Return an argument that is true or false; ControlError for anything else."""
    value = request.arguments.get(name, False)
    if not isinstance(value, bool):
        raise ControlError(f"{name} must be true or false", BAD_REQUEST)
    return value


def seconds(request: Request, name: str) -> float | None:
    """Return an argument that is a number of seconds, None where it is not given; ControlError for anything else."""
    value = request.arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ControlError(f"{name} must be a number of seconds", BAD_REQUEST)
    return float(value)


def text(request: Request, name: str) -> str | None:
    """Return an argument of at most WORDS characters, None where it is not given; ControlError for anything else."""
    value = request.arguments.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > WORDS):
        raise ControlError(f"{name} must have at most {WORDS} characters", BAD_REQUEST)
    return value


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Turn an error of an act into an error of the control socket."""
    try:
        yield
    except RefusedError as error:
        raise ControlError(str(error), BAD_REQUEST) from None
    except FailedError as error:
        raise ControlError(str(error)) from error
    except StateError as error:
        raise ControlError(f"nothing is changed, as it cannot be saved: {error}") from error
