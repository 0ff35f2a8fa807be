"""What an operator can do from the dashboard: the question that is asked before, and the command that is sent [pure]."""

from dataclasses import dataclass
from typing import Any, Final

from proxy.dashboard.judging import usable
from proxy.dashboard.rows import Row
from proxy.words import counted

KEYS: Final = {"d": "drain", "m": "maint", "r": "ready", "w": "weight", "a": "add", "x": "remove"}
FORCED: Final = frozenset({"drain", "maint", "weight", "remove"})
"""Acts that the daemon refuses where no other backend could serve, unless they are forced."""
_DIGITS: Final = 6
_UNDONE: Final = "It holds on this host alone, until r makes it ready again."
_EDITED: Final = (
    "It holds on this host alone: write it into the file as well, or `steelyard overrides clear` undoes it."
)


@dataclass(frozen=True, slots=True)
class Question:
    """One act before it is confirmed. `asks` names the text that it needs ("" for none); `text` is what was typed."""

    command: str
    service: str
    backend: str | None
    host: str
    says: tuple[str, ...]
    asks: str = ""
    text: str = ""
    save: bool = False
    force: bool = False

    @property
    def title(self) -> str:
        """What it is about."""
        target = self.service if self.backend is None else f"{self.service}/{self.backend}"
        return f"{self.command} {target} on {self.host}"

    def wrong(self) -> str:
        """Return what is wrong with the text that was typed, "" if nothing is."""
        if self.command == "weight":
            whole = self.text.isascii() and self.text.isdigit() and len(self.text) <= _DIGITS
            return "" if whole else "a weight is a whole number"
        return "an address is needed" if self.command == "add" and not self.text.strip() else ""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the control command."""
        wanted: dict[str, Any] = {"service": self.service}
        if self.backend is not None:
            wanted["backend"] = self.backend
        if self.command == "weight":
            wanted["weight"] = int(self.text)
        if self.command == "add":
            wanted["address"] = self.text.strip()
        wanted |= {name: True for name, given in (("save", self.save), ("force", self.force)) if given}
        return wanted


def question(command: str, row: Row, host: str) -> Question | None:
    """Return the question before an act on a row; None where the act is none for that row."""
    service, backend = row.service, row.backend
    name = service["name"]
    if command == "add":
        says = (f"{name} gets one more backend, which serves with the first pass of its probe.", _EDITED)
        return Question(command, name, None, host, says, asks="address, or address:port")
    if backend is None:
        return None
    active = f"What is open there ({backend['active']})"
    left = usable(service) - (backend["effective_weight"] > 0)
    stays = f"Then {left} of {counted(len(service['backends']), 'backend')} of {name} get new clients."
    texts: dict[str, tuple[str, ...]] = {
        "drain": (f"It gets no new clients. {active} may finish, until drain-timeout.", stays, _UNDONE),
        "maint": (f"It is taken out at once and not probed. {active} is cut.", stays, _UNDONE),
        "ready": ("It may get new clients again: after maintenance with the first pass of its probe.",),
        "weight": (
            f"Its weight is {backend['weight']} now. With 0 it gets no new clients; what is open goes on.", _EDITED,
        ),
        "remove": (f"It gets no new clients, and leaves {name} when nothing is open there. {active} may finish, until drain-timeout.", stays, _EDITED),
    }  # fmt: skip
    return Question(command, name, backend["name"], host, texts[command], asks="weight" if command == "weight" else "")


def outcome(asked: Question, answer: dict[str, Any]) -> str:
    """Return in words what an act has done."""
    return f"{asked.title}: {'changed' if answer.get('changed') else 'nothing changed'}"
