"""From files to the text of ours."""

from proxy.config.importers.convert import convert
from tests.proxy.config.importers.bed import judge


def test_the_head_says_where_it_is_from():
    """The printed file begins with the command and the files that it was made of."""
    text, _ = convert("haproxy", [("/etc/a.cfg", "listen l\n bind :80\n server s 10.0.0.1\n")], lambda _: [], judge)
    assert text.startswith("# Made by `steelyard import haproxy` from /etc/a.cfg.\n")
