"""The logins of one account on all backends of a service: a wrong password must not take the service down.  Pure.

A refused login counts as a failure only if another backend has accepted the same account since.  As long as no backend
accepts it, the account is at fault: the verdicts stay, and an alarm is raised that ends with the first successful login.
A backend that fails for another reason says nothing about the account.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from health.spec import ProbeBase
from health.state import Outcome

Login = Literal["untried", "accepted", "refused", "other"]


@dataclass(slots=True)
class _Member:
    login: Login = "untried"
    at: float = 0.0  # monotonic seconds of the last result
    refused_since: float = 0.0


def account(spec: ProbeBase) -> str | None:
    """Return the account that `spec` logs in with, None if it does not log in."""
    path = getattr(spec, "password_file", None)
    user = getattr(spec, "user", None) or getattr(spec, "bind_dn", None)
    return None if user is None else f"{spec.type} {user} {path or ''}"


class Logins:
    """The last login on each member; a member is a backend, by any key.  Times in monotonic seconds."""

    def __init__(self) -> None:
        self.alarm = False
        self._members: dict[str, _Member] = {}

    def keep(self, keys: set[str]) -> None:
        """Replace the set of members; those that stay keep their state."""
        self._members = {key: self._members.get(key) or _Member() for key in sorted(keys)}
        if not self._members:
            self.alarm = False

    def observe(self, key: str, outcome: Outcome, now: float) -> bool:
        """Take in a probe's outcome; return True if it counts for the verdict.  Updates `alarm` and `doubtful`."""
        member = self._members[key]
        if outcome.credentials_rejected:
            if member.login != "refused":
                member.refused_since = now
            member.login = "refused"
        else:
            member.login = "accepted" if outcome.ok and not outcome.full else "other"
        member.at = now
        self._raise()
        return member.login != "refused" or self._let_in_elsewhere(member)

    def hindered(self, key: str) -> None:
        """Note that the probe could not try the login on a member, so that the alarm does not wait for it."""
        member = self._members[key]
        if member.login == "untried":
            member.login = "other"
            self._raise()

    def _raise(self) -> None:
        logins = [each.login for each in self._members.values()]
        if "accepted" in logins:
            self.alarm = False
        elif "refused" in logins and "untried" not in logins:
            self.alarm = True

    def _let_in_elsewhere(self, refused: _Member) -> bool:
        return any(each.login == "accepted" and each.at > refused.refused_since for each in self._members.values())

    def doubtful(self) -> Iterator[str]:
        """Return the members that accepted the account before another refused it: they should be probed again."""
        refusals = [each.refused_since for each in self._members.values() if each.login == "refused"]
        if refusals:
            last = max(refusals)
            yield from (key for key, each in self._members.items() if each.login == "accepted" and each.at <= last)
