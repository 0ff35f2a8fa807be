"""The operator's filter for connections and sessions."""

from typing import TYPE_CHECKING

from proxy.relay.clients.access import Blocks
from proxy.relay.native.tcp_connection import Connection
from proxy.relay.native.udp import Session

if TYPE_CHECKING:
    from proxy.relay.target import Target

Item = Connection | Session


class Wanted:
    """A filter by service, by block of client addresses, and by backend name or address; "" matches any."""

    def __init__(self, service: str, client: str, backend: str) -> None:
        self.service = service
        self._client = Blocks((client,)) if client else None
        self._backend = backend

    def __contains__(self, item: Item) -> bool:
        source = item.source if isinstance(item, Connection) else item.who
        if self._client is not None and source[0] not in self._client:
            return False
        target: Target | None = item.target
        return not self._backend or (target is not None and self._backend in {target.name, target.address})
