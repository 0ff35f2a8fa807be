"""What server and client of the control socket agree on: bounds, error codes, exit codes.

A request is one line, `{"command": "status", ...}`; an answer is one line, `{"ok": true, ...}` or
`{"ok": false, "error": "in words", "code": "..."}`. A long answer comes in several lines, each but the last with
`"more": true`. Nothing here imports asyncio: the commands that a person types should start fast.
"""

from typing import Any, Final

DEFAULT_SOCKET: Final = "/run/steelyard/control.sock"

LINE_MAX: Final = 64 * 1024
"""Bytes of a request, newline included."""

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_PERMISSION: Final = 4
EXIT_USAGE: Final = 64

BAD_REQUEST: Final = "bad-request"
UNKNOWN_NAME: Final = "unknown-name"
"""There is no service, backend or router of that name."""
UNKNOWN_COMMAND: Final = "unknown-command"
PERMISSION: Final = "permission"
BUSY: Final = "busy"
FAILED: Final = "failed"
BAD_CONFIG: Final = "bad-config"
"""The configuration file is wrong, or this host cannot obey it."""
INTERNAL: Final = "internal"


class Encoded(bytes):
    """The inside of an answer's object as JSON, for one that is made once and sent to many."""

    __slots__ = ()


class ControlError(Exception):
    """A command that was not done. `code` is for machines, `exit_code` what the command line exits with."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, code: str = FAILED, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class UnreachableError(ControlError):
    """No daemon answers there, or it stopped answering."""

    exit_code = EXIT_UNREACHABLE


class PermissionDeniedError(ControlError):
    """The daemon, or the socket's mode, does not let this user do that."""

    exit_code = EXIT_PERMISSION


class BadConfigError(ControlError):
    """The daemon refuses its configuration file."""

    exit_code = EXIT_CONFIG


class UnknownNameError(ControlError):
    """The command is about a service, a backend or a router that there is not.

    It is wrong usage: a 1 would be taken for the answer, as that of `is-active` or of a failed probe.
    """

    exit_code = EXIT_USAGE
