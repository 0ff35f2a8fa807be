"""The costs of each event of the pair's demo for its clients, as a table."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from proxy.demo.load import Tally


@dataclass(slots=True)
class Outcome:
    """One event, and the results of the queries and connections that began between it and the next one."""

    what: str
    expected: str  # the host that must have the address afterwards
    since: float  # monotonic seconds
    queries: Tally
    connections: Tally
    silence: float = 0.0  # s, the longest time without any answer
    holder: str = ""  # the host that has the address before the next event


def longest_silence(heard: Sequence[float], since: float, until: float) -> float:
    """Return the longest time without an answer between two times; `heard` has the times of the answers, in order."""
    answers = heard[bisect_left(heard, since) : bisect_right(heard, until)]
    moments = [since, *answers, until]
    return max(later - earlier for earlier, later in pairwise(moments))


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the summary's lines."""
    width = max(len(one.what) for one in outcomes)
    lines = [
        f"{'':{width}}  no answer |        queries        |      connections      | address",
        f"{'event':{width}}        for |   sent repeated lost  |   sent   lost    cut  | then on",
    ]
    for one in outcomes:
        asked, opened = one.queries, one.connections
        wrong = "" if one.holder == one.expected else f", not {one.expected}"
        lines.append(
            f"{one.what:{width}}  {one.silence * 1000:6.0f} ms |"
            f" {asked.sent:6d}   {asked.repeated:6d} {asked.losses:4d}  |"
            f" {opened.sent:6d} {opened.losses:6d} {opened.cut:6d}  | {one.holder or 'nobody'}{wrong}"
        )
    return lines
