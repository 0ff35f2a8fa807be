from proxy.relay.native.pipes import Pipes
from proxy.relay.native.poller import Poller

READS: int

class Room:
    open: int
    most: int
    paused: bool
    crowded: bool
    @property
    def poller(self) -> Poller: ...
    @property
    def pipes(self) -> Pipes: ...
    @property
    def size(self) -> int: ...
    @property
    def splice_from(self) -> int: ...
    def __init__(self, most: int, poller: Poller, size: int, splice_from: int, pipes: int) -> None: ...
