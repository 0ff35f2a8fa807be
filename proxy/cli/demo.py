"""`steelyard demo`: see it balance and fail over, on embedded servers, within a minute."""

import click


@click.command()
@click.option("--pair", is_flag=True, help="Two hosts in namespaces, and an address that moves between them.")
@click.pass_context
def command(ctx: click.Context, pair: bool) -> None:
    """Balance DNS queries and connections over embedded servers while some of them die and return.

    Needs no privileges, listens on loopback only, and ends by itself. Exits with 1 if anything was lost.

    With --pair two hosts share an address in network namespaces, which wants root or a kernel that lets every user have
    them, and all of the first host's ways to fail are tried; it ends within a minute. Exits with 1 if a query was lost
    or the address went astray.
    """
    from proxy.demo.namespaces import NamespaceError
    from proxy.demo.pair import play as play_pair
    from proxy.demo.parts import DemoError
    from proxy.demo.story import play

    try:
        code = play_pair(click.echo) if pair else 0 if play(click.echo) else 1
    except (DemoError, NamespaceError) as error:
        click.echo(f"steelyard: demo: {error}", err=True)
        code = 1
    ctx.exit(code)
