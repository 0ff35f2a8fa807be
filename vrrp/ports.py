"""The sockets of a host's routers: one for each interface and IP version that has a router."""

import logging
from collections import Counter
from collections.abc import Iterable

from vrrp.instance import Instance
from vrrp.kernel import Kernel
from vrrp.roster import Roster
from vrrp.sockets import Packet, Port

_Key = tuple[str, int]  # interface, IP version

_log = logging.getLogger("steelyard.vrrp")


class Ports:
    """Opens the sockets, and hands each packet to the instance that it is for."""

    def __init__(self, kernel: Kernel, roster: Roster) -> None:
        self._kernel = kernel
        self._roster = roster
        self._ports: dict[_Key, Port] = {}
        self._counters: dict[_Key, Counter[str]] = {}

    def of(self, instance: Instance) -> Port | None:
        """Return the socket that an instance sends by, None if there is none."""
        return self._ports.get((instance.settings.interface, instance.family))

    def open(self, instance: Instance, *, anew: bool = False) -> bool:
        """Open the socket of an instance's interface, unless it is open; return False if this fails, which is a fault.

        `anew` replaces an open socket too, as the interface may have been replaced.  Raises PermissionError.
        """
        key = (instance.settings.interface, instance.family)
        link = self._kernel.link(instance.settings.interface)
        old = self._ports.get(key)
        if old is not None and link is not None and old.index == link.index and not anew:
            return True
        if old is not None:
            self._ports.pop(key).close()
        if link is None:
            return True  # a fault of its own
        counters = self._counters.setdefault(key, Counter())
        try:
            self._ports[key] = Port(*key, lambda packet: self._received(key, packet), counters)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            counters["open_failed"] += 1
            _log.warning("no socket on %s: %s", link.name, error)
            instance.mute(f"no socket to send adverts: {error.strerror}")
            return False
        return True

    def reopen(self) -> None:
        """Open all sockets again: an interface may have been replaced by another with its name and number."""
        for interface, family in list(self._ports):
            found = (one for _, one in self._roster.on_interface(interface) if one.family == family)
            instance = next(found, None)
            if instance is not None:
                self.open(instance, anew=True)

    def trim(self) -> None:
        """Close the sockets that no router needs any more."""
        needed = {(one.settings.interface, one.family) for one in self._roster.instances.values()}
        for key in self._ports.keys() - needed:
            self._ports.pop(key).close()
            self._counters.pop(key, None)

    def read(self, instances: Iterable[Instance]) -> None:
        """Hand over the packets that wait in the sockets of these instances."""
        for port in {self.of(one): None for one in instances}:
            if port is not None:
                port.read()

    def counters(self) -> dict[str, dict[str, int]]:
        """Return what each socket ("eth0/4") has counted, without those that have counted nothing."""
        return {f"{name}/{family}": dict(counted) for (name, family), counted in self._counters.items() if counted}

    def close(self) -> None:
        """Close all sockets."""
        for port in self._ports.values():
            port.close()
        self._ports.clear()

    def _received(self, key: _Key, packet: Packet) -> None:
        vrid = packet.data[1] if len(packet.data) > 1 else None
        instance = None if vrid is None else self._roster.on_wire((key[0], vrid, key[1]))
        if instance is not None:
            instance.receive(packet)
        else:
            self._counters[key]["truncated" if vrid is None else "vrid"] += 1
