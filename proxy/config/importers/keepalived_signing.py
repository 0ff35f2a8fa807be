"""keepalived's `auth_hmac` of 2.4: the keys and the mode with which adverts are signed [pure]."""

from typing import Any, Final

from proxy.config.importers.draft import Part
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement
from proxy.config.importers.values import number

_FILE: Final = "file:"
_MODES: Final = ("enforce", "permissive", "receive-only")


def signing(statement: Statement, router: Part, ledger: Ledger) -> None:
    """Set `auth` of a router; raises `LeftError` if no key is in a file, because our file holds no secrets."""
    keys: dict[int, str] = {}
    found: dict[str, Any] = {}

    def key(each: Statement) -> None:
        identity, path = number(_argument(each, 0), 1, 255), _argument(each, 1)
        if not path.startswith(f"{_FILE}/"):
            raise LeftError("write the key into a file that root alone can read, and name it in auth.key-files")
        keys[identity] = path.removeprefix(_FILE)

    def active(each: Statement) -> None:
        found["active"] = number(_argument(each, 0), 1, 255)

    def mode(each: Statement) -> None:
        if _argument(each, 0) not in _MODES:
            raise LeftError(f"the modes are {', '.join(_MODES)}")
        found["mode"] = _argument(each, 0)

    def replay(each: Statement) -> None:
        if _argument(each, 0) != "monotonic":
            why = "signatures are judged by their growing numbers: a peer with keepalived needs anti_replay monotonic"
            ledger.changed(each, why, router)

    handlers: dict[str, Handler] = {"key": key, "active_key": active, "mode": mode, "anti_replay": replay}
    left = {"time_window": "signatures are judged by their growing numbers, not by the clock"}
    ledger.read(statement.inner, handlers, part=router, left=left)
    if not keys:
        raise LeftError("it has no key in a file")
    first = found.get("active", min(keys))
    order = sorted(keys, key=lambda identity: (identity != first, identity))
    files = [f"{identity}:{keys[identity]}" for identity in order]
    router.set("auth", {"mode": found.get("mode", "enforce"), "key-files": files}, statement.place)


def _argument(statement: Statement, at: int) -> str:
    if len(statement.args) <= at:
        raise LeftError("a value is missing")
    return statement.args[at]
