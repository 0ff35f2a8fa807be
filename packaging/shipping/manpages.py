"""The man pages: of the commands from click, of the file and of the daemon from the pages of docs/."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from proxy.cli import COMMANDS, main
from shipping import ROOT, roff

_FILE: Final = "docs/reference/configuration.md"
_DAEMON: Final = "docs/operations.md"
_COMMANDS: Final = "docs/reference/commands.md"
_CODES: Final = re.compile(r"^ *Exit(?: codes:|s with) .*", re.MULTILINE | re.DOTALL)


def pages(version: str, date: str, root: Path = ROOT) -> dict[str, str]:
    """Return file name -> text of every page."""
    long = _long(root)
    made = {"steelyard.1": _main(), **{f"steelyard-{name}.1": _command(name, long.get(name, "")) for name in COMMANDS}}
    made["steelyard.toml.5"] = _document("steelyard.toml", "configuration file of Steelyard", root / _FILE)
    made["steelyard.8"] = _document("steelyard", "how to operate the load balancer daemon", root / _DAEMON)
    return {file: roff.joined([_header(file, version, date), text, ""]) for file, text in made.items()}


def _header(file: str, version: str, date: str) -> str:
    name, _, section = file.rpartition(".")
    return roff.header(name, int(section), date, version)


def _long(root: Path) -> dict[str, str]:
    """Return command -> its sections of the reference."""
    found: dict[str, str] = {}
    for section in re.split(r"^## ", (root / _COMMANDS).read_text(), flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        spans = re.findall(r"`(?:steelyard )?([a-z|-]+)", title)
        for name in (one for span in spans for one in span.split("|")):
            found[name] = found.get(name, "") + body
    return found


def _name(name: str, what: str) -> str:
    return f".SH NAME\n{roff.escape(name)} \\- {roff.escape(what)}"


def _main() -> str:
    context = click.Context(main, info_name="steelyard", **main.context_settings)
    parts = [_name("steelyard", "load balancer for DNS, LDAP, MySQL and mail")]
    parts += [
        ".SH SYNOPSIS",
        _synopsis(context),
        ".SH DESCRIPTION",
        *_prose(_help(main)),
        ".SH OPTIONS",
        *_options(context),
    ]
    parts.append(".SH COMMANDS")
    parts += [
        roff.item(f"{_reference(f'steelyard-{name}', 1)}", roff.escape(line)) for name, (_, line) in COMMANDS.items()
    ]
    parts += [".SH EXIT STATUS", roff.paragraph(roff.escape(_codes(main)))]
    parts += [
        ".SH ENVIRONMENT",
        roff.item(roff.bold("STEELYARD_SOCKET"), "The control socket, as with \\fB\\-\\-socket\\fR."),
    ]
    parts += [
        roff.item(roff.bold("STEELYARD_NODE"), "Which node of the file this host is, as with \\fBrun \\-\\-node\\fR.")
    ]
    parts += [
        ".SH FILES",
        roff.item(roff.italic("/etc/steelyard/steelyard.toml"), "The configuration, \\fBsteelyard.toml\\fR(5)."),
    ]
    parts += [roff.item(roff.italic("/run/steelyard/control.sock"), "The control socket of the daemon.")]
    parts += [".SH SEE ALSO", f"{_reference('steelyard.toml', 5)}, {_reference('steelyard', 8)}"]
    return "\n".join(parts)


def _command(name: str, long: str) -> str:
    command = _of(name)
    parent = click.Context(main, info_name="steelyard", **main.context_settings)
    context = click.Context(command, info_name=name, parent=parent)
    parts = [_name(f"steelyard-{name}", COMMANDS[name][1].rstrip(".").replace("`", ""))]
    parts += [".SH SYNOPSIS", _synopsis(context), ".SH DESCRIPTION", *_prose(_help(command))]
    if long:
        parts.append(roff.render(long))
    parts += [".SH OPTIONS", *_options(context), ".SH EXIT STATUS"]
    codes = _codes(command) or _codes(main)
    parts.append(roff.paragraph(roff.escape(codes)))
    parts += [
        ".SH SEE ALSO",
        f"{_reference('steelyard', 1)}, {_reference('steelyard.toml', 5)}, {_reference('steelyard', 8)}",
    ]
    return "\n".join(parts)


def _of(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    if command is None:
        raise LookupError(name)
    return command


def _synopsis(context: click.Context) -> str:
    words = [one for one in context.command.collect_usage_pieces(context) if one]
    return f"{roff.bold(context.command_path)} {' '.join(roff.italic(word) for word in words)}"


def _help(command: click.Command) -> str:
    return _CODES.sub("", _text(command))


def _codes(command: click.Command) -> str:
    found = _CODES.search(_text(command))
    return " ".join(found[0].split()).removeprefix("Exit codes: ") if found else ""


def _text(command: click.Command) -> str:
    lines = (command.help or "").replace("\b", "").split("\n")
    return "\n".join(line.strip() for line in lines)


def _prose(text: str) -> Iterator[str]:
    for part in re.split(r"\n\s*\n", text.strip()):
        yield f".PP\n{roff.paragraph(roff.escape(' '.join(part.split())))}"


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            names, text = record
            yield roff.item(roff.bold(names), roff.paragraph(roff.escape(text)))


def _reference(name: str, section: int) -> str:
    return f"{roff.bold(name)}({section})"


def _document(name: str, what: str, path: Path) -> str:
    """Return a page of the documentation as a man page.  What stands before its first heading describes it."""
    _, _, text = path.read_text().partition("\n")
    first, mark, rest = text.partition("\n## ")
    body = f"{_name(name, what)}\n.SH DESCRIPTION\n{roff.render(first)}\n{roff.render(mark + rest)}"
    return f"{body}\n.SH SEE ALSO\n{_reference('steelyard', 1)}, {_reference('steelyard.toml', 5)}, {_reference('steelyard', 8)}"
