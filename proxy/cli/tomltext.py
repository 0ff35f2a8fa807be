"""The effective configuration as a file of the kind it was read from [pure].

What it prints is a whole file again: `steelyard check` accepts it, and it means the same on this node.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.config.toml_text import key_text, value_text
from proxy.words import printable

SECRETS: Final = frozenset({"password", "secret", "token"})
"""Keys to mask, though no version of the file has them: secrets are in files of their own."""

_NAMED: Final = {"services": "service", "vrrp": "vrrp", "sync-groups": "sync-group", "notify": "notify"}
_ABOUT: Final = ("owned", "sources", "sha256")


def masked(value: Any) -> Any:
    """Return the configuration with the value of each secret key replaced by "***"."""
    if isinstance(value, Mapping):
        return {key: "***" if key in SECRETS and item is not None else masked(item) for key, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, list) else value


def effective_file(config: Mapping[str, Any]) -> str:
    """Return the text for an effective configuration: `Config.model_dump(mode="json", by_alias=True)`."""
    about = [f"# from {source}" for source in config.get("sources", ())]
    about.append(f"# sha256 {config.get('sha256', '')}")
    tables: dict[str, Any] = {}
    for key, value in config.items():
        if key in _NAMED:
            tables[_NAMED[key]] = {item["name"]: _without_name(key, item) for item in value}
        elif key == "probes":
            tables["probe"] = value
        elif key not in _ABOUT:
            tables[key] = value
    return "\n".join([*map(printable, about), *_table(tables, ())]) + "\n"


def _without_name(key: str, item: Mapping[str, Any]) -> dict[str, Any]:
    table = {name: value for name, value in item.items() if name != "name"}
    if key == "services":
        listeners = table.pop("listeners")
        backends = [_backend(backend) for backend in table.pop("backends")]
        listen = list(dict.fromkeys(map(_listen, listeners)))  # a router's name stands for all its addresses
        return {"listen": listen, **table, "backends": backends}
    return table


def _backend(backend: Mapping[str, Any]) -> dict[str, Any]:
    table = dict(backend)
    probes = table.pop("probes")
    return {**table, "probe": probes} if probes else table


def _listen(listener: Mapping[str, Any]) -> str:
    address = listener["address"]
    where = listener.get("vrrp") or (f"[{address}]" if ":" in address else address)
    return f"{where}:{listener['port']}/{listener['transport']}"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table: its own values first, then the tables in it, as TOML wants."""
    inner: list[tuple[str, Any]] = []
    for name, value in table.items():
        if isinstance(value, Mapping) or (isinstance(value, list) and value and isinstance(value[0], Mapping)):
            inner.append((name, value))
        elif value is not None:
            yield f"{key_text(name)} = {value_text(name, value)}"
    for name, value in inner:
        below = (*path, name)
        heading = ".".join(map(key_text, below))
        if isinstance(value, list):
            for item in value:
                yield from ("", f"[[{heading}]]")
                yield from _table(item, below)
        else:
            lines = list(_table(value, below))
            if lines and not lines[0].startswith("[") and lines[0]:
                yield from ("", f"[{heading}]")
            yield from lines
