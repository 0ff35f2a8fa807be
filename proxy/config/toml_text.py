"""Keys and values of the effective configuration as they are written in a file [pure]."""

import json
from typing import Any, Final

from health.units import format_duration

DURATIONS: Final = frozenset(
    {
        "advert-interval",
        "connect-timeout",
        "down-interval",
        "drain-timeout",
        "fast-interval",
        "fin-timeout",
        "give-up",
        "idle-timeout",
        "interval",
        "keepalive",
        "max-lag",
        "max-lifetime",
        "preempt-delay",
        "quiet",
        "recover-lag",
        "reexec-timeout",
        "refresh",
        "repeat-after",
        "retry-after",
        "slow-start",
        "start-delay",
        "stop-timeout",
        "time",
        "timeout",
        "user-timeout",
    }
)
"""Keys whose numbers are seconds, to be written with a unit."""


def key_text(name: str) -> str:
    """Return a key, in quotes if TOML requires them."""
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else _string(name)


def value_text(key: str, value: Any) -> str:
    """Return the value of `key`, as JSON has it, in TOML; durations get a unit."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and key in DURATIONS:
        return _string(format_duration(value))
    if key == "max-share":
        return _string(f"{value * 100:.10g}%")
    if isinstance(value, list):
        return f"[{', '.join(value_text('', item) for item in value)}]"
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    """Return a text as a basic string of TOML in ASCII.  That of JSON has surrogates, which TOML does not know."""
    return f'"{"".join(map(_character, text))}"'


def _character(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if " " <= char <= "~":
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - what fits four digits
