"""From files to the text of ours."""

import pytest

from proxy.config.importers.convert import convert
from tests.proxy.config.importers.bed import judge


def test_the_head_says_where_it_is_from():
    """The printed file begins with the command and the files that it was made of."""
    text, _ = convert("haproxy", [("/etc/a.cfg", "listen l\n bind :80\n server s 10.0.0.1\n")], lambda _: [], judge)
    assert text.startswith("# Made by `steelyard import haproxy` from /etc/a.cfg.\n")


@pytest.mark.parametrize(("accepts", "told"), [(True, True), (False, False)])
def test_the_judge_is_asked_what_this_version_can(accepts, told):
    """Whether programs are told of backends is known by asking what `check` says of such a file."""

    def asked(text):
        return [] if accepts and text.startswith("[service.a]") else judge(text)

    _, ledger = convert("keepalived", [("a", "")], lambda _: [], asked)
    assert ledger.tells_of_backends == told
