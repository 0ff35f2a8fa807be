"""`steelyard demo`: see it balance and fail over, on embedded servers, in half a minute."""

import click


@click.command()
@click.option("--pair", is_flag=True, help="Two hosts and a moving address (not in this version).")
@click.pass_context
def command(ctx: click.Context, pair: bool) -> None:
    """Balance DNS queries and connections over embedded servers while some of them die and return.

    Needs no privileges, listens on loopback only, and ends by itself. Exits with 1 if anything was lost.
    """
    if pair:
        raise click.UsageError("--pair: this version has no VRRP yet")
    from proxy.demo.story import DemoError, play

    try:
        nothing_lost = play(click.echo)
    except DemoError as error:
        click.echo(f"steelyard: demo: {error}", err=True)
        nothing_lost = False
    ctx.exit(0 if nothing_lost else 1)
