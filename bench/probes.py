"""`python -m bench probes`: measures a thousand probes, once if all backends answer and once if half of them hang.

The installed command has one service of a thousand backends, probed by its defaults (every 2 s, and every 5 s while a
backend is down).  One process plays all backends and notes when each probe begins.  The bench measures the time between
two probes of a backend that answers, with and without hanging probes, and the processor time of the health process.
A probe hangs because its host drops all packets.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.bed import SERVICE, Bed
from tests.e2e.daemon import Daemon
from tests.e2e.process import TICKS, BedError, program, stat_fields, until

BACKENDS = 1000
NETWORK, SERVER, BALANCER, PORT = "10.1.0.0/16", "10.0.0.11", "10.0.0.10", 9000
INTERVAL = 2.0  # s, the default
LEAST = 10  # s that a run measures at least: several probes of each backend
KINDS = {
    "tcp": ("tcp", "plain", '{ type = "tcp" }'),
    "dns": ("udp", "dns", '{ type = "dns", query = "example.net SOA" }'),
}


@dataclass(frozen=True)
class Run:
    """One run: seconds between two probes of a backend that answers, sorted, and the health process's shares of a core."""

    gaps: list[float]
    user: float
    system: float
    pace: float  # nanoseconds that an addition in Python took during the run

    def quantile(self, share: float) -> float:
        """Return a quantile of the gaps; 1.0 is the longest gap."""
        return self.gaps[min(len(self.gaps) - 1, int(share * len(self.gaps)))]


@contextmanager
def _servers(bed: Bed, kind: str) -> Iterator[list[str]]:
    """Run the servers for the block; afterwards the list has the lines that they printed."""
    command = [
        *bed.enter("servers"),
        sys.executable,
        str(Path(__file__).with_name("probed.py")),
        kind,
        str(PORT),
    ]
    lines: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BedError("the servers did not start")
        try:
            yield lines
        finally:
            lines += process.communicate(timeout=30)[0].splitlines()


def _apart(bed: Bed, health: int) -> None:
    """Do not charge the servers' half of the network to the health process, as on a real network.

    The kernel processes a packet that enters a veth on the sender's processor and charges it to the sender: the health
    process would pay for the servers' kernel.  With receive packet steering, other processors do this work.
    """
    ours, *others = sorted(os.sched_getaffinity(0))
    if not others:
        return
    os.sched_setaffinity(health, {ours})
    mask = sum(1 << processor for processor in others)
    script = f"mount -t sysfs sysfs /sys && for queue in /sys/class/net/*/queues/rx-*/rps_cpus; do echo {mask:x} > $queue; done"
    subprocess.run([*bed.enter("servers"), program("unshare"), "--mount", "sh", "-c", script], check=True)


def _health(daemon: Daemon) -> int:
    """Return the health process's id."""
    return next(pid for pid in daemon.pids() if b"proxy.healthd" in Path(f"/proc/{pid}/cmdline").read_bytes())


def _times(pid: int) -> tuple[float, float]:
    """Return a process's user and system time in seconds."""
    user, system = stat_fields(pid)[11:13]
    return int(user) / TICKS, int(system) / TICKS


def _pace() -> float:
    """Return how long an addition takes, in nanoseconds: on a shared core the same work takes more processor time."""
    count, total, begun = 1_000_000, 0, time.process_time()
    for number in range(count):
        total += number
    return (time.process_time() - begun) / count * 1e9


def run(kind: str, seconds: int, *, hang: bool) -> Run:
    """Measure once, in a bed of its own."""
    transport, protocol, probe = KINDS[kind]
    names = ", ".join(f'"10.1.{n // 250}.{n % 250 + 1}"' for n in range(BACKENDS))
    text = f"""
[service.bench]
listen   = ["{SERVICE}:{PORT}/{transport}"]
protocol = "{protocol}"
backends = [{names}]
probe    = {probe}
"""
    with Bed() as bed:
        bed.host("balancer")
        bed.host("servers")
        bed.wire("balancer", "servers", [f"{BALANCER}/24", f"{SERVICE}/32"], [f"{SERVER}/24"])
        bed.route("balancer", NETWORK, SERVER)
        bed.route("servers", f"{SERVICE}/32", BALANCER)
        bed.ip("servers", f"route add local {NETWORK} dev lo")
        if hang:
            bed.rule("servers", "input", f"ip daddr {NETWORK} ip daddr & 0.0.0.1 == 0.0.0.1 drop")
        with _servers(bed, kind) as lines:
            command = Path(sys.executable).with_name("steelyard")
            daemon = Daemon(bed, "balancer", text, workers=1, command=(str(command),), patience=60)
            down = BACKENDS // 2 if hang else 0
            until(
                lambda: [b["state"] for b in daemon.status()["services"][0]["backends"]].count("down") == down,
                30,
                "verdicts",
            )
            time.sleep(6)  # after this time, backends that are down are probed at their own interval
            pid = _health(daemon)
            _apart(bed, pid)
            pace, begun, before = _pace(), time.monotonic(), _times(pid)
            time.sleep(seconds)
            ended, after = time.monotonic(), _times(pid)
            pace = (pace + _pace()) / 2
            daemon.stop()
    within = [[moment for moment in map(float, line.split()[1:]) if begun <= moment <= ended] for line in lines]
    gaps = sorted(later - earlier for times in within for earlier, later in itertools.pairwise(times))
    user, system = ((later - earlier) / (ended - begun) for earlier, later in zip(before, after, strict=True))
    return Run(gaps, user, system, pace)


def report(kind: str, seconds: int) -> str:
    """Measure without and with hanging probes, and return the results as a table."""
    runs = {"none hang": run(kind, seconds, hang=False), "half hang": run(kind, seconds, hang=True)}
    lines = [
        f"{kind:14}{'probes':>8}{'median s':>10}{'99 % s':>9}{'longest s':>11}{'user %':>8}{'system %':>10}{'ns +':>6}"
    ]
    for name, one in runs.items():
        figures = f"{statistics.median(one.gaps):10.3f}{one.quantile(0.99):9.3f}{one.quantile(1.0):11.3f}"
        lines.append(f"{name:14}{len(one.gaps):8}{figures}{one.user * 100:8.1f}{one.system * 100:10.1f}{one.pace:6.0f}")
    calm, crowded = runs.values()
    later = max(crowded.quantile(share) - calm.quantile(share) for share in (0.5, 0.9, 0.99, 1.0))
    lines.append(
        f"hanging probes delay the others by {max(0.0, later) * 1e3:.0f} ms; a tenth of the interval is {INTERVAL * 100:.0f} ms"
    )
    return "\n".join(lines)
