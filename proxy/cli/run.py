"""`steelyard run`: the daemon, in the foreground."""

import asyncio
import gc
import logging
import os

import click

from proxy.cli import EXIT_CONFIG


@click.command()
@click.option("-c", "--config", "path", default="/etc/steelyard/steelyard.toml", show_default=True, help="The file.")
@click.option("--node", help="Which of `nodes` this host is; also STEELYARD_NODE.")
@click.pass_context
def command(ctx: click.Context, path: str, node: str | None) -> None:
    """Run the daemon in the foreground.

    SIGTERM: new clients are served until another daemon takes over, at most stop-timeout. SIGINT: open connections may
    finish within stop-timeout. A second one stops at once. SIGUSR1 reopens the log files, SIGUSR2 is reexec.
    """
    from proxy.processes.signals import hold

    hold()  # what comes while much is imported is taken later
    from proxy.config.diagnostics import ConfigError
    from proxy.config.loader import load
    from proxy.config.support import refuse_unsupported
    from proxy.daemon import serve
    from proxy.host import priority
    from proxy.host.service_manager import ServiceManager
    from proxy.records import log
    from proxy.start import StartError
    from proxy.succession import spawning
    from proxy.succession.predecessor import Predecessor
    from proxy.words import printable

    manager = ServiceManager.from_environment(os.environ)
    sock = spawning.inherited(os.environ)
    predecessor = None if sock is None else Predecessor(sock)
    if predecessor is not None:
        predecessor.priority = priority.lower()
    try:
        config = load(path, node)
        refuse_unsupported(config)
    except (ConfigError, OSError) as error:
        if predecessor is not None:
            predecessor.refuse(str(error), EXIT_CONFIG)
        raise
    gc.freeze()  # what the file has become stays: looking for garbage in it would stop the loop for long
    log.setup(config.log.level, config.log.format)
    if predecessor is None:
        predecessor = Predecessor.ask(config.control.socket)
        if predecessor is not None:
            predecessor.priority = priority.lower()
    try:
        asyncio.run(serve(config, node, manager, predecessor))
    except StartError as error:
        mark = log.prefix(logging.ERROR, journal=log.is_journal())
        for line in str(error).splitlines():
            click.echo(f"{mark}steelyard: {printable(line)}", err=True)
        ctx.exit(1)
