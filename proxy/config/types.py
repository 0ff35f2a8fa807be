"""The small grammars of the file: listeners, port lists, backends, CIDR blocks, rates and shares.

Each `parse_…` turns a text into a value, or raises ValueError whose text is the error message for the user.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from health.credentials import check_name, is_credential
from health.units import FROM_FILE, is_interface_name, mistake, parse_address, parse_host, placed

Transport = Literal["udp", "tcp"]

NAME_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
_NAME: Final = re.compile(NAME_PATTERN, re.ASCII)
MOST_KEY_ID: Final = 255
"""The highest id of a key that signs adverts: an octet, and not 0."""
MOST_KEYS: Final = 16
"""The most keys of a router, because a forged advert is compared with each key."""
_MOST_PORTS: Final = 4096
_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ListenText:
    """The parts of a `listen` entry: `where` is an address, `*` or the name of a vrrp router."""

    where: str
    ports: tuple[int, ...]
    transport: Transport
    is_name: bool


def is_name(text: str) -> bool:
    """Return True if a text can name a service, a probe, a node or a router."""
    return _NAME.fullmatch(text) is not None


def parse_port(text: str) -> int:
    """Return a port 1-65535."""
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise ValueError(f'"{text[:20]}" is not a port number')
    port = int(text)
    if not 1 <= port <= _LAST_PORT:
        raise ValueError(f"port {port} is out of range: ports are 1 to 65535")
    return port


def parse_ports(text: str) -> tuple[int, ...]:
    """Return the ports of "53", "143,993" or "1812-1813" in the order written; at most 4096, none twice."""
    ports: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low = parse_port(first.strip())
        high = parse_port(last.strip()) if dash else low
        if high < low:
            raise ValueError(f"the port range {low}-{high} runs backwards")
        if len(ports) + high - low >= _MOST_PORTS:
            raise ValueError(f"{text[:40]} is more than {_MOST_PORTS} ports")
        ports.extend(range(low, high + 1))
    twice = len(ports) - len(set(ports))
    if twice:
        raise ValueError(f'"{text[:40]}" names {twice} of its ports twice')
    return tuple(ports)


def parse_bind(text: str) -> str:
    """Return an address that a socket can bind to: an address of a host, or 0.0.0.0 or :: for all addresses."""
    address = parse_address(text)
    return address if ipaddress.ip_address(address).is_unspecified else placed(parse_host(text))


def parse_listen(text: str) -> ListenText:
    """Return the parts of WHERE:PORTS/TRANSPORT."""
    head, transport = _split(text)
    if head.startswith("["):
        return _parse_bracketed(text, head, transport)
    where, colon, ports = head.rpartition(":")
    if where == "" and (colon or _are_ports(head)):
        raise ValueError(
            f'"{text[:60]}" has no address: for every address of the host write "{_sound(f"*:{ports}")}/{transport}"'
        )
    if not colon:
        raise ValueError(f'"{text[:60]}" has no port: write "{_sound(head)}/{transport}"')
    if ":" in where:
        wrong = (
            "needs brackets around the IPv6 address"
            if _is_address(where) or _is_address(head)
            else "is not an address and a port"
        )
        raise ValueError(f'"{head[:60]}" {wrong}: write "{_sound(head)}/{transport}"')
    if where == "*" or re.fullmatch(r"[0-9.]+", where, re.ASCII):
        address = where if where == "*" else parse_bind(where)
        return ListenText(address, parse_ports(ports), transport, is_name=False)
    if not is_name(where):
        raise ValueError(f'"{where[:60]}" is neither an IP address, nor "*", nor the name of a [vrrp.NAME]')
    return ListenText(where, parse_ports(ports), transport, is_name=True)


def _split(text: str) -> tuple[str, Transport]:
    """Return WHERE:PORTS and the transport."""
    if (url := text.partition("://"))[1]:
        raise ValueError(f'"{text[:60]}" is a URL: write "{_sound(url[2].partition("/")[0])}/tcp"')
    head, slash, transport = text.partition("/")
    match transport.strip():
        case "udp":
            return head, "udp"
        case "tcp":
            return head, "tcp"
    wrong = f'"{transport.strip()[:20]}" is not a transport' if slash else f'"{text[:60]}" has no transport'
    raise ValueError(f'{wrong}: write "{_sound(head)}/udp" or "{_sound(head)}/tcp"')


def _parse_bracketed(text: str, head: str, transport: Transport) -> ListenText:
    inside, bracket, rest = head[1:].partition("]")
    if not bracket or not rest.startswith(":"):
        raise ValueError(f'"{text[:60]}" has no port: write "{_sound(head)}/{transport}"')
    where, ports = parse_address(inside), rest[1:]
    if ":" not in inside:
        raise ValueError(f'"[{inside[:60]}]" is an IPv4 address: brackets are for IPv6')
    if ":" not in where:
        raise ValueError(f'"[{inside[:60]}]" is an IPv4 address: write "{_sound(f"{where}{rest}")}/{transport}"')
    return ListenText(parse_bind(where), parse_ports(ports), transport, is_name=False)


_PARTS: Final = re.compile(
    r"(?:\[([^\]]*)\]?|([0-9.]+(?=[\s:]|$)|\*|[A-Za-z_][A-Za-z0-9_.-]*))?[\s:]*([0-9].*)?", re.DOTALL
)


def _sound(head: str) -> str:
    """Return WHERE:PORTS with the valid parts of `head`, and an example in place of the rest."""
    head = head.strip()
    where, _, ports = head.rpartition(":")
    if not (_is_address(where) and _are_ports(ports)):
        found = _PARTS.fullmatch(head)
        where, ports = (found[1] or found[2] or "", found[3] or "") if found else ("", "")
        if _is_address(head):
            where, ports = head, ""
        if _are_ports(head):
            where, ports = "*", head
    if _is_address(where):
        where = parse_bind(where)
        where = f"[{where}]" if ":" in where else where
    elif head.startswith("["):
        where = "[2001:db8::1]"
    elif where != "*" and (not is_name(where) or where[0].isdigit()):
        where = "10.0.0.10"
    return f"{where}:{ports if _are_ports(ports) else '53'}"


def _are_ports(text: str) -> bool:
    try:
        parse_ports(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        parse_bind(text)
    except ValueError:
        return False
    return "]" not in text  # Python accepts "]" in the name of an interface


def parse_endpoint(text: str) -> tuple[str, int | None]:
    """Return address and port (None if not written) of "192.0.2.1", "192.0.2.1:53", "2001:db8::1" or "[2001:db8::1]:53"."""
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f'"{text[:60]}" is not an address: write "[2001:db8::1]:53"')
        address = parse_address(inside)
        if ":" not in inside:
            raise ValueError(f'"[{inside[:60]}]" is an IPv4 address: brackets are for IPv6')
        return address, parse_port(rest[1:]) if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return parse_address(host), parse_port(port)
    return parse_address(text), None


def join_endpoint(address: str, port: int) -> str:
    """Return "192.0.2.1:53" or "[2001:db8::1]:53"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse_cidr(text: str) -> str:
    """Return a block such as "10.0.0.0/16" (a bare address is itself) in canonical form."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text[:60]}" is not a block of addresses: write "10.0.0.0/16" or "2001:db8::/32"') from None
    raise ValueError(f'"{text[:60]}" has bits set behind its prefix: write "{loose}"')


def parse_interface_address(text: str) -> str:
    """Return a virtual address with its prefix; without one it is /32 or /128.

    Raises ValueError for an address that a router cannot hold for its clients.
    """
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f'"{text[:60]}" is not an address: write "10.0.0.10/24" or "2001:db8::10/64"') from None
    if isinstance(found, ipaddress.IPv6Interface) and found.scope_id:
        bare = ipaddress.IPv6Interface((found.packed, found.network.prefixlen))
        raise ValueError(f'"{text[:60]}" names an interface, which the router has already: write "{bare}"')
    if isinstance(found, ipaddress.IPv6Interface) and found.ip.ipv4_mapped is not None:
        raise ValueError(f'"{text[:60]}" is an IPv4 address: write "{found.ip.ipv4_mapped}"')
    parse_host(text.partition("/")[0])
    if found.is_loopback:
        raise ValueError(f'"{found.ip}" is a loopback address: no client on the network can reach it')
    _fits_its_network(found)
    return str(found)


def _fits_its_network(found: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
    """Raise ValueError for the address of a network or its broadcast address."""
    if found.network.prefixlen == 0:
        raise ValueError(f'"{found}" makes every address a neighbour: write "{found.ip}" or the prefix of its network')
    if found.version == 4 and found.network.prefixlen < 31:  # noqa: PLR2004 - RFC 3021: a /31 has neither
        kind = {found.network.network_address: "network", found.network.broadcast_address: "broadcast"}.get(found.ip)
        if kind is not None:
            raise ValueError(f'"{found.ip}" is the {kind} address of {found.network}: no host can have it')


def parse_member(text: str) -> str:
    """Return the address of a member of a router: on the router's interface, without naming it."""
    found = ipaddress.ip_address(parse_address(text))
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id:
        bare = ipaddress.IPv6Address(found.packed)
        raise ValueError(f'"{text[:60]}" names an interface, which the router has already: write "{bare}"')
    if found.is_loopback:
        raise ValueError(f'"{text[:60]}" is a loopback address: the other members cannot reach it')
    return parse_host(text)


