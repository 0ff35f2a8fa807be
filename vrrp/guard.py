"""A call that may fail without harm to the caller: the error is logged, and the caller goes on."""

import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("steelyard.vrrp")


def guarded(call: Callable[..., None], *arguments: Any) -> None:
    """Call `call(*arguments)`, and log any exception that it raises."""
    try:
        call(*arguments)
    except Exception:
        _log.exception("%s failed", getattr(call, "__qualname__", call))
