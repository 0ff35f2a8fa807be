"""HAProxy's access lists and the rules about clients that use them: allow, deny, limits and rates [pure]."""

import re
from collections.abc import Sequence
from typing import Final

from proxy.config.importers.draft import Part
from proxy.config.importers.haproxy_checks import milliseconds
from proxy.config.importers.ledger import Ledger, LeftError, Statement
from proxy.config.importers.values import block, common, duration, number

_NO_FORM: Final = "this condition has no form here"
_OR: Final = frozenset(("||", "or"))
_MINUTE: Final = 60


class Clients:
    """What one section says of clients; `part` gets the keys."""

    def __init__(self, ledger: Ledger, part: Part) -> None:
        """Prepare."""
        self.ledger = ledger
        self.part = part
        self._acls: dict[str, list[list[str]]] = {}
        self._accepted: list[str] = []
        self._period = 10.0
        self._expire = "never"

    def acl(self, statement: Statement) -> None:
        """Read `acl NAME TEST VALUE...`; all lines with a name are alternatives."""
        name, test = statement.args[:1], statement.args[1:]
        if not name:
            raise LeftError("a value is missing")
        self._acls.setdefault(name[0], []).append(test)
        if len(test) < 2 or test[0] not in {"src", "dst_port"}:  # noqa: PLR2004 - the test and a value
            raise LeftError("only addresses of clients (src) and ports (dst_port) can be told apart")

    def tests(self, words: Sequence[str]) -> list[list[str]]:
        """Return the alternatives of a condition without negation: acls by name, or tests in braces."""
        found: list[list[str]] = []
        text = list(words)
        while text:
            word = text.pop(0)
            if word == "{" and "}" in text:
                end = text.index("}")
                found.append(text[:end])
                text = text[end + 1 :]
            elif word in self._acls:
                found.extend(self._acls[word])
            else:
                raise LeftError(f"{_NO_FORM}: {word[:40]}")
            if text and text.pop(0) not in _OR:
                raise LeftError("conditions that must hold together have no form here")
        if not found or not all(found):
            raise LeftError(_NO_FORM)
        return found

    def ports(self, words: Sequence[str]) -> set[int]:
        """Return the ports of a condition that is about nothing else."""
        ports: set[int] = set()
        for kind, *values in self.tests(words):
            if kind != "dst_port":
                what = "addresses of clients" if kind == "src" else kind[:40]
                raise LeftError(f"a listener has one list of servers, not by {what}: use another address or port")
            for value in values:
                low, _, high = value.partition(":")
                if value not in {"eq", "-m", "int"}:
                    ports.update(range(number(low, 1, 65535), number(high or low, 1, 65535) + 1))
        return ports

    def request(self, statement: Statement) -> None:
        """Read a `tcp-request` rule."""
        args = statement.args
        if args[:1] == ["inspect-delay"]:
            return  # nothing is inspected
        if args[:1] not in (["connection"], ["content"], ["session"]) or len(args) < 2:  # noqa: PLR2004 - the action
            raise LeftError("there is no such rule")
        action, rest = args[1], args[2:]
        if action.startswith(("track-sc", "expect-proxy")) or "req_ssl_hello_type" in rest:
            return  # what is counted or waited for is used by another rule
        if action not in {"reject", "accept"} or (not rest and action == "accept"):
            raise LeftError("rules about clients reject or accept them")
        if rest:
            self._rule(action, rest, statement)
        elif self._accepted:
            self.part.set("allow", self._accepted, statement.place)
        else:
            raise LeftError("this rejects every client")

    def _rule(self, action: str, rest: Sequence[str], statement: Statement) -> None:
        """Read a rule with a condition, of whose alternatives all or none are negated."""
        negated, words = rest[0] == "unless", list(rest[1:])
        if words and words[0].startswith("!"):
            if negated or _OR.intersection(words):
                raise LeftError(_NO_FORM)
            negated, words = True, [words[0][1:], *words[1:]] if len(words[0]) > 1 else words[1:]
        tests = self.tests(words)
        if action == "accept":
            self._accept(tests, negated=negated)
        elif negated:
            blocks = [each for test in tests for each in _blocks(test)]
            allowed = self.part.get("allow")
            self.part.set("allow", common(allowed, blocks) if allowed else blocks, statement.place)
        else:
            for test in tests:
                self._reject(test, statement)

    def _accept(self, tests: Sequence[list[str]], *, negated: bool) -> None:
        """Remember who is accepted: only a rule below that rejects all others makes a list of it."""
        if negated:
            raise LeftError(_NO_FORM)
        for test in tests:
            self._accepted.extend(_blocks(test))

    def _reject(self, test: list[str], statement: Statement) -> None:
        kind, values = test[0], [word for word in test[1:] if word not in {"gt", "ge", "-m", "int"}]
        if kind == "src":
            self.part.set("deny", [*self.part.get("deny", []), *_blocks(test)], statement.place)
        elif not values:
            raise LeftError(_NO_FORM)
        elif re.fullmatch(r"(src_conn_cur|sc[0-9]?_conn_cur)(\(.*\))?", kind):
            self.part.set("max-connections-per-client", number(values[0], 1), statement.place)
        elif re.fullmatch(r"(src|sc[0-9]?)_(conn|sess)_rate(\(.*\))?", kind):
            self.part.set("rate-per-client", self._rate(number(values[0], 1)), statement.place)
        else:
            raise LeftError(f"{kind[:40]}: clients have addresses, connections and rates")

    def _rate(self, count: int) -> str:
        each = count * _MINUTE / self._period
        return f"{round(each / _MINUTE)}/s" if each >= _MINUTE else f"{max(1, round(each))}/m"

    def table(self, statement: Statement) -> None:
        """Read a `stick-table`: how long it remembers, and over which time it counts."""
        words = statement.args
        if words[:1] != ["type"] or words[1:2] not in (["ip"], ["ipv6"]):
            raise LeftError("clients are known by their address only")
        for key, value in zip(words, [*words[1:], ""], strict=False):
            rate = re.search(r"(?:conn|sess)_rate\(([0-9a-z]+)\)", value) if key == "store" else None
            if rate:
                self._period = max(0.001, milliseconds(rate[1]))
            if key == "expire":
                self._expire = duration(milliseconds(value))
            if key == "peers":
                why = "persistence is of one host: the other one chooses anew"
                self.ledger.changed(statement, why, self.part)

    def stick(self, statement: Statement) -> None:
        """Read `stick on src`."""
        text = " ".join(statement.args)
        found = re.match(r"(?:on|match|store-request) src(?:,ipmask\(([0-9]+)(?:,([0-9]+))?\))?(?: table \S+)?$", text)
        if found is None:
            raise LeftError("clients are known by their address only")
        prefixes = {"ipv4-prefix": found[1], "ipv6-prefix": found[2]}
        table = {key: number(value, 1, 128) for key, value in prefixes.items() if value}
        self.part.set("persistence", {"timeout": self._expire, **table}, statement.place)


def _blocks(test: Sequence[str]) -> list[str]:
    """Return the blocks of addresses of a test of the client's address."""
    kind, values = test[0], [word for word in test[1:] if word not in {"-m", "ip", "--"}]
    if kind != "src" or not values:
        raise LeftError(_NO_FORM)
    if any(value.startswith("-") for value in values):
        raise LeftError("addresses in a file of their own: list them in allow or deny")
    return [block(value) for value in values]
