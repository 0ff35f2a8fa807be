"""`steelyard pair`: the link to the other host of the pair."""

import datetime as dt
import difflib
import os
from pathlib import Path
from typing import Any, Final

import click

from proxy.cli import EXIT_FAILED
from proxy.cli.daemon import daemon, print_json
from proxy.words import printable

NAMES: Final = ("pair.pem", "pair.crt", "peer.pem")
"""The files of the key with its certificate, of the certificate, and of the peer's certificate."""
_NEXT: Final = """\
{secret}: key and certificate of {node}; it stays on this host
{public}: certificate of {node}, {fingerprint}

Copy the certificate to the other host, where it is the peer's:
  scp {public} root@OTHER:{peer}
Run `steelyard pair init` there as well and copy in the other direction. Then write into the file of both hosts:

[pair]
members          = {{ {node} = "ADDRESS", OTHER = "ADDRESS" }}
certificate      = "{secret}"
peer-certificate = "{peer}"
"""


@click.group()
def command() -> None:
    """The link to the other host of the pair: make its certificates, show its state, compare the hosts."""


@command.command()
@click.option("--dir", "directory", metavar="DIR", default="/etc/steelyard", help="Where the files go.")
@click.option("--node", metavar="N", envvar="STEELYARD_NODE", help="The name of this host; by default its host name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def init(*, directory: str, node: str | None, as_json: bool) -> None:
    """Make this host's key and certificate, and say what to copy where.

    A key that is there already is kept: nothing is ever overwritten.
    """
    from proxy.config.nodes import host_names
    from proxy.peer import tls
    from proxy.peer.certificates import fingerprint, make

    name = node or host_names()[1]
    folder = Path(directory).absolute()
    secret, public, peer = (folder / one for one in NAMES)
    folder.mkdir(mode=0o755, exist_ok=True)
    changed = not secret.exists()
    if changed:
        _write(secret, make(name, dt.datetime.now(dt.UTC)).secret, 0o600)
    try:
        certificate = tls.public(tls.read(str(secret)))
    except tls.PairCertificateError as error:
        raise click.ClickException(f"{secret}: {error}") from None
    if not public.exists():
        _write(public, certificate, 0o644)
    told: dict[str, Any] = {"secret": str(secret), "public": str(public), "peer": str(peer), "node": name}
    told["fingerprint"] = f"SHA-256 {fingerprint(tls.der(certificate))}"
    if as_json:
        print_json({**told, "changed": changed})
        return
    click.echo(_NEXT.format(**told))
    click.echo("changed" if changed else f"{secret} was there already: nothing changed")


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a new file; nobody else can open it before it has its rights."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def status(ctx: click.Context, *, as_json: bool) -> None:
    """Show the link and the other host: state, version, clock, whether file and operators' acts are the same.

    Exit codes: 0 connected and the same, 1 not, 3 daemon unreachable.
    """
    from proxy.cli.times import moment

    pair: dict[str, Any] = {}
    with daemon(ctx) as client:
        pair = client.request("pair-status")["pair"]
    if as_json:
        print_json(pair)
    else:
        rows = _rows(pair, moment(pair["since"]))
        click.echo(printable_lines([f"{name:<10}{text}" for name, text in rows]))
    same = pair["state"] == "connected" and pair["same_file"] and pair["same_acts"] is not False
    ctx.exit(0 if same else EXIT_FAILED)


def _rows(pair: dict[str, Any], since: str) -> list[tuple[str, str]]:
    words = {True: "the same", False: "different", None: "unknown"}
    offset = pair["clock_offset_s"]
    rows = [
        ("peer", pair["peer"]),
        ("link", f"{pair['state']} since {since}: {pair['why']}"),
        ("version", pair["version"] or "unknown"),
        ("clock", "unknown" if offset is None else f"{offset:+.3f} s from ours"),
        ("file", words[pair["same_file"]] + (": steelyard pair diff" if pair["same_file"] is False else "")),
        ("acts", f"{pair['acts']} here, {words[pair['same_acts']]} on {pair['peer']}"),
    ]
    rows += [("", f"not in force here: {one}") for one in pair["acts_not_in_force_here"]]
    return rows


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def diff(ctx: click.Context, *, as_json: bool) -> None:
    """Compare the files of both hosts as they are on the disk, line by line; what looks like a secret is masked.

    Exit codes: 0 the same, 1 they differ or the other host does not answer, 3 daemon unreachable.
    """
    hosts: list[dict[str, Any]] = []
    with daemon(ctx) as client:
        for answer in client.stream("pair-diff", endless=True):
            if "host" in answer:
                hosts.append({**answer["host"], "files": []})
            elif "file" in answer:
                hosts[-1]["files"].append(answer["file"])
    pairs = _matched(*(host["files"] for host in hosts))
    same = all(ours is not None and theirs is not None and ours["sha256"] == theirs["sha256"] for ours, theirs in pairs)
    if as_json:
        print_json({"hosts": hosts, "same": same})
    else:
        names = [host["node"] for host in hosts]
        lines = [line for one in pairs for line in _compared(names, *one)]
        click.echo(printable_lines(lines) if lines else f"{' and '.join(names)} have the same files")
    ctx.exit(0 if same else EXIT_FAILED)


File = dict[str, Any]


def _matched(ours: list[File], theirs: list[File]) -> list[tuple[File | None, File | None]]:
    """Return the files of both hosts side by side: the main files, wherever they are, and the others by their paths."""
    others = {row["path"]: row for row in theirs[1:]}
    found: list[tuple[File | None, File | None]] = [(ours[0] if ours else None, theirs[0] if theirs else None)]
    found += [(row, others.pop(row["path"], None)) for row in ours[1:]]
    return [*found, *((None, row) for row in others.values())]


def _compared(names: list[str], ours: File | None, theirs: File | None) -> list[str]:
    if ours is None or theirs is None:
        there, missing, row = (names[1], names[0], theirs) if ours is None else (names[0], names[1], ours)
        return [f"{(row or {}).get('path')}: only on {there}, not on {missing}"]
    if ours["sha256"] == theirs["sha256"]:
        return []
    if ours["text"] is None or theirs["text"] is None:
        return [
            f"{ours['path']}: {name}: sha256 {row['sha256']}" for name, row in zip(names, (ours, theirs), strict=True)
        ]
    mine, other = ours["text"].splitlines(), theirs["text"].splitlines()
    titles = (f"{names[0]}:{ours['path']}", f"{names[1]}:{theirs['path']}")
    lines = list(difflib.unified_diff(mine, other, titles[0], titles[1], lineterm="", n=2))
    return lines or [f"{ours['path']}: they differ in what is masked, or in the ends of lines"]


def printable_lines(lines: list[str]) -> str:
    """Return lines for a terminal, without what would move its cursor."""
    return "\n".join(printable(line) for line in lines)
