"""The `steelyard` command: the main group, its exit codes, and commands that are imported only when they are called."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from proxy.cli.streams import OutputError, abandon, prepare

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_PERMISSION: Final = 4
EXIT_NO_FILE: Final = 6
EXIT_USAGE: Final = 64
EXIT_BUG: Final = 70

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("proxy.cli.run:command", "Run the load balancer."),
    "check": ("proxy.cli.check:command", "Check a configuration file."),
    "reload": ("proxy.cli.reload:command", "Put the changed configuration file into force."),
    "config": ("proxy.cli.config:command", "Print the effective configuration of the running daemon."),
    "status": ("proxy.cli.status:command", "Show services, backends and workers."),
    "top": ("proxy.cli.top:command", "Show services, backends, routers and events live on one screen."),
    "events": ("proxy.cli.events:command", "Show the timeline: what changed, when and why."),
    "probe": ("proxy.cli.probe:command", "Run the probes of a service once, with a transcript."),
    "drain": ("proxy.cli.admin:drain", "Send a backend no new clients; open connections go on."),
    "maint": ("proxy.cli.admin:maint", "Take a backend out of service at once."),
    "ready": ("proxy.cli.admin:ready", "Let a backend serve again."),
    "add": ("proxy.cli.membership:add", "Add a backend to a service."),
    "remove": ("proxy.cli.membership:remove", "Remove a backend from a service once nothing is open there."),
    "weight": ("proxy.cli.membership:weight", "Give a backend another weight."),
    "overrides": ("proxy.cli.admin:overrides", "Show or clear what operators have changed at run time."),
    "connections": ("proxy.cli.connections:connections", "Show the connections and sessions that are open."),
    "disconnect": ("proxy.cli.connections:disconnect", "Reset connections of a service, of clients, on a backend."),
    "pick": ("proxy.cli.pick:command", "Say which backend a client would get now, and why."),
    "pair": ("proxy.cli.pair:command", "Make, show and compare the link to the other host of the pair."),
    "reexec": ("proxy.cli.reexec:command", "Replace the daemon with the version that is installed now."),
    "standby": ("proxy.cli.standby:standby", "Hand the virtual addresses over to the other host."),
    "resume": ("proxy.cli.standby:resume", "Let this host take the virtual addresses again."),
    "is-active": ("proxy.cli.standby:is_active", "Say whether the virtual addresses are on this host."),
    "import": (
        "proxy.cli.importing:command",
        "Print a configuration of keepalived, HAProxy or dnsdist as one of ours.",
    ),
    "demo": ("proxy.cli.demo:command", "Run a balanced, failing-over example on embedded servers."),
}
"""Name -> where the command is, and its line in `--help`, which imports none of them."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and ends with the exit codes of the manual."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help page."""
        return [*COMMANDS, *(name for name in super().list_commands(ctx) if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; each one also takes `-s/--socket` behind its name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        inner = command.commands.values() if isinstance(command, click.Group) else ()
        for each in (command, *inner):
            if not any("--socket" in parameter.opts for parameter in each.params):
                each.params.append(_socket_option())
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest one for a misspelt name."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f'no such command "{name[:40]}"' + (f', did you mean "{near[0]}"?' if near else ""))
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "steelyard",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; in standalone mode it never returns, and every end has its exit code."""
        run = super().main
        options: dict[str, Any] = {
            "complete_var": complete_var,
            "standalone_mode": False,
            "windows_expand_args": windows_expand_args,
            **extra,
        }
        if not standalone_mode:
            return run(args, prog_name, **options)
        prepare()
        try:
            result = run(args, prog_name, **options)
            sys.stdout.flush()
        except Exception as error:
            _end(error)
        sys.exit(result if isinstance(result, int) else 0)


def _say(text: str) -> None:
    clean = "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
    click.echo(f"{_priority()}steelyard: {clean}", err=True)


def _priority() -> str:
    """Return what the line of an error begins with if the journal gets it."""
    import logging

    from proxy.records.log import is_journal, prefix

    return prefix(logging.ERROR, journal=is_journal())


def _end(error: Exception) -> NoReturn:
    """End the process as the manual says for that error."""
    match error:
        case click.UsageError():
            error.show()
            sys.exit(EXIT_USAGE)
        case click.ClickException():
            error.show()
            sys.exit(error.exit_code)
        case click.Abort():
            sys.exit(130)  # 128 + SIGINT, as a shell has it
        case BrokenPipeError():  # `steelyard … | head`
            abandon()
            sys.exit(EXIT_FAILED)
        case OutputError():
            abandon()
            _say(str(error))
            sys.exit(EXIT_FAILED)
    from proxy.config.diagnostics import ConfigError

    if os.environ.get("STEELYARD_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    match error:
        case ConfigError():
            mark = _priority()  # of each line: a diagnostic has several
            text = "\n".join(str(found) for found in error.diagnostics)
            click.echo("\n".join(f"{mark}{line}" for line in text.split("\n")), err=True)
            sys.exit(EXIT_CONFIG)
        case FileNotFoundError() | IsADirectoryError() | NotADirectoryError():
            _say(f"{error.filename}: {(error.strerror or 'no such file').lower()}")
            sys.exit(EXIT_NO_FILE)
        case PermissionError():
            _say(f"{error.filename or 'this needs more rights'}: {(error.strerror or '').lower()}")
            sys.exit(EXIT_PERMISSION)
    _say(
        f"internal error: {type(error).__name__}: {str(error)[:300]} (STEELYARD_DEBUG=1 shows where)".replace("\n", " ")
    )
    sys.exit(EXIT_BUG)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value and not ctx.resilient_parsing:
        from proxy import __version__

        click.echo(f"steelyard {__version__}")
        ctx.exit()


def _socket_option() -> click.Option:
    """Return the option `-s` for a command, with the same effect as the group's."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
        del parameter
        if value is not None:
            ctx.obj = value

    return click.Option(
        ["-s", "--socket"], metavar="PATH", help="The daemon's control socket.", expose_value=False, callback=remember
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-s", "--socket", metavar="PATH", envvar="STEELYARD_SOCKET", help="The daemon's control socket.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version and exit."
)
@click.pass_context
def main(ctx: click.Context, socket: str | None) -> None:
    """Steelyard: a load balancer for DNS, LDAP, MySQL and mail, whose probes speak the protocol.

    Exit codes: 0 done, 1 failed, 2 bad configuration, 3 daemon unreachable, 4 no permission, 6 no file, 64 wrong usage, 70 a bug.
    """
    ctx.obj = socket
