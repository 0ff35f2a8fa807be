"""Values of other programs' files as ours; each function raises `LeftError` with the reason for a value that has no form here [pure]."""

import ipaddress
import itertools
import re
import shlex
from typing import Final

from health.units import format_duration, parse_host, placed
from proxy.config.importers.ledger import LeftError

_SHELL: Final = re.compile(r"[<>|&;$`*?(){}\[\]\n]")
_PROCESS: Final = re.compile(r"(?:/\S*/)?(?:killall -0|pidof|pgrep)(?: -[oqsxw])* ([\w.-]+)")


def number(text: str, least: int = 0, most: int = 2**31) -> int:
    """Return a whole number within bounds."""
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", text, re.ASCII):
        raise LeftError(f'"{text[:40]}" is not a whole number')
    if not least <= int(text) <= most:
        raise LeftError(f"{text} is out of range: {least} to {most}")
    return int(text)


def decimal(text: str) -> float:
    """Return a number of seconds that is written without a unit."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text, re.ASCII):
        raise LeftError(f'"{text[:40]}" is not a number of seconds')
    return float(text)


def duration(seconds: float) -> str:
    """Return a number of seconds in our form."""
    return format_duration(round(seconds, 6))


def address(text: str) -> str:
    """Return the address of a host; of names, only localhost means the same everywhere (RFC 6761 section 6.3)."""
    if text == "localhost":
        return "127.0.0.1"
    try:
        return placed(parse_host(text))
    except ValueError as error:
        raise LeftError(str(error)) from None


def is_address(text: str) -> bool:
    """Return True if a text is an IP address, of whatever kind."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def port(text: str) -> int:
    """Return a port from 1 to 65535."""
    return number(text, 1, 65535)


def block(text: str) -> str:
    """Return a block of addresses with no bits set after its prefix."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise LeftError(f'"{text[:60]}" is not a block of addresses') from None


def common(some: list[str], others: list[str]) -> list[str]:
    """Return the blocks of addresses that are in both lists."""
    pairs = itertools.product(map(ipaddress.ip_network, some), map(ipaddress.ip_network, others))
    found = [
        str(one if one.prefixlen > other.prefixlen else other)
        for one, other in pairs
        if one.version == other.version and one.overlaps(other)
    ]
    return list(dict.fromkeys(found))


def where(host: str) -> str:
    """Return an address as `listen` has it: IPv6 in brackets; every address of one family is that family's wildcard."""
    if host in {"", "*", "0.0.0.0"}:
        return "0.0.0.0"
    if host == "::":
        return "[::]"
    return f"[{address(host)}]" if ":" in host else address(host)


def command(text: str, *, exact: bool = False) -> list[str]:
    """Return the words of a command; what needs a shell or a search path is given to /bin/sh.

    A search for a process by signal becomes one by name, unless `exact`: programs run here may not signal other users'.
    """
    found = None if exact else _PROCESS.fullmatch(text.strip())
    if found:
        return ["/usr/bin/pgrep", "-x", found[1]]
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not text.strip():
        raise LeftError("the command is empty")
    if not words or not words[0].startswith("/") or _SHELL.search(text):
        return ["/bin/sh", "-c", text]
    return words