def _of_text(parse: Any) -> BeforeValidator:
    """Wrap a parser of texts, so that its ValueError becomes the user's error message."""

    def validate(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ValueError as error:
            raise mistake(str(error)) from None

    return BeforeValidator(validate)


def _bind(text: str) -> str:
    address, port = parse_endpoint(text)
    if port is None:
        raise ValueError(f'"{text[:60]}" has no port: write "{join_endpoint(address, 9600)}"')
    return join_endpoint(parse_bind(address), port)


Cidr = Annotated[str, _of_text(parse_cidr)]
InterfaceAddress = Annotated[str, _of_text(parse_interface_address)]
MemberAddress = Annotated[str, _of_text(parse_member)]
Bind = Annotated[str, _of_text(_bind)]
"""ADDRESS:PORT"""


def _one_or_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _network_log(text: str) -> str:
    if text.startswith("udp://"):
        address, port = parse_endpoint(text[6:])
        if port is None:
            raise ValueError(f'"{text[:60]}" has no port: write "udp://{join_endpoint(address, 514)}"')
        return "udp://" + join_endpoint(placed(parse_host(address)), port)
    if text != "stdout" and not text.startswith("/"):
        raise ValueError(f'"{text[:60]}" is none of "stdout", an absolute path, "udp://192.0.2.1:514"')
    parts = text.split("/")[1:]
    if text != "stdout" and ({"", ".", ".."}.intersection(parts) or not text.isprintable()):
        raise ValueError(
            f'"{text[:60]}" is not the plain path of a file: no "..", no "//", nothing behind the last "/"'
        )
    return text


LogTarget = Annotated[str, _of_text(_network_log)]
Binds = Annotated[tuple[Bind, ...], BeforeValidator(_one_or_list)]


def _rate(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9})\s*/\s*(s|m|h)", value, re.ASCII)
        if not match or int(match[1]) == 0:
            raise mistake(f'"{value[:40]}" is not a rate: write "100/s"')
        return int(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2]]
    if info.context is FROM_FILE or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise mistake('a rate is a string: "100/s"')
    return float(value)


