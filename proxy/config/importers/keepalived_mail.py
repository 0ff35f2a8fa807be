"""keepalived's mails: a program that a [notify.NAME] runs sends them, of all servers and where a router asks for it [pure]."""

import re
from typing import Final

from proxy.config.importers.draft import Draft, Part
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement
from proxy.config.importers.values import decimal, port, where

NO_MAIL: Final = "the daemon sends no mail: a [notify.NAME] runs a program that may"
CURL: Final = "curl(1) sends a mail for each change"
_ROUTERS: Final = ("smtp_alert", "smtp_alert_vrrp")
_SERVERS: Final = ("smtp_alert", "smtp_alert_checker")
_WORDS: Final = ("notification_email", "notification_email_from", "smtp_server", "smtp_connect_timeout")
_ADDRESS: Final = re.compile(r"[A-Za-z0-9._+-]+(@[A-Za-z0-9.-]+)?")


class Mail:
    """Collects what global_defs says of mails, and which routers want them."""

    def __init__(self, draft: Draft, ledger: Ledger) -> None:
        """Prepare."""
        self.draft = draft
        self.ledger = ledger
        self._settings: dict[str, Statement] = {}
        self._wanted: list[tuple[Statement, str, Part]] = []
        self._always: list[Statement] = []
        self._servers = True  # keepalived mails of servers unless it is told not to
        self._quiet: set[str] = set()  # services without mails

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the words in global_defs."""
        switches: dict[str, Handler] = dict.fromkeys((*_ROUTERS, *_SERVERS, "no_checker_emails"), self._switch)
        return {**{word: lambda each: self._settings.__setitem__(each.name, each) for word in _WORDS}, **switches}

    def _switch(self, statement: Statement) -> None:
        name = statement.name
        if name in _ROUTERS and not off(statement):
            self._always.append(statement)
        if name == "no_checker_emails" or name in _SERVERS:
            self._servers = not off(statement) and name != "no_checker_emails"

    def served(self, statement: Statement, service: str) -> None:
        """Read `smtp_alert` of a virtual server."""
        if off(statement):
            self._quiet.add(service)

    def wanted(self, statement: Statement, name: str, part: Part) -> None:
        """Read `smtp_alert` of a router or a group."""
        if not off(statement):
            self._wanted.append((statement, name, part))

    def finish(self) -> None:
        """Write the notification, or say that there is none."""
        services = [part.path[1] for part in self.draft.below("service") if len(part.path) == 2]  # noqa: PLR2004 - its own
        mailed = [name for name in dict.fromkeys(services) if self._servers and name not in self._quiet]
        top = self.draft.part()
        asked = [*((each, top) for each in self._always), *((each, part) for each, _, part in self._wanted)]
        command = self._command() if asked or mailed else None
        if command is None:
            for each, part in [*((one, top) for one in self._settings.values()), *asked]:
                self.ledger.left(each, NO_MAIL, part)
            return
        email = self._settings["notification_email"]
        told = self.draft.part("notify", self.draft.unused("notify", "mail"), place=email.place)
        routers = [part.path[1] for kind in ("vrrp", "sync-group") for part in self.draft.below(kind)]
        wanted = list(dict.fromkeys(routers)) if self._always else [name for _, name, _ in self._wanted]
        if len(mailed) < len(set(services)) or (routers and not self._always):
            told.set("on", [*wanted, *mailed])
        told.set("command", command, email.place)
        self.ledger.changed(email, CURL, told)
        for each in self._settings.values():
            for inner in each.everything():
                self.ledger.carried(inner)

    def _command(self) -> list[str] | None:
        """Return a command that sends its last arguments as a mail; None if the settings do not say where to."""
        found = self._settings
        to = [each.name for each in found["notification_email"].inner] if "notification_email" in found else []
        sender = _argument(found.get("notification_email_from")) or "steelyard@localhost"
        if not to or not all(_ADDRESS.fullmatch(each) for each in (*to, sender)):
            return None
        try:
            host, *ports = found["smtp_server"].args if "smtp_server" in found else ["127.0.0.1"]
            url = f"smtp://{where(host)}:{port(ports[0]) if ports else 25}"
            timeout = decimal(_argument(found.get("smtp_connect_timeout")) or "30")
        except (LeftError, ValueError):
            return None
        recipients = " ".join(f"--mail-rcpt {each}" for each in to)
        message = f"From: {sender}\\r\\nTo: {', '.join(to)}\\r\\nSubject: %s\\r\\n\\r\\n%s\\r\\n"
        curl = f"curl -sS --connect-timeout {timeout:g} --mail-from {sender} {recipients} --upload-file - {url}"
        return ["/bin/sh", "-c", f'printf "{message}" "$*" "$*" | {curl}', "mail"]


def off(statement: Statement) -> bool:
    """Return True if a switch is turned off."""
    return statement.args[:1] in (["off"], ["no"], ["false"])


def _argument(statement: Statement | None) -> str:
    return statement.args[0] if statement is not None and statement.args else ""
