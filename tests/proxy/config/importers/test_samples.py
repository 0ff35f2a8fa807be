"""The files that Debian's packages install, if they are installed: none is a traceback, and most of each is carried over."""

from pathlib import Path

import pytest

from proxy.config.importers.convert import convert
from proxy.config.importers.keepalived_lines import Lines
from proxy.config.importers.ledger import Ledger
from tests.proxy.config.importers.bed import bring, judge

SAMPLES = Path("/usr/share/doc/keepalived/samples")
MAIL = frozenset(("notification_email", "notification_email_from", "smtp_server", "smtp_connect_timeout", "smtp_alert"))
LISTS = frozenset(
    ("virtual_ipaddress", "virtual_routes", "virtual_rules", "static_routes", "static_rules", "static_ipaddress",
     "notification_email", "track_interface", "track_script", "group", "virtual_server_group")
)  # fmt: skip
OTHERS = [
    ("haproxy", Path("/usr/share/doc/haproxy/examples"), "*.cfg"),
    ("haproxy", Path("/etc/haproxy"), "*.cfg"),
    ("dnsdist", Path("/usr/share/doc/dnsdist/examples"), "*.conf"),
    ("dnsdist", Path("/etc/dnsdist"), "*.conf"),
]


def directives(statements):
    """Yield the statements that are words of keepalived's language, not the elements of a list such as addresses."""
    for each in statements:
        yield each
        if each.name not in LISTS:
            yield from directives(each.inner)


def test_most_of_keepaliveds_samples():
    """Nine tenths of the directives in keepalived's samples are carried over, but for mails about servers, which nothing sends."""
    files = sorted(SAMPLES.glob("keepalived.conf.*"))
    if not files:
        pytest.skip("keepalived's samples are not installed")
    left = total = 0
    for path in files:
        _, ledger = convert("keepalived", [(str(path), path.read_text())], lambda _: [], judge)
        names = {
            (each.place, each.name)
            for identity in ("", "high", "low")
            for each in directives(Lines(lambda _: [], Ledger(), identity).statements(str(path), path.read_text()))
        }
        for place, name, outcome in ledger.outcomes():
            if (place, name) in names and name not in MAIL:
                total += 1
                left += outcome == "left"
    assert total > 500
    assert (total - left) / total >= 0.9


@pytest.mark.parametrize(("program", "folder", "pattern"), OTHERS)
def test_the_others(program, folder, pattern):
    """Every file that the packages of the others install is imported, whatever of it is left."""
    files = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not files:
        pytest.skip(f"{folder} has no {pattern}")
    for path in files:
        bring(program, path.read_text())
