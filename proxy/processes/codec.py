"""Messages on a channel: JSON.

Both ends are ours and of one version: a message that cannot be read is a bug, or an attacker took a child over.
"""

import json
from dataclasses import fields
from typing import Any, Final, get_args, get_origin, get_type_hints

from proxy.processes.messages.common import Message


class MessageError(Exception):
    """What came is no message."""


_KINDS: Final[dict[str, type[Message]]] = {kind.__name__: kind for kind in get_args(Message)}
_TYPES: Final[dict[type[Message], dict[str, Any]]] = {
    kind: {name: get_origin(hint) or hint for name, hint in get_type_hints(kind).items()} for kind in _KINDS.values()
}


def encode(message: Message) -> bytes:
    """Message -> JSON."""
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    return json.dumps([type(message).__name__, values], separators=(",", ":")).encode()


def decode(data: bytes) -> Message:
    """JSON -> message; MessageError if it is none, or if a field is of another kind than the message has."""
    try:
        name, values = json.loads(data)
        message = _KINDS[name](**values)
        for field, kind in _TYPES[type(message)].items():
            value = getattr(message, field)
            if not isinstance(value, int | float if kind is float else kind) or isinstance(value, bool) != (
                kind is bool
            ):
                raise TypeError(f"{field} is no {kind.__name__}")  # noqa: TRY301 - told like all else that is wrong
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MessageError(f"unreadable message of {len(data)} octets: {error}") from error
    return message
