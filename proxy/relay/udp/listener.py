"""A UDP socket that clients of a service with sessions send to."""

import socket
from typing import TYPE_CHECKING

from proxy.relay.plan import Member
from proxy.relay.sockets.datagram import BATCH, endpoint

if TYPE_CHECKING:
    from proxy.relay.udp.sessions import UdpService


class UdpListener:
    """One UDP socket that clients send to."""

    def __init__(self, udp: "UdpService", member: Member, sock: socket.socket) -> None:
        self.udp = udp
        self.member = member
        self.sock = sock
        self.receive, self.reply = endpoint(sock, member.address)
        self.route = member.text.encode()
        self.ident = member.listener
        self.sessions = 0  # the number of sessions that answer through this socket

    def stop(self) -> None:
        """Stop polling, and take what has arrived already."""
        self.udp.poller.forget(self.sock)
        self.udp.poller.again(self.on_event)

    @property
    def reading(self) -> bool:
        """Return True if there may be more to take."""
        return self.udp.poller.waits(self.on_event)

    @property
    def needed(self) -> bool:
        """Return True if a session answers through this socket."""
        return self.sessions > 0

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - reading tells what happened
        """Read the clients' datagrams and send them to backends."""
        receive = self.receive
        udp = self.udp
        buffer, view = udp.buffer, udp.view
        for _ in range(BATCH):
            try:
                size, client = receive(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue
            udp.take(self, view[:size], client)
        udp.poller.again(self.on_event)