def _share(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%", value, re.ASCII)
        if not match or float(match[1]) > 100:  # noqa: PLR2004 - the whole
            raise mistake(f'"{value[:40]}" is not a share: write "10%"')
        return float(match[1]) / 100
    if info.context is FROM_FILE or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise mistake('a share is a string: "10%"')
    return float(value)


Rate = Annotated[float, BeforeValidator(_rate), WithJsonSchema({"type": "string", "pattern": r"^[0-9]+\s*/\s*[smh]$"})]
"""Events a second; from a file "100/s"."""
Share = Annotated[float, BeforeValidator(_share), WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+\s*%$"})]
"""0.0-1.0; from a file "10%"."""


def _interface(text: str) -> str:
    if not is_interface_name(text):
        raise ValueError(f'"{text[:40]}" is not the name of a network interface (at most 15 characters)')
    return text


InterfaceName = Annotated[str, _of_text(_interface)]


def parse_key_file(text: str) -> tuple[int | None, str]:
    """Return the id, if there is one, and the path of "/etc/key" or "2:/etc/key", which may be "credential:NAME"."""
    number, colon, path = text.partition(":")
    if text.startswith("/") or is_credential(text) or not colon:
        number, path = "", text
    if "\0" in path:
        raise ValueError("a path must not contain a NUL character")
    if is_credential(path):
        check_name(path)
    elif not path.startswith("/"):
        raise ValueError(
            f'"{text[:60]}" is no absolute path, nor one behind the id of its key: write "2:/etc/steelyard/key"'
        )
    if not number:
        return None, path
    if not re.fullmatch(r"[0-9]{1,3}", number, re.ASCII) or not 1 <= int(number) <= MOST_KEY_ID:
        raise ValueError(f'"{number[:20]}" is not the id of a key: ids are 1 to {MOST_KEY_ID}')
    return int(number), path


def _key_file(text: str) -> str:
    parse_key_file(text)
    return text


KeyFile = Annotated[str, _of_text(_key_file)]
"""The path or the credential of a key file, after the key's id and a colon if it has an id."""
