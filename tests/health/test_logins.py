"""Refused logins: one backend's fault, or the account's."""

from health.logins import Logins, account
from health.spec import ImapProbe, LdapProbe, MysqlProbe, TcpProbe
from health.state import Outcome

YES = Outcome(True, "answered", 0.001)
NO = Outcome(False, "login refused", 0.001, credentials_rejected=True)
DEAD = Outcome(False, "connection refused", 0.001)
FULL = Outcome(True, "too many connections", 0.001, reserve=True, full=True)


def logins(*keys: str) -> Logins:
    made = Logins()
    made.keep(set(keys))
    return made


def test_refused_by_all_counts_for_none() -> None:
    """H8: as long as every backend refuses the login, no refusal counts, and there is an alarm once all have said so."""
    both = logins("a", "b")
    assert not both.observe("a", NO, 1.0)
    assert not both.alarm
    assert not both.observe("b", NO, 1.1)
    assert both.alarm
    for second in range(2, 100):
        assert not both.observe("a", NO, float(second))
        assert not both.observe("b", NO, second + 0.1)


def test_refused_by_one_counts() -> None:
    """H8: a backend that refuses a login fails if another backend has accepted it since, and there is no alarm."""
    both = logins("a", "b")
    both.observe("b", YES, 0.5)
    assert not both.observe("a", NO, 1.0)
    assert list(both.doubtful()) == ["b"]
    assert both.observe("b", YES, 1.1)
    assert list(both.doubtful()) == []
    assert both.observe("a", NO, 1.5)
    assert not both.alarm


def test_changed_password_takes_nobody_down() -> None:
    """H8: when the password changes on all backends, the first refusal waits for what the others say, and none counts."""
    both = logins("a", "b")
    both.observe("a", YES, 0.0)
    both.observe("b", YES, 0.1)
    assert not both.observe("a", NO, 1.0)
    assert not both.alarm
    assert list(both.doubtful()) == ["b"]
    assert not both.observe("b", NO, 1.1)
    assert both.alarm


def test_the_dead_say_nothing_of_the_account() -> None:
    """H8: where the others are dead, a refusal keeps the verdict, and a connection that is refused still counts."""
    both = logins("a", "b")
    assert both.observe("b", DEAD, 0.5)
    assert not both.observe("a", NO, 1.0)
    assert both.alarm


def test_an_alarm_ends_with_a_login() -> None:
    """H8: the first login that succeeds ends the alarm; a backend that refuses it from then on fails."""
    both = logins("a", "b")
    both.observe("a", NO, 1.0)
    both.observe("b", NO, 1.1)
    assert both.observe("b", YES, 2.0)
    assert not both.alarm
    assert both.observe("a", NO, 2.1)


def test_a_single_backend_that_refuses() -> None:
    """H8: a service of one backend keeps it, and raises the alarm at once."""
    one = logins("a")
    assert not one.observe("a", NO, 1.0)
    assert one.alarm


def test_who_could_not_be_asked_is_not_waited_for() -> None:
    """H8: a backend on which the login could not be tried says nothing of the account, and delays no alarm."""
    both = logins("a", "b")
    assert not both.observe("a", NO, 1.0)
    both.hindered("b")
    assert both.alarm
    both.observe("b", YES, 2.0)
    both.hindered("b")
    assert not both.alarm


def test_a_full_server_lets_nobody_in() -> None:
    """H8: a server that is full has not accepted the login, though the run passed."""
    both = logins("a", "b")
    assert not both.observe("a", NO, 1.0)
    assert both.observe("b", FULL, 1.1)
    assert both.alarm
    assert not both.observe("a", NO, 1.2)


def test_members_come_and_go() -> None:
    """H8: a reload keeps the state of the members that stay."""
    both = logins("a", "b")
    both.observe("a", NO, 1.0)
    both.keep({"a", "c"})
    assert not both.observe("c", NO, 2.0)
    assert both.alarm
    both.keep(set())
    assert not both.alarm


def test_accounts() -> None:
    """H8: an account is a protocol, a user and a password's file; a probe without a login has none."""
    assert account(TcpProbe()) is None
    assert account(ImapProbe()) is None
    assert account(MysqlProbe(user="probe")) == "mysql probe "
    assert account(LdapProbe(bind_dn="cn=probe", password_file="/x")) == "ldap cn=probe /x"
