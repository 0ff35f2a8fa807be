"""keepalived's mails: a program that a [notify.NAME] runs sends them, where a router asks for it [pure]."""

import re
from typing import Final

from proxy.config.importers.draft import Draft, Part
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement
from proxy.config.importers.values import decimal, port, where

NO_MAIL: Final = "the daemon sends no mail: a [notify.NAME] runs a program that may"
ROUTERS: Final = "curl(1) sends a mail for each state of the routers that ask for it; nothing is told of servers yet"
CURL: Final = "curl(1) sends a mail for each change"
SWITCHES: Final = ("smtp_alert", "smtp_alert_vrrp")
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

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the words in global_defs."""
        always: dict[str, Handler] = dict.fromkeys(SWITCHES, self._switch)
        return {**{word: lambda each: self._settings.__setitem__(each.name, each) for word in _WORDS}, **always}

    def _switch(self, statement: Statement) -> None:
        if not off(statement):
            self._always.append(statement)

    def wanted(self, statement: Statement, name: str, part: Part) -> None:
        """Read `smtp_alert` of a router or a group."""
        if not off(statement):
            self._wanted.append((statement, name, part))

    def finish(self) -> None:
        """Write the notification, or say that there is none.

        Servers tell by mail unless they are told not to, so their verdicts are always wanted, where this version tells them.
        """
        everything = self.ledger.tells_of_backends and bool(self.draft.below("service"))
        top = self.draft.part()
        asked = [*((each, top) for each in self._always), *((each, part) for each, _, part in self._wanted)]
        command = self._command() if asked or everything else None
        if command is None:
            for each, part in [*((one, top) for one in self._settings.values()), *asked]:
                self.ledger.left(each, NO_MAIL, part)
            return
        email = self._settings["notification_email"]
        told = self.draft.part("notify", self.draft.unused("notify", "mail"), place=email.place)
        if everything and not asked:
            told.set("to", ["up", "down"])
        elif not everything and not self._always:
            told.set("on", [name for _, name, _ in self._wanted])
        told.set("command", command, email.place)
        self.ledger.changed(email, CURL if everything else ROUTERS, told)
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
