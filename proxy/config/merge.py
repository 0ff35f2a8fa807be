"""Merges defaults into a table key by key, so that a service that sets one timer keeps the other defaults."""

from collections.abc import Collection

from proxy.config.positions import Tab


def merged(defaults: Tab | None, own: Tab, *, only: Collection[str] | None = None, whole: Collection[str] = ()) -> Tab:
    """Return `own` with the keys that only `defaults` has; tables in both are merged in the same way.

    `only` limits the keys that come from the defaults; `whole` names keys whose tables replace the default table.
    """
    result = own.copy()
    if defaults is None:
        return result
    for key, value in defaults.items():
        if only is not None and key not in only:
            continue
        if key not in own:
            result.put(key, value, defaults.spots[key])
        elif key not in whole and isinstance(value, Tab) and isinstance(own[key], Tab):
            result.put(key, merged(value, own[key]), own.spots[key])
    return result


def without(tab: Tab, *keys: str) -> Tab:
    """Return the table without some keys."""
    result = tab.copy()
    for key in keys:
        result.pop(key, None)
    return result
