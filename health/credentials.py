"""Credentials of the service manager: files that it alone gives to this service (systemd.exec(5), LoadCredential=).

The configuration names one as `credential:NAME` in the place of a path.  The directory is in the environment of the
daemon's main process, and of no child.
"""

import os
import re
from typing import Final

PREFIX: Final = "credential:"
DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
"""The variable with the directory of the credentials."""
_NAME: Final = re.compile(r"[!-.0-9;-~]{1,255}", re.ASCII)  # a file name that systemd accepts: no slash, no colon


class NoCredential(Exception):  # noqa: N818 - named for what it says
    """There is no such credential here; the text says why."""


def is_credential(text: str) -> bool:
    """Return True if a configuration means a credential and no path."""
    return text.startswith(PREFIX)


def check_name(text: str) -> None:
    """Raise ValueError, with a text for users, if what follows `credential:` cannot be the name of a credential."""
    name = text.removeprefix(PREFIX)
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise ValueError(
            f'"{text[:60]}" names no credential: after "{PREFIX}" write a name, such as "{PREFIX}mysql", '
            "without slashes, colons and blanks"
        )


def located(path: str) -> str:
    """Return where a file is: the path itself, or that of the credential; raises `NoCredential` without a directory."""
    if not is_credential(path):
        return path
    check_name(path)
    directory = os.environ.get(DIRECTORY, "")
    if not directory.startswith("/"):
        raise NoCredential(f"the service manager has given this process no credentials ({DIRECTORY} is not set)")
    return os.path.join(directory, path.removeprefix(PREFIX))  # noqa: PTH118 - text
