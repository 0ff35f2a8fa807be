"""The basic types of configuration values: durations, addresses, ports, strict numbers.

Values have two sources. In a file (validation context `FROM_FILE`) a duration needs a unit, because `timeout = 5` may
mean milliseconds as well as seconds. Over the channel, and in code, it is a number of seconds, `math.inf` for "never".
"""

import ipaddress
import math
import re
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from health.credentials import check_name, is_credential

FROM_FILE: Final = {"from-file": True}
"""The validation context of values from a configuration file."""

DURATION_PATTERN: Final = r"^(never|([0-9]+(\.[0-9]+)?(ms|us|s|m|h|d))+)$"
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(us|ms|s|m|h|d)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_LONGEST: Final = 10 * 366 * 86400.0
_NAME: Final = 15  # bytes; IFNAMSIZ of linux/if.h without the NUL
_PATH: Final = 4096  # bytes with the NUL; PATH_MAX of linux/limits.h
_PATH_PART: Final = 255  # bytes; NAME_MAX of linux/limits.h
_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")


def mistake(message: str, key: str | None = None, hint: str | None = None) -> PydanticCustomError:
    """Return the error for a wrong value; `key` is a key below the checked table, `hint` a suggestion as text."""
    return PydanticCustomError("mistake", "{text}", {"text": message, "key": key, "hint": hint})


def parse_duration(text: str) -> float:
    """Return the seconds of "500ms", "2s", "1h30m" or "never" (`math.inf`); raises ValueError with a text for users."""
    if text == "never":
        return math.inf
    if _NUMBER.fullmatch(text):
        raise ValueError(f'a duration needs a unit: "{text}s" or "{text}ms"')
    total, at = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != at:
            break
        total += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    if at != len(text) or not text:
        raise ValueError(f'"{text[:40]}" is not a duration: write "500ms", "2s", "1h30m" or "never"')
    if total > _LONGEST:
        raise ValueError(f'"{text[:40]}" is longer than ten years: write "never"')
    return total


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads as that many seconds."""
    if math.isinf(seconds):
        return "never"
    for unit in ("d", "h", "m", "s", "ms"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and abs(count - round(count)) < 1e-9:  # noqa: PLR2004 - the rounding of a division
            return f"{round(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _duration(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise mistake(str(error)) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise mistake('a duration is a string with a unit: "500ms", "2s", "1h30m" or "never"')
    if info.context is FROM_FILE:
        raise mistake(f'a duration needs a unit: "{value}s" or "{value}ms"')
    if not value >= 0:
        raise mistake("a duration must not be negative")
    return float(value)


def _seconds(value: float) -> float | str:
    return "never" if math.isinf(value) else value


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(_seconds, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
"""Seconds. In a file a string with units; in JSON a number, or "never" for `math.inf`."""

Int = Annotated[int, Field(strict=True)]
Bool = Annotated[bool, Field(strict=True)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]


def parse_address(text: str) -> str:
    """Return an IPv4 or IPv6 address in its canonical form.

    An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) becomes the IPv4 address.  Raises ValueError with a text that
    distinguishes a host name from a mistyped address.
    """
    try:
        address = ipaddress.ip_address(text)
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        pass
    if text.startswith("[") and text.endswith("]"):
        raise ValueError(f'"{text[:60]}" has brackets: they belong only before a port')
    if re.fullmatch(r"[0-9.]+", text, re.ASCII):
        raise ValueError(f'"{text[:60]}" is not an IPv4 address')
    if re.fullmatch(r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", text, re.ASCII):
        raise ValueError(f'"{text[:60]}" is not an IPv6 address')
    if re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*)", text, re.ASCII):
        raise ValueError(f'"{text[:60]}" is a name: write an IP address (the balancer does not resolve names)')
    raise ValueError(f'"{text[:60]}" is not an IP address')


def is_interface_name(text: str) -> bool:
    """Return True if the kernel accepts the text as the name of an interface (dev_valid_name in net/core/dev.c)."""
    return re.fullmatch(r"[^\s/:\0]+", text) is not None and len(text.encode()) <= _NAME and text not in {".", ".."}


def parse_host(text: str) -> str:
    """Return an address that one host can have, in its canonical form; raises ValueError in words for any other.

    Addresses that no packet can come from are refused: unspecified, multicast, limited broadcast (RFC 6890), and 0.0.0.0/8
    (RFC 1122 section 3.2.1.3).  Loopback is allowed: it is this host.
    """
    address = parse_address(text)
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id and not found.is_link_local:
            raise ValueError(f'"{text[:60]}" is not link-local: write it without the interface')
        if found.scope_id and not is_interface_name(found.scope_id):
            raise ValueError(f'"{found.scope_id[:40]}" is not the name of a network interface (at most 15 bytes)')
    if found.is_multicast:
        raise ValueError(f'"{text[:60]}" is a multicast address: no single host has it')
    if found == _BROADCAST:
        raise ValueError(f'"{text[:60]}" is the broadcast address: no single host has it')
    if found.is_unspecified or found in _THIS_NETWORK:
        raise ValueError(f'"{text[:60]}" is the address of no host')
    return address


def placed(address: str) -> str:
    """Return the address; raises ValueError for a link-local one that does not say on which interface."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.is_link_local and not found.scope_id:
        raise ValueError(f'"{address}" is link-local, so it needs its interface: write "{address}%eth0"')
    return address


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return placed(parse_host(value))
    except ValueError as error:
        raise mistake(str(error)) from None


Address = Annotated[str, BeforeValidator(_address)]
"""The IPv4 or IPv6 address of a host (no name, no prefix, no brackets), in canonical form.

A link-local IPv6 one has its interface: "fe80::1%eth0".
"""


def _path(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "\0" in value:
        raise mistake("a path must not contain a NUL character")
    if not value.startswith("/"):
        raise mistake(
            f'"{value[:60]}" is a relative path: write it from the root, so that it means the same everywhere'
        )
    if len(value.encode()) >= _PATH or any(len(part.encode()) > _PATH_PART for part in value.split("/")):
        raise mistake(
            f'"{value[:60]}…" is too long: a path has at most {_PATH - 1} bytes, each name in it {_PATH_PART}'
        )
    return value


def _secret_file(value: Any) -> Any:
    if not isinstance(value, str) or not is_credential(value):
        return _path(value)
    try:
        check_name(value)
    except ValueError as error:
        raise mistake(str(error)) from None
    return value


AbsolutePath = Annotated[str, BeforeValidator(_path)]

SecretFile = Annotated[str, BeforeValidator(_secret_file)]
"""An absolute path, or "credential:NAME": a credential of the service manager."""


def kebab(name: str) -> str:
    """Return the configuration key of a field: "fast_interval" is "fast-interval"."""
    return name.replace("_", "-")


class Table(BaseModel):
    """A table of the configuration: frozen, with kebab-case keys.  Refuses unknown keys.  Code may use the field names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, validate_by_name=True, validate_by_alias=True
    )
