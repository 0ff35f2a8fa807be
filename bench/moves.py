"""Makes a table of the rounds: how long each move of an address took, the peer's time, and the bound; no I/O."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

NEVER = 10.0
"""Seconds after which a missing change counts as never."""

INTERVAL = 0.1
SKEW = INTERVAL * (256 - 100) / 256  # of the backup, whose priority is 100
REPLACED = 3 * INTERVAL + SKEW + 0.05


class Row(NamedTuple):
    """One line of the table: a fault, and one figure that was measured of it."""

    fault: str
    figure: str


Moves = Mapping[Row, float | None]  # seconds; None for never
Round = Mapping[str, Moves]  # by system

TAKEN, GONE, SETTLED, GAP = "taken over", "address gone", "one owner", "ping gap"
"""Seconds from the fault until the other host has the address, until the first host no longer has it, until nothing
moves any more; and the longest time without an answer for a client that pings every 20 ms."""

BOUNDS: Mapping[Row, float] = {
    Row("SIGTERM", TAKEN): 0.2,
    Row("SIGTERM", GAP): 0.5,
    Row("standby", TAKEN): 0.2,
    Row("standby", GAP): 0.5,
    Row("main process killed", TAKEN): 0.5,
    Row("main process killed", GAP): 0.5,
    Row("link cut", TAKEN): REPLACED,
    Row("link cut", GAP): 0.5,
    Row("all killed", TAKEN): REPLACED,
    Row("all killed", GONE): 2.5,
    Row("all killed, no peer", GONE): 2.5,
    Row("all stopped", TAKEN): REPLACED,
    Row("all stopped", GONE): 2.5,
}
"""The bounds that Steelyard promises, in seconds."""


def shown(seconds: Sequence[float | None]) -> str:
    """Return "median (worst)", or a dash if nothing was measured."""
    if not seconds:
        return "-"

    def word(one: float) -> str:
        return f"{one:.3f}" if one < NEVER else f"> {NEVER:g}"

    known = [NEVER if one is None else one for one in seconds]
    return f"{word(statistics.median(known))} ({word(max(known))})"


def ratio(rounds: Sequence[Round], row: Row, subject: str, peer: str) -> str:
    """Return the median of the ratios within each round, or a dash if one system has no figure in some round."""
    found = []
    for one in rounds:
        ours, theirs = one[subject].get(row), one[peer].get(row)
        if ours is not None and theirs:
            found.append(ours / theirs)
    return f"{statistics.median(found):.2f}" if len(found) == len(rounds) else "-"


def kept(rounds: Sequence[Round], row: Row, subject: str) -> str:
    """Return the bound, and whether the worst round of the subject kept it; a dash if there is no bound."""
    if row not in BOUNDS or row not in rounds[0][subject]:
        return "-"
    over = sum(one[subject][row] is None or (one[subject][row] or 0.0) > BOUNDS[row] for one in rounds)
    return f"{BOUNDS[row]:.3f} {f'MISSED in {over}' if over else 'kept'}"


def table(rounds: Sequence[Round], subject: str) -> str:
    """Return the report, in Markdown: seconds, median and worst of the rounds, and the subject's ratio to each peer."""
    systems = list(rounds[0])
    peers = [one for one in systems if one != subject]
    rows = list(dict.fromkeys(row for system in systems for row in rounds[0][system]))
    head = ["fault", "seconds until", *systems, *(f"{subject}/{peer}" for peer in peers), f"bound of {subject}"]
    lines = [head, ["---", "---", *("---:" for _ in head[2:])]]
    for row in rows:
        figures = [shown([one[system][row] for one in rounds if row in one[system]]) for system in systems]
        ratios = [ratio(rounds, row, subject, peer) for peer in peers]
        lines.append([row.fault, row.figure, *figures, *ratios, kept(rounds, row, subject)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )
