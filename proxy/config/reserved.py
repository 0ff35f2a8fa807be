"""The keys of the whole file: a node must not have the name of one, because tables keyed by node would be ambiguous [pure]."""

from functools import cache

from pydantic import BaseModel

from health.spec import PROBE_TYPES
from proxy.config import settings as settings_module
from proxy.config.model import Announce, Auth, NotifySettings, SyncGroup, Track, VrrpSettings
from proxy.config.tables import BackendTable, FileTable, ServiceTable
from proxy.config.validate import keys_of


def _models() -> list[type[BaseModel]]:
    shared = [
        value
        for value in vars(settings_module).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel
    ]
    others: list[type[BaseModel]] = [
        FileTable, ServiceTable, BackendTable, VrrpSettings, Announce, Auth, Track, SyncGroup, NotifySettings
    ]  # fmt: skip
    return [*shared, *others, *PROBE_TYPES.values()]


@cache
def reserved() -> tuple[str, ...]:
    """Return every key of the file."""
    return tuple(sorted({key for model in _models() for key in keys_of(model)} - {"name"}))
