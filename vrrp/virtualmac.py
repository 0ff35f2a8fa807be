"""The virtual router's own Ethernet address (RFC 9568 section 7.3): a macvlan interface above the real one.

Clients keep the same Ethernet address for a virtual address through every move, so they need no announcement; only the
switches must learn the new port.  The interface exists while the router is active.
"""

import asyncio
import contextlib
import errno
from pathlib import Path

from vrrp import arp
from vrrp.kernel import Kernel, Link

_APPEARS = 1.0  # s from the order until the mirror must show the interface
_CONF = Path("/proc/sys/net/ipv4/conf")


def name_of(index: int, vrid: int, family: int) -> str:
    """Return the interface's name, at most 15 characters for indexes up to 99999."""
    return f"vr{index}.{vrid}.{family}"


async def make(kernel: Kernel, interface: str, vrid: int, family: int) -> Link:
    """Create the interface above another, unless it exists, and return it.  Raises OSError."""
    parent = kernel.link(interface)
    if parent is None:
        raise OSError(errno.ENODEV, f"no interface {interface}")
    name = name_of(parent.index, vrid, family)
    # The real interface must not answer for the address, or ask from it, with its own Ethernet address.
    _set(_CONF / interface / "arp_ignore", "1")
    _set(_CONF / interface / "arp_announce", "2")
    with contextlib.suppress(FileExistsError):
        await kernel.add_macvlan(name, parent.index, arp.virtual_mac(vrid, family))
    # It has only the virtual addresses: the answers to packets that it receives leave by the real interface.
    _set(_CONF / name / "arp_ignore", "1")
    _set(_CONF / name / "rp_filter", "0")
    _set(_CONF / name / "accept_local", "1")
    try:
        async with asyncio.timeout(_APPEARS):
            while (link := kernel.link(name)) is None or not link.up:  # noqa: ASYNC110 - a few ms, seldom
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise OSError(errno.ETIMEDOUT, f"interface {name} did not come up") from None
    return link


async def remove(kernel: Kernel, interface: str, vrid: int, family: int) -> None:
    """Remove the interface, if it exists."""
    parent = kernel.link(interface)
    if parent is not None:
        with contextlib.suppress(OSError):
            await kernel.remove_link(name_of(parent.index, vrid, family))


def _set(path: Path, value: str) -> None:
    with contextlib.suppress(OSError):
        path.write_text(value, encoding="ascii")
