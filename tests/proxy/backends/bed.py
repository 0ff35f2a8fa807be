"""A daemon's backends in memory, with a document on disk: what operators do, and what other files make of it."""

import asyncio
from types import SimpleNamespace

from proxy.backends.admin import Admins
from proxy.backends.effective import Running
from proxy.backends.loops import LoopGuard
from proxy.backends.membership import Membership
from proxy.backends.saved import SAVED, SavedActs
from proxy.commands.admin import admin_handler
from proxy.commands.membership import MembershipCommands
from proxy.config.loader import load
from proxy.control.server import Request
from proxy.records import document
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots

FILE = """
[node]
name = "n"
workers = 1
state-dir = "{state}"
[probe.answers]
type = "dns"
query = "example.net SOA"
[service.dns]
listen = ["192.0.2.1:53/udp"]
protocol = "dns"
quorum = 2
backends = ["192.0.2.11", {{ address = "192.0.2.12", name = "ns2", weight = 3 }}]
backend-defaults = {{ max-connections = 7 }}
probe = "answers"
[service.web]
listen = ["192.0.2.1:80,81/tcp"]
probe = {{ type = "tcp", port = 80 }}
backends = ["192.0.2.11"]
"""
EVERYWHERE = """
[service.all]
listen = ["*:99/tcp"]
backends = ["192.0.2.11"]
"""
DROPPED = (("quorum = 2", "quorum = 1"), (', { address = "192.0.2.12", name = "ns2", weight = 3 }', ""))
"""Replacements that leave the second backend out."""
FIRST, SECOND, NEW = ("dns", "192.0.2.11"), ("dns", "ns2"), ("dns", "192.0.2.13")


class Bed:
    """A daemon's backends, of which all could serve, with `active` open on them."""

    def __init__(self, directory, *changes, capacity=64, more="", inherited=None):
        """Start with the file with these replacements, and the acts in its document or those `inherited`."""
        self.directory = directory
        config = self.file(*changes, more=more)
        self.told, self.heard, self.changed, self.active = [], [], [], {}
        self.running = Running(config, Slots(16), Slots(capacity))
        self.down = set()
        self.document = Document(DiskThread("disk"), directory, SAVED)
        self.document.content = document.load(directory, SAVED)
        self.saved = SavedActs(self.document, self.tell, inherited)
        self.admins = Admins(self.running, self.saved, self.tell, self.changed.append, self.open)
        self.membership = Membership(
            self.running, self.admins, self.saved, self.tell,
            relisted=lambda service, slots: self.heard.append((service, list(slots))),
            reweighed=self.heard.append,
            stranded=self.stranded,
            active=self.open,
            leads_back=LoopGuard(self.running, lambda: {"192.0.2.77"}, self.tell, self.heard.append).would_lead_back,
        )  # fmt: skip

        self.commands = MembershipCommands(self.running, self.admins, self.membership)
        self.act = admin_handler(self.running, self.admins, SimpleNamespace(stranded_by=self.stranded))

    def stranded(self, going):
        """Which services somebody could serve, and nobody without these."""
        able = {key for key in self.running.backends if key[1] not in self.down and not self.admins.leaves(key)}
        return [name for name in {key[0] for key in going} if {k for k in able if k[0] == name} <= {*going} and able]

    def tell(self, kind, subject, text, **_):
        """Note an event."""
        self.told.append(f"{subject}: {text}")

    def open(self, key):
        """How much a backend has open."""
        return self.active.get(key, 0)

    async def ask(self, command, service="dns", **arguments):
        """Give a command; whether it changed anything."""
        request = Request(command, {"service": service, **arguments}, 1, 1000)
        return (await getattr(self.commands, command)(request))["changed"]

    async def set(self, command, backend="ns2", **arguments):
        """Give a command about the admin state of a backend."""
        request = Request(command, {"service": "dns", "backend": backend, **arguments}, 1, 1000)
        async for _ in self.act(request):
            pass

    def later(self, seconds=1.5):
        """Let the master have a regular look now, and another one so many seconds later."""
        now = asyncio.get_running_loop().time()
        for moment in (now, now + seconds):
            self.admins.look(moment)
            self.membership.look(moment)

    @property
    def names(self):
        """The backends of the service."""
        return [name for of, name in self.running.backends if of == "dns"]

    def file(self, *changes, more=""):
        """Write and load the file with these replacements."""
        text = FILE.format(state=self.directory) + more
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.directory / "f.toml"
        path.write_text(text)
        return load(path)

    def reload(self, *changes, more=""):
        """Put the file with these replacements into force, as a reload does; what it makes of the acts."""
        new = self.file(*changes, more=more)
        rebase = self.membership.rebase(new)
        self.running.room_for(rebase.services)
        self.running.replace_all(new, rebase.services)
        self.membership.commit(rebase)
        return rebase

    @property
    def overrides(self):
        """What differs from the file: backend, act, whether it is saved."""
        rows = [*self.admins.rows(), *self.membership.rows()]
        return [(row["backend"], row["act"], row["saved"]) for row in rows]
