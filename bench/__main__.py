"""`python -m bench LOAD`: run each system in turn, for several rounds, and print the results."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench import failover, moves, picks
from bench.loads import LOADS, Load
from bench.probes import KINDS, LEAST, report
from bench.report import Figures, Round, table
from bench.systems import SYSTEMS, bench_bed
from tests.e2e.bed import Bed
from tests.e2e.process import TICKS, BedError, EndedError, MissingError

# The balancer has one processor; client and servers may use all, including this one: bench/README.md says why.
ALL = f"0-{(os.cpu_count() or 1) - 1}"


def busy_seconds() -> float:
    """Return how long the processors of this machine have been busy since its start, in seconds."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def measure(bed: Bed, load: Load, name: str, seconds: int, cpu: str) -> Figures:
    """Run one system once: one second to warm up, then `seconds` that are measured."""
    system = SYSTEMS[name](bed, load.protocol, load.backends, load.port, cpu)
    try:
        load.run(system.address, 1)
        own, all_of_it = system.cpu_seconds(), busy_seconds()
        sample = load.run(system.address, seconds)
        own, all_of_it = system.cpu_seconds() - own, busy_seconds() - all_of_it
    finally:
        system.stop()
    return Figures(
        rate=sample.work / sample.seconds * load.rate_scale,
        cost=own / sample.work * load.cost_scale,
        machine=all_of_it / sample.work * load.cost_scale,
        latency=sample.latency,
        failed=sample.failed,
    )


def bench(name: str, systems: Sequence[str], seconds: int, rounds: int, cpus: tuple[str, str]) -> list[Round]:
    """Return the rounds of one load; the order of the systems rotates, so that each of them is first in turn."""
    found: list[Round] = []
    with bench_bed() as bed:
        load = LOADS[name](bed, cpus[1])
        try:
            for number in range(rounds):
                turn = number % len(systems)
                order = [*systems[turn:], *systems[:turn]]
                figures = {system: measure(bed, load, system, seconds, cpus[0]) for system in order}
                found.append({system: figures[system] for system in systems})
                told = "  ".join(f"{system} {figures[system].rate:,.1f}" for system in systems)
                click.echo(f"round {number + 1} of {rounds}: {told}", err=True)
        except BedError:
            click.echo(bed.report(), err=True)
            raise
    return found


def move(rounds: int) -> None:
    """Measure how an address moves between two hosts, in comparison with keepalived."""
    try:
        found = failover.bench(rounds, list(failover.SYSTEMS))
        click.echo(f"\n{moves.table(found, 'steelyard')}\n")
        click.echo(f"seconds, median (worst) of {rounds} rounds; {failover.version()}")
    except (BedError, EndedError, MissingError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"again: {shlex.join([sys.executable, '-m', 'bench', 'failover', '--rounds', str(rounds)])}\n")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("load", type=click.Choice([*LOADS, "probes", "picks", "failover", "all"]))
@click.option("--seconds", default=5, show_default=True, help="How long each run is measured.")
@click.option("--rounds", default=5, show_default=True, help="How often each system runs.")
@click.option("--peers", help="Systems to compare the subject with, separated by commas.  [default: all that fit]")
@click.option("--subject", default="steelyard", show_default=True, help="The system whose ratios are printed.")
@click.option("--balancer-cpu", default="0", show_default=True, help="Processors of the balancer, as for taskset.")
@click.option("--other-cpus", default=ALL, show_default=True, help="Processors of client and servers.")
def main(load: str, subject: str, peers: str | None, **options: Any) -> None:
    """Compare Steelyard with its peers (dns, http, connect, bulk, failover), measure its probes or picks, or do all.

    failover and picks use only the option --rounds.
    """
    if load in {"picks", "all"}:
        click.echo(f"{picks.report(options['rounds'])}\n")
    if load in {"probes", "all"}:
        for kind in KINDS:
            click.echo(f"{report(kind, max(options['seconds'], LEAST))}\n")
    if load in {"failover", "all"}:
        move(options["rounds"])
    for name in LOADS if load == "all" else [load] if load in LOADS else []:
        protocol = LOADS[name].protocol
        fitting = [system for system, kind in SYSTEMS.items() if protocol in kind.protocols]
        systems = [subject, *(peers.split(",") if peers else [system for system in fitting if system != subject])]
        unfit = [system for system in systems if system not in fitting]
        if unfit:
            message = f"{', '.join(unfit)}: cannot run {name}; use {', '.join(fitting)}"
            raise click.UsageError(message)
        try:
            found = bench(
                name, systems, options["seconds"], options["rounds"], (options["balancer_cpu"], options["other_cpus"])
            )
        except (BedError, EndedError, MissingError) as error:
            raise click.ClickException(str(error)) from error
        units = LOADS[name].rate_unit, LOADS[name].cost_unit
        arguments = ["--subject", subject, "--peers", ",".join(systems[1:])]
        for key, value in options.items():
            arguments += [f"--{key.replace('_', '-')}", str(value)]
        click.echo(f"\n{table(found, subject, units)}")
        click.echo(f"again: {shlex.join([sys.executable, '-m', 'bench', name, *arguments])}\n")


if __name__ == "__main__":
    main(prog_name="python -m bench")
