"""keepalived's mails."""

from proxy.config.importers.draft import Draft
from proxy.config.importers.keepalived_lines import Lines
from proxy.config.importers.keepalived_mail import Mail
from proxy.config.importers.ledger import Ledger
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


def test_servers_are_told_of_where_that_is_possible():
    """In a version that tells programs of backends, the servers' verdicts are mailed too."""
    draft, ledger = Draft(), Ledger(tells_of_backends=True)
    draft.part("service", "a")
    mail = Mail(draft, ledger)
    (block,) = Lines(lambda _: [], ledger).statements("/f", GLOBALS % "")
    for each in block.inner:
        if each.name in mail.handlers():
            mail.handlers()[each.name](each)
    mail.finish()
    assert draft.part("notify", "mail").get("to") == ["up", "down"]
