"""`steelyard config`: the effective configuration of this node, defaults and all, as the daemon runs it."""

import click

from proxy.cli.daemon import daemon, print_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON document, durations in seconds.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Print the configuration that runs, every default filled in, secrets masked."""
    from proxy.cli.tomltext import effective_file, masked

    with daemon(ctx) as client:
        config = masked(client.request("config")["config"])
        if as_json:
            print_json(config)
        else:
            click.echo(effective_file(config), nl=False)
