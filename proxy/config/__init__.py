"""Turns a TOML file into frozen models, and reports all mistakes at once, each with file:line:col.

`load` gives a daemon its effective configuration.  `diagnose` gives `check` all errors and warnings of a file.
"""

from proxy.config.diagnostics import ConfigError, Diagnostic
from proxy.config.loader import diagnose, diagnose_text, load
from proxy.config.model import Backend, Config, Listener, Service
from proxy.config.support import unsupported

__all__ = [
    "Backend",
    "Config",
    "ConfigError",
    "Diagnostic",
    "Listener",
    "Service",
    "diagnose",
    "diagnose_text",
    "load",
    "unsupported",
]
