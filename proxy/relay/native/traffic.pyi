from proxy.balance.selector import Selector
from proxy.relay.capacity import Capacity
from proxy.relay.clients.persistence import Persistence
from proxy.relay.native.memo import Memo
from proxy.relay.native.rates import Rate
from proxy.relay.sockets.address import Client
from proxy.relay.target import Target

class Traffic:
    capacity: Capacity | None
    persistence: Persistence | None
    keeper: Persistence | None
    timed: bool
    epoch: int
    selector: Selector
    def __init__(self, cells: memoryview[int], cell: int) -> None: ...
    @property
    def cells(self) -> memoryview[int]: ...
    @property
    def cell(self) -> int: ...
    @property
    def needs_key(self) -> bool: ...
    @property
    def needs_changes(self) -> bool: ...
    def took(self, target: Target) -> None: ...
    def adopted(self, target: Target) -> None: ...
    def gave_back(self, target: Target) -> None: ...
    def know(
        self,
        permitted: Memo | None,
        source_keys: Memo | None,
        by_question: bool,
        tcp_rate: Rate | None,
        udp_rate: Rate | None,
    ) -> None: ...
    def rules(self, client: Client, route: bytes, question: bytes | None) -> tuple[bool, int, int]: ...
    def is_too_fast(self, rate: Rate, address: str) -> bool: ...
