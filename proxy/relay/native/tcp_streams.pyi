from typing import Any

from proxy.relay.native.poller import Poller
from proxy.relay.native.tcp_half import Room
from proxy.relay.observer import EndObserver, Observer

class Streams:
    log: EndObserver | None
    followed: Observer | None
    gate: Any
    queue: Any
    connect_timeout: float
    idle_timeout: float
    fin_timeout: float
    max_lifetime: float
    quiet: float
    introduced: bool
    guarded: bool
    transparent: bool
    @property
    def service(self) -> Any: ...
    @property
    def poller(self) -> Poller: ...
    @property
    def admission(self) -> Any: ...
    @property
    def cells(self) -> memoryview[int]: ...
    @property
    def base(self) -> int: ...
    @property
    def connections(self) -> set[Any]: ...
    @property
    def stalled(self) -> set[Any]: ...
    def __init__(self, service: Any, poller: Poller, admission: Room) -> None: ...
    def forget_ways(self) -> None: ...
