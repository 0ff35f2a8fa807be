"""keepalived's mails."""

import pytest

from tests.proxy.config.importers.bed import bring, only

GLOBALS = (
    "global_defs {\nnotification_email {\nroot@example.net\n}\nnotification_email_from lb@example.net\nsmtp_server 10.0.0.5 2525\n"
    "smtp_connect_timeout 20\n%s\n}\n"
)
ROUTER = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.10\n}\n%s\n}\n"


def test_a_router_that_mails_has_a_program():
    """The routers that ask for mails are told by curl, with the file's server and addresses."""
    found = bring("keepalived", GLOBALS % "" + ROUTER % "smtp_alert")
    told = only(found.tables["notify"])
    assert told["on"] == ["V"]
    assert told["command"][:2] == ["/bin/sh", "-c"]
    for part in (
        "smtp://10.0.0.5:2525",
        "--connect-timeout 20",
        "--mail-from lb@example.net",
        "--mail-rcpt root@example.net",
    ):
        assert part in told["command"][2]
    assert found.counts["left"] == 0


def test_a_switch_for_all():
    """smtp_alert in global_defs is for every router; `off` is for none."""
    assert "on" not in only(bring("keepalived", GLOBALS % "smtp_alert" + ROUTER % "").tables["notify"])
    assert "notify" not in bring("keepalived", GLOBALS % "smtp_alert off" + ROUTER % "smtp_alert no").tables


def test_nobody_asks():
    """Without a router that asks, the settings are told as left out."""
    found = bring("keepalived", GLOBALS % "" + ROUTER % "")
    assert "notify" not in found.tables
    assert found.counts["left"] == 5


def test_an_address_for_a_shell_is_refused():
    """An address with characters that a shell would read is not put into a command."""
    text = (GLOBALS % "").replace("root@example.net", '"root;reboot"') + ROUTER % "smtp_alert"
    assert "notify" not in bring("keepalived", text).tables


SERVED = "virtual_server 10.0.0.10 80 {\n%s\nreal_server 10.0.0.1 80 {\n}\n}\n"


def test_servers_are_mailed_of():
    """Servers tell by mail unless they are told not to, as keepalived does it."""
    assert "on" not in only(bring("keepalived", GLOBALS % "" + SERVED % "").tables["notify"])
    both = bring("keepalived", GLOBALS % "" + ROUTER % "smtp_alert" + SERVED % "smtp_alert")
    assert only(both.tables["notify"])["on"] == ["V", "http"]
    assert both.counts["left"] == 0
    two = SERVED % "smtp_alert no" + SERVED.replace("80", "25") % ""
    assert only(bring("keepalived", GLOBALS % "" + two).tables["notify"])["on"] == ["smtp"]


@pytest.mark.parametrize("word", ["smtp_alert_checker no", "no_checker_emails", "smtp_alert off"])
def test_servers_that_are_not_mailed_of(word):
    """A switch turns the mails of all servers off."""
    assert "notify" not in bring("keepalived", GLOBALS % word + SERVED % "").tables
