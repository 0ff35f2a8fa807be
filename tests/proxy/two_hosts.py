"""Two daemons' backends in memory with a link between them that a test can cut; only processes and sockets are left out."""

import asyncio
import base64
from collections import deque
from types import SimpleNamespace

from proxy.backends.shared_acts import SHARED, SharedActs
from proxy.commands.admin import admin_handler
from proxy.commands.membership import MembershipCommands
from proxy.config.settings import PairSettings
from proxy.control.server import Request
from proxy.herald.peer_link import PeerLink
from proxy.partner import Partner
from proxy.peer.messages import decode
from proxy.processes.faults import Faults
from proxy.processes.messages import herald as herald_messages
from proxy.records import document
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.status.rows import Verdict
from tests.proxy.backends.bed import Bed

PAIR = PairSettings.model_validate(
    {"members": {"a": "10.0.0.2", "b": "10.0.0.3"}, "certificate": "/x/own.pem", "peer-certificate": "/x/peer.pem"}
)


class Host:
    """One host: its backends, its link, and its partner."""

    def __init__(self, node, directory, *, warm=False, pair=PAIR, changes=()):
        directory.mkdir(exist_ok=True)
        self.node = node
        self.bed = Bed(directory, ('name = "n"', f'name = "{node}"'), *changes)
        self.sent = deque()
        self.orders = []
        self.faults = []
        config = self.bed.running.config.model_copy(update={"pair": pair})
        self.link = PeerLink(config, self.bed.tell, self._send, dict)
        saved = Document(DiskThread("disk"), directory, SHARED)
        saved.content = document.load(directory, SHARED)
        self.shared = SharedActs(
            node, self.bed.running, self.bed.admins, self.bed.membership, self.bed.tell, saved, warm=warm
        )
        self.verdicts = {}
        self.reconsidered = []
        readiness = SimpleNamespace(
            ask_peer=lambda asked: None, known=self.verdicts, reconsider=self.reconsidered.append
        )
        self.partner = Partner(
            self.link, self.bed.running, self.shared, readiness, self.bed.tell, Faults(self.faults.append)
        )
        stranded = SimpleNamespace(stranded_by=self.bed.stranded)
        self._act = admin_handler(self.bed.running, self.bed.admins, stranded, self.partner)
        self._commands = MembershipCommands(self.bed.running, self.bed.admins, self.bed.membership, self.partner)

    def _send(self, message, fds):
        if isinstance(message, herald_messages.ToPeer):
            self.sent.append(message.payload)
        else:
            self.orders.append(message)

    async def act(self, command, backend="ns2", **arguments):
        """Give a command about an admin state; return the answer."""
        request = Request(command, {"service": "dns", "backend": backend, "force": True, **arguments}, 1, 1000)
        return [answer async for answer in self._act(request)][-1]

    async def edit(self, command, **arguments):
        """Give a command about the list of backends or a weight; return the answer."""
        return await getattr(self._commands, command)(Request(command, {"service": "dns", **arguments}, 1, 1000))

    def state(self, backend="ns2"):
        """Return the admin state of a backend."""
        return self.bed.admins.state(("dns", backend))

    def take(self, message):
        """Take a message of the peer, as the herald process passes it on."""
        payload = base64.b64encode(message if isinstance(message, bytes) else message.model_dump_json().encode())
        self.link.take(herald_messages.FromPeer(self.number, payload.decode()))

    number = 0

    def connect(self):
        """Have a new connection."""
        self.number += 1
        self.sent.clear()
        self.link.take(herald_messages.Linked(self.number))

    def cut(self):
        """Lose the connection."""
        self.link.take(herald_messages.Unlinked(self.number, "cut for a test", refused=False))
        self.sent.clear()

    def verdict(self, state, backend="ns2"):
        """Have a verdict on a backend."""
        self.verdicts["dns", backend] = Verdict(state, f"it is {state}", 5.0)
        self.partner.judged()


class Two:
    """Both hosts; `beat` lets time pass."""

    def __init__(self, directory):
        self.directory = directory
        self.a, self.b = Host("a", directory / "a"), Host("b", directory / "b")
        self.now = asyncio.get_running_loop().time()
        self.delivered = []

    def connect(self):
        """Connect both."""
        self.a.connect()
        self.b.connect()

    def cut(self):
        """Cut the link."""
        self.a.cut()
        self.b.cut()

    async def carry(self):
        """Carry what waits in both directions, until nothing does."""
        for _ in range(50):
            for source, target in ((self.a, self.b), (self.b, self.a)):
                while source.sent:
                    payload = source.sent.popleft()
                    self.delivered.append((target, payload))
                    target.link.take(herald_messages.FromPeer(target.number, payload))
            await asyncio.sleep(0.002)

    async def beat(self, times=3):
        """Let so many seconds pass on both."""
        for _ in range(times):
            self.now += 1.0
            for host in (self.a, self.b):
                host.partner.look(self.now)
            await self.carry()

    async def during(self, work):
        """Return what a command answers while the link carries messages."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await self.carry()
        return task.result()


def kinds(payloads):
    """Return the kinds of messages."""
    return [decode(base64.b64decode(payload)).kind for payload in payloads]
