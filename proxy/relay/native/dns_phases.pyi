from collections.abc import Callable
from typing import Any

from proxy.relay.native.timers import Timers

class Patience:
    on_silent: Callable[[Any, float], None]
    on_end: Callable[[Any], None]
    def __init__(
        self,
        timers: Timers,
        ends: tuple[float, ...],
        on_silent: Callable[[Any, float], None],
        on_end: Callable[[Any], None],
    ) -> None: ...
    def __len__(self) -> int: ...
    def add(self, item: object, now: float) -> None: ...
    def remove(self, item: object) -> None: ...
    def retime(self, ends: tuple[float, ...]) -> None: ...
