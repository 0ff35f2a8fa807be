"""The basis of every probe: one small class with one `check`, and what it finds.

A probe returns a `Finding` or raises `Failed`; timing, counting, logging and closing happen elsewhere.  So does the
deadline: before each wait the probe sets `attempt.missing`, the reason if the deadline passes ("no answer to the
connect"), and `attempt.aside`, what came instead.  The deadline cancels the probe wherever it waits.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, TypeVar

from health.probes.attempt import READ_COST, READ_LIMIT, Attempt, drain
from health.probes.words import EXCERPT, Failed, Full, Meaning, NotSupported, OurFault, blamed, excerpt, in_words, where
from health.secrets import FromDisk, Kind, NoSecret, Source
from health.spec import ProbeBase

__all__ = [
    "EXCERPT", "READ_COST", "READ_LIMIT", "Attempt", "Failed", "Finding", "Full", "Meaning", "NotSupported", "OurFault", "Probe",
    "blamed", "drain", "excerpt", "in_words", "where",
]  # fmt: skip

if TYPE_CHECKING:
    from health.icmp import Echoes

Spec = TypeVar("Spec", bound=ProbeBase)


class Finding(NamedTuple):
    """The result of a passed probe: `reason` says how, and `reserve` is True if the backend is fit for reserve only."""

    reason: str
    reserve: bool = False
    value: float | None = None
    """The value to compare between the backends of a service: an SOA's serial, the time of a directory's last change."""
    weight: int | None = None
    """The weight that the backend asks for."""
    lag: float | None = None
    """How far the backend is behind the source of its data, in seconds."""


class Probe(ABC, Generic[Spec]):
    """The probe of one protocol: one object a question, whose `check` runs again and again, never twice at a time."""

    constant: ClassVar[bool] = False
    """True if the first outcome is final, so that the probe need not run again."""

    def __init__(self, spec: Spec) -> None:
        """Prepare what all runs share; raises `NotSupported` if this version cannot run `spec`."""
        self.spec = spec
        self.secrets: Source = FromDisk()
        self.echoes: Echoes | None = None
        self.user = ""  # the user that a root process runs a program as, "" for the default

    def secret(self) -> str:
        """Return the current password of `password_file`, "" if the spec has none; raises `OurFault`."""
        path = getattr(self.spec, "password_file", None)
        if path is None:
            return ""
        try:
            return self.secrets.get(path)
        except NoSecret as error:
            raise OurFault(str(error)) from None

    def file(self, kind: Kind, path: str | None) -> bytes:
        """Return the current contents of a file of the spec, b"" if it names none; raises `OurFault`."""
        if path is None:
            return b""
        try:
            return self.secrets.content(path, kind)
        except NoSecret as error:
            raise OurFault(str(error)) from None

    @abstractmethod
    async def check(self, attempt: Attempt) -> Finding:
        """Probe the backend; raises `Failed`, `Full` or `OurFault`, and is cancelled at the deadline."""
