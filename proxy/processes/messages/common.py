"""The messages of every child, and the union of all messages; `codec` has their form on the channel."""

from dataclasses import dataclass

from proxy.processes.messages import health, notify, vrrp, worker


@dataclass(frozen=True, slots=True)
class Ready:
    """From a child: it runs, without privileges."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ask:
    """To health and to vrrp: report."""

    number: int


@dataclass(frozen=True, slots=True)
class Beat:
    """From health and from notify each second, from vrrp each 0.1 s, to vrrp each 0.25 s: the loop of the sender is alive."""


@dataclass(frozen=True, slots=True)
class Level:
    """To every child: log at this level and in this format from now on."""

    level: str
    format: str


Message = Ready | Ask | Beat | Level | worker.Message | health.Message | vrrp.Message | notify.Message
ANSWERS = (health.Ran, health.Report, vrrp.StoodBy, vrrp.Routing)
"""What is sent only because a message with the same `number` asked for it."""
