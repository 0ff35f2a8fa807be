"""What a bench has measured, and its JSON: raw figures of every run, from which tables, plots and README are made.

Seconds, octets and units of work everywhere; scales are applied when something is shown.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1  # of the file; a reader refuses others
INNERMOST = re.compile(r"\{[^{}]*\}|\[[^][{}]*\]")  # each of these is written on one line


@dataclass(frozen=True)
class Unit:
    """How a work's rate and cost are shown: `rate` is units a second times `rate_scale`, `cost` likewise for seconds."""

    rate: str
    cost: str
    rate_scale: float = 1.0
    cost_scale: float = 1e6


@dataclass(frozen=True)
class Run:
    """One run of one system."""

    rate: float  # units of work a second
    own: float | None  # processor seconds of the balancer's processes for each unit; None: it has no process
    machine: float  # processor seconds of balancer, client and servers for each unit
    others: float  # share of the machine's processors that neither this system nor client nor servers used
    failed: int  # units with a wrong answer or an error
    lost: int  # units without an answer


@dataclass(frozen=True)
class Latency:
    """The latencies of one run at a fixed rate, in seconds."""

    p50: float
    p99: float
    p999: float
    others: float
    failed: int  # or lost


Rounds = list[dict[str, Run]]  # each by system


@dataclass
class WorkResult:
    """The runs of one work: each round has one run of each system."""

    name: str
    unit: Unit
    rounds: Rounds = field(default_factory=list)
    rate: float | None = None  # units a second of the runs for latency
    latencies: list[dict[str, Latency]] = field(default_factory=list)
    idle: dict[str, float] = field(default_factory=dict)  # octets of memory for each idle connection
    memory: dict[str, float] = field(default_factory=dict)  # octets of all processes after the start
    resting: dict[str, float] = field(default_factory=dict)  # share of a processor while no system is asked

    @property
    def systems(self) -> list[str]:
        """The systems, the subject first."""
        return list(self.rounds[0]) if self.rounds else []


@dataclass
class Point:
    """One configuration of `scale`: `group` and `name` say what varies, `cost` is processor seconds for each unit."""

    group: str
    name: str
    load: str
    cost: list[float] = field(default_factory=list)  # one for each round
    base: list[float] = field(default_factory=list)  # of the plain configuration, in the same round
    others: list[float] = field(default_factory=list)  # the greater of the two runs


@dataclass
class Result:
    """A whole measurement: `kind` is compare, scale or client; `facts` describe the machine and the programs."""

    kind: str
    facts: dict[str, Any]
    works: list[WorkResult] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the JSON file: a line for each run, figures of six digits."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_rounded({"format": FORMAT} | asdict(self)), indent=1)
        path.write_text(INNERMOST.sub(lambda found: " ".join(found[0].split()), text) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Read a file that `write` has written. Raises ValueError if it is of another format."""
        document = json.loads(path.read_text())
        if document.get("format") != FORMAT:
            raise ValueError(f"{path} has format {document.get('format')}, not {FORMAT}")
        return cls(
            kind=document["kind"],
            facts=document["facts"],
            works=[_work(row) for row in document["works"]],
            points=[Point(**row) for row in document["points"]],
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def _work(row: Mapping[str, Any]) -> WorkResult:
    rounds: Sequence[Mapping[str, Any]] = row["rounds"]
    return WorkResult(
        **{
            **row,
            "unit": Unit(**row["unit"]),
            "rounds": [{name: Run(**run) for name, run in one.items()} for one in rounds],
            "latencies": [{name: Latency(**run) for name, run in one.items()} for one in row["latencies"]],
        }
    )
