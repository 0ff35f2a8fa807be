from collections.abc import Callable

from proxy.relay.sockets.address import Client

class Memo:
    def __init__(self, function: Callable[[str], int]) -> None: ...
    def of(self, client: Client) -> int: ...
