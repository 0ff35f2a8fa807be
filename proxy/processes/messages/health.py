"""The messages between the master and the health process."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Suspect:
    """To health: real traffic failed on this target, which is to be probed soon."""

    key: str


@dataclass(frozen=True, slots=True)
class Watch:
    """To health: these targets, and no others."""

    targets: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Probed:
    """From health: the verdict on a target changed, or the weight that it asks for.  `at` is Unix time.

    `weight` is -1 for the configured one.  `unjudged` says of an unknown target that our own fault alone keeps it from a verdict.
    """

    key: str
    state: str
    reason: str
    at: float
    weight: int = -1
    unjudged: bool = False


@dataclass(frozen=True, slots=True)
class Secrets:
    """To health, before it watches and when one changes: all files of probes, path -> [content in Base64, or what is wrong].

    One of the two is "".
    """

    files: dict[str, list[str]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Icmp:
    """To health, before it watches: so many raw ICMP sockets to ping with.  fds: as many."""

    count: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """From health: something that no verdict says, `state` "raised" or "over".  `at` is Unix time.

    `about` is the same when it is raised and when it is over.
    """

    service: str
    text: str
    state: str
    at: float
    about: str


@dataclass(frozen=True, slots=True)
class Run:
    """To health: run the probes of these targets once, now.  Answered with `Ran`."""

    number: int
    keys: list[str]


@dataclass(frozen=True, slots=True)
class Ran:
    """From health: what the probes of a `Run` found, a row each as `Monitor.run_now` has it.

    `busy` says in words why none was run, "" where they were.
    """

    number: int
    rows: list[dict[str, Any]]
    busy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """From health: the last result of each probe, by target."""

    number: int
    probes: dict[str, list[dict[str, Any]]]


Message = Suspect | Watch | Probed | Secrets | Icmp | Alarm | Run | Ran | Report
