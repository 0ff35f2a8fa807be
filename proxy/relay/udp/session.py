"""A session of plain UDP: one client's datagrams to and from one backend, over one socket."""

import errno
import socket
from typing import TYPE_CHECKING

from proxy.relay.proxy_header.datagrams import header_for, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.sockets.address import Client
from proxy.relay.sockets.datagram import BATCH, UNSENT
from proxy.relay.target import Target
from proxy.stats.layout import (
    BACKEND_BYTES_IN,
    BACKEND_BYTES_OUT,
    BACKEND_PORT_UNREACHABLE,
    BACKEND_REPLIES,
    BACKEND_SEND_FAILED,
    SERVICE_REPLIES,
    SERVICE_UNSENT_REPLIES,
)

if TYPE_CHECKING:
    from proxy.relay.udp.listener import UdpListener

Key = tuple[int, Client]
"""(listener, client); with a PROXY header the client is the source and the header's addresses."""


class Session:
    """One client's datagrams to and from one backend."""

    __slots__ = ("asked", "began", "bytes_in", "bytes_out", "client", "end", "epoch", "head", "heard", "key", "listener", "local", "refused", "sock",
                 "sticky", "target", "told", "touched", "who")  # fmt: skip

    def __init__(
        self, listener: "UdpListener", client: Client, target: Target, sock: socket.socket, told: Header | None = None
    ) -> None:
        self.key = key_of(listener, client, told)
        self.listener = listener
        self.client = client
        self.told = told
        self.who = who(client, told)  # the client's own address, from the PROXY header if there is one
        self.target = target
        self.end = target, target.address, target.port or listener.member.port
        self.sock = sock
        self.began = self.touched = 0.0
        self.bytes_in = self.bytes_out = 0
        self.heard = 0.0  # time of the backend's last datagram
        self.asked = 0.0  # start of the wait for the first answer, if the scheduler needs its time; else 0.0
        ours = target.family == socket.AF_INET6 and listener.udp.service.stock is None
        self.local = sock.getsockname() if ours else None
        self.refused = False  # the backend's port is closed, or it cannot be reached: pick another one
        self.head = header_for(target, listener.member, client, told)  # stands before each datagram to the backend
        self.sticky = 0  # the key of the client's template if the service has persistence
        self.epoch = listener.udp.service.epoch  # the service's epoch when the target was last checked

    def send(self, data: bytes | memoryview, tried: tuple[Target, ...] = ()) -> bool:
        """Send a datagram, which the backends in `tried` have refused; return False if it must go to another backend."""
        udp, cell = self.listener.udp, self.target.cell
        for _ in range(2):
            try:
                if self.head:
                    self.sock.sendmsg((self.head, data))
                else:
                    self.sock.send(data)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    # Perhaps an ICMP error about an earlier datagram (RFC 1191): this one was not sent, and the path is known now.
                    continue
                if error.errno in UNSENT:
                    break
                self.broke(error)
                return False
            udp.cells[cell + BACKEND_BYTES_IN] += len(data)
            self.bytes_in += len(data)
            udp.unanswered.keep(self, data, self.end, tried, udp.poller.now)
            return True
        udp.cells[cell + BACKEND_SEND_FAILED] += 1
        return True

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - reading tells what happened
        """Send the backend's datagrams to the client."""
        listener = self.listener
        udp = listener.udp
        cells, cell = udp.cells, self.target.cell
        buffer, view = udp.buffer, udp.view
        receive, reply, client = self.sock.recv_into, listener.reply, self.client
        for _ in range(BATCH):
            try:
                size = receive(buffer)
            except BlockingIOError:
                if self.refused:
                    udp.resend(self)
                return
            except OSError as error:
                # The kernel reports it before datagrams that arrived earlier, and no further edge follows for them.
                if error.errno != errno.EMSGSIZE:
                    self.broke(error)
                continue
            udp.touch(self)
            self.heard = self.touched
            if not self.refused:  # else it answers an earlier datagram
                udp.unanswered.forget(self)
            if self.asked:
                udp.service.took_time(self.target, self.heard - self.asked)
                self.asked = 0.0
            self.target.failures = 0
            cells[cell + BACKEND_REPLIES] += 1
            cells[cell + BACKEND_BYTES_OUT] += size
            self.bytes_out += size
            try:
                reply(view[:size], client)
            except OSError:
                cells[udp.base + SERVICE_UNSENT_REPLIES] += 1
            else:
                cells[udp.base + SERVICE_REPLIES] += 1
        udp.poller.again(self.on_event)

    def broke(self, error: OSError) -> None:
        """Count an ICMP error or a broken route; the next datagram gets a new socket, and another backend if possible."""
        udp = self.listener.udp
        refused = error.errno == errno.ECONNREFUSED
        udp.cells[self.target.cell + (BACKEND_PORT_UNREACHABLE if refused else BACKEND_SEND_FAILED)] += 1
        udp.service.failed(self.target)
        self.refused = True
        if refused:
            udp.closed(self)


def key_of(listener: "UdpListener", client: Client, told: Header | None) -> Key:
    """Return the key of a client's session."""
    return listener.ident, (client if told is None else (*client, told.client, told.asked))
