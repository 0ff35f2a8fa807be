"""Who holds a port: the process behind an "address already in use"."""

import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

LOOKED_AT = 100_000  # descriptors of other processes that are looked at, at the most

Endpoint = tuple[str, str, int]
"""(transport, address, port)"""

_LISTEN = "0A"  # TCP_LISTEN
_TIME_WAIT = "06"


def holder(transport: str, address: str, port: int) -> str | None:
    """Describe the process that holds `address`:`port`; None when the port's sockets cannot be told."""
    return holders({(transport, address, port)}).get((transport, address, port))


def holders(wanted: Collection[Endpoint]) -> dict[Endpoint, str]:
    """Describe the processes that hold these ports, as "NAME (pid N)"; one that cannot be told is left out.

    Sockets are found in /proc/net (proc(5)), their owner by its descriptors: those of other users only root can see.
    """
    tables = {transport: list(_sockets(transport)) for transport in {one[0] for one in wanted}}
    inodes = {endpoint: _in_the_way(endpoint, tables[endpoint[0]]) for endpoint in wanted}
    owners = _owners({inode for found in inodes.values() for inode in found})
    unseen = "a process that cannot be seen from here" if os.geteuid() == 0 else "a process that only root can see"
    return {
        endpoint: next((owners[inode] for inode in found if inode in owners), unseen)
        for endpoint, found in inodes.items()
        if found
    }


def beside_ours(endpoint: Endpoint) -> bool:
    """Whether all that an attempt to bind may have collided with is this process's own, at other addresses."""
    transport, address, port = endpoint
    table = list(_sockets(transport))
    found = set(_in_the_way(endpoint, table))
    same = {row[4] for row in table if row[:3] == (":" in address, _hex(address), port)}
    own = {inode for name in _names("/proc/self/fd") if (inode := _inode(f"/proc/self/fd/{name}"))}
    return bool(found) and found <= own - same


def _sockets(transport: str) -> Iterator[tuple[bool, str, int, str, str]]:
    """Yield (of IPv6, local address, local port, state, inode) of each socket, as /proc/net writes them."""
    for table in (transport, f"{transport}6"):
        try:
            rows = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            local, _, port = fields[1].rpartition(":")
            yield table.endswith("6"), local, int(port, 16), fields[3], fields[9]


def _in_the_way(endpoint: Endpoint, table: list[tuple[bool, str, int, str, str]]) -> list[str]:
    """Return the inodes of the sockets that an attempt to bind may have collided with, those that listen first."""
    transport, address, port = endpoint
    six = ":" in address
    any4, any6 = _hex("0.0.0.0"), _hex("::")
    found = []
    for of_six, local, local_port, state, inode in table:
        if local_port != port or inode == "0" or (transport == "tcp" and state == _TIME_WAIT):
            continue
        if six:
            collides = of_six and (address == "::" or local in {_hex(address), any6})
        elif of_six:  # a socket for both families, or one for an IPv4-mapped address
            collides = local == any6 or (address != "0.0.0.0" and local == _hex(f"::ffff:{address}"))
        else:
            collides = address == "0.0.0.0" or local in {_hex(address), any4}
        if collides:
            found.append((transport == "tcp" and state != _LISTEN, of_six != six, inode))
    return [inode for _, _, inode in sorted(found)]


def _owners(inodes: Collection[str]) -> dict[str, str]:
    """Return the processes that have these sockets open, by inode, as far as they can be seen."""
    owners: dict[str, str] = {}
    looked = 0
    if not inodes:
        return owners
    for process in sorted((one for one in _names("/proc") if one.isdigit()), key=int):
        descriptors = _names(f"/proc/{process}/fd")
        for fd in descriptors[: LOOKED_AT - looked]:
            inode = _inode(f"/proc/{process}/fd/{fd}")
            if inode in inodes and inode not in owners:
                owners[inode] = f"{_name(Path('/proc', process))} (pid {process})"
        looked += len(descriptors)
        if looked >= LOOKED_AT or len(owners) == len(inodes):
            break
    return owners


def _inode(descriptor: str) -> str:
    """Return the inode of a socket, nothing for other files."""
    try:
        target = os.readlink(descriptor)  # noqa: PTH115 - a hundred thousand of them
    except OSError:
        return ""
    return target[8:-1] if target.startswith("socket:[") else ""


def _names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def _name(process: Path) -> str:
    """Name what runs: for an interpreter, the module or script rather than `python3`."""
    try:
        words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        comm = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a process that has just ended"
    if "-m" in words[:-1]:
        module = words[words.index("-m") + 1]
        return "steelyard" if module.split(".")[0] == "proxy" else module
    return "steelyard" if len(words) > 1 and Path(words[1]).name == "steelyard" else comm


def _hex(address: str) -> str:
    """An address as /proc/net writes it: 32-bit words in the host's order."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address.partition("%")[0])
    return "".join(raw[at : at + 4][::-1].hex().upper() for at in range(0, len(raw), 4))
