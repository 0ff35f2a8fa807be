import socket

from proxy.relay.native.poller import Poller
from proxy.relay.native.udp_listener import Receiver
from proxy.relay.plan import Member
from proxy.relay.proxy_header.header import Header
from proxy.relay.service import Service
from proxy.relay.sockets.address import Client
from proxy.relay.target import Target

class PerDatagramListener(Receiver):
    needed: bool
    def __init__(self, udp: Datagrams, member: Member, sock: socket.socket) -> None: ...
    @property
    def udp(self) -> Datagrams: ...
    def forget_outlets(self) -> None: ...

class Outlet:
    born: float
    barred: float
    def __init__(self, udp: Datagrams, target: Target, port: int) -> None: ...
    @property
    def target(self) -> Target: ...
    @property
    def port(self) -> int: ...
    def fileno(self) -> int: ...
    def use(self, sock: socket.socket, now: float) -> None: ...
    def close(self) -> None: ...
    def send(self, head: bytes, data: bytes, source: tuple[int, int, bytes] | None) -> bool: ...
    def keep(
        self,
        listener: PerDatagramListener,
        data: bytes,
        client: Client,
        told: Header | None,
        refused: tuple[Target, ...],
    ) -> None: ...
    def take_last(
        self,
    ) -> tuple[PerDatagramListener, bytes, Client, Header | None, tuple[Target, ...], float] | None: ...

class Datagrams:
    lifetime: float
    introduced: bool
    anybody: bool
    rated: bool
    headed: bool
    avoiding: bool
    def __init__(self, service: Service, poller: Poller) -> None: ...
    @property
    def service(self) -> Service: ...
    @property
    def poller(self) -> Poller: ...
    def admit(self, listener: PerDatagramListener, data: bytes, client: Client, told: Header | None = None) -> None: ...
