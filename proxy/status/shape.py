"""Checks that a document has the shape of a status [pure].

What comes over HTTP may be anything. The check is made of the types of `schema`, so that a new key is in one place. A
word that this version does not know (a new state) passes as a text: a reader shows it as it is.
"""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from proxy.status.schema import Status

Check = Callable[[Any], None]
_FLAT: Final[dict[type, tuple[type, ...]]] = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}
_BOUND: Final = 1e18
"""Beyond it no number is taken: JSON's have no end."""


class _WrongError(Exception):
    """A value of a wrong shape; `place` grows on the way out, so that a good document pays nothing for it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.place = ""


def shaped(document: Any) -> Status:
    """Return the document, which is a status; ValueError names the first place where it is none."""
    try:
        _STATUS(document)
    except _WrongError as error:
        raise ValueError(f"{error.place.lstrip('.') or 'it'} {error}") from None
    return document  # type: ignore[no-any-return]


def _check(kind: Any) -> Check:
    """Return what raises for a value that is not of a type of the schema."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return _anything
    if origin is Literal:
        return _flat(type(arguments[0]))
    if origin in {Union, UnionType}:
        (inner,) = (one for one in arguments if one is not NoneType)  # the schema has no other unions
        return _optional(_check(inner))
    if origin is list:
        return _list(_check(arguments[0]))
    if origin is dict:
        return _table(_check(arguments[1]))
    return _document(kind) if is_typeddict(kind) else _flat(kind)


def _anything(value: Any) -> None:
    del value


def _flat(kind: type) -> Check:
    kinds, numeric = _FLAT[kind], kind in {int, float}

    def check(value: Any) -> None:
        if type(value) not in kinds:  # not isinstance: True is no number
            raise _WrongError(f"is {type(value).__name__}, not {kind.__name__}")
        if numeric and not -_BOUND < value < _BOUND:  # NaN neither
            raise _WrongError("is out of range")

    return check


def _optional(inner: Check) -> Check:
    def check(value: Any) -> None:
        if value is not None:
            inner(value)

    return check


def _list(inner: Check) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise _WrongError("is no list")
        for at, one in enumerate(value):
            _within(inner, one, at)

    return check


def _table(inner: Check) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _WrongError("is no object")
        for name, one in value.items():
            _within(inner, one, name)

    return check


def _document(kind: Any) -> Check:
    checks = {name: _check(hint) for name, hint in get_type_hints(kind).items()}
    required = kind.__required_keys__

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _WrongError("is no object")
        for name, inner in checks.items():
            if name in value:
                _within(inner, value[name], name)
            elif name in required:
                raise _WrongError(f"has no {name}")

    return check


def _within(inner: Check, value: Any, at: str | int) -> None:
    try:
        inner(value)
    except _WrongError as error:
        error.place = (f"[{at}]" if isinstance(at, int) else f".{at[:40]}") + error.place
        raise


_STATUS: Final = _check(Status)
