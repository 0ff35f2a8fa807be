"""The files of this host that a configuration consists of or names: are they there, may they be trusted, do they hold what they should."""

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from health.executable import Unsafe, runnable, trusted
from health.probes import tls
from health.secrets import AUTHORITIES, PASSWORD, PUBLIC_KEY, Kind, NoSecret, read
from proxy.config.diagnostics import Report
from proxy.config.positions import Spot

KINDS: Final = {"password-file": PASSWORD, "tls-ca-file": AUTHORITIES, "public-key-file": PUBLIC_KEY}
"""The keys that name a file to be read, and what it is."""


def distrust(path: str, *, running: bool) -> Unsafe | None:
    """Return why this process must not obey what `path` holds, None if it may (S7).

    Root obeys what root alone can change, by the rules of scripts (S4): another user who can change it would be root.
    Who is not root is bound to them when `running`, and trusts its own user and group too; looking is free.
    """
    user = os.geteuid()
    if user != 0 and not running:
        return None
    try:
        trusted(os.path.join(Path.cwd(), path), user, os.getegid() if user else 0)  # noqa: PTH118 - links come before ".."
    except Unsafe as why:
        return Unsafe(f"{why}: root must not obey it" if user == 0 else str(why), why.hint)
    return None


def check_file(path: str, spot: Spot, report: Report, *, need: bool, secret: bool, kind: Kind | None = None) -> None:
    """Tell when a file that the configuration names is not there, may not be trusted, or is not what it should be.

    `need` says that it is about to be used: what is missing is an error then, else a warning.
    """
    try:
        info = Path(path).stat()
    except PermissionError:
        if need:
            report.error(spot, f"{path}: permission denied")
        return  # root can see it, and whoever checks is not
    except OSError as error:
        words = (error.strerror or "unreadable").lower()
        report.add("error" if need else "warning", spot, f"{path}: {words} on this host")
        return
    if not stat.S_ISREG(info.st_mode):
        report.error(spot, f"{path} is not a file")
        return
    if why := distrust(path, running=need):
        report.error(spot, str(why), why.hint)
    if secret and info.st_mode & stat.S_IROTH:
        report.warn(spot, f"{path} contains a secret and everybody can read it", f"chmod o-r {path}")
    if kind is not None and (need or os.access(path, os.R_OK)):
        _check_content(path, spot, report, kind)


def _check_content(path: str, spot: Spot, report: Report, kind: Kind) -> None:
    try:
        content = read(path, kind)
    except NoSecret as why:
        report.error(spot, str(why))
        return
    if kind is AUTHORITIES:
        try:
            tls.context(verify=True, authorities=content)
        except tls.NoTrust as why:
            report.error(spot, f"{kind.label} {path} holds {why}")


def check_script(path: str, spot: Spot, report: Report, *, need: bool, user: str) -> None:
    """Tell when a script probe's program would not be run, as `user` where this process is root."""
    ids = _ids(user) if os.geteuid() == 0 else None
    why = _not_run(path, *(ids or (os.geteuid(), os.getegid())), need=need)
    if why is not None:
        report.warn(spot, f"the daemon will not run this probe: {why}", why.hint)


def check_command(path: str, spot: Spot, report: Report, *, need: bool) -> None:
    """Tell when a program that this process runs itself would not be run, as others could change it (S4) or it is missing."""
    why = _not_run(path, os.geteuid(), os.getegid(), need=need)
    if why is not None:
        report.warn(spot, f"the daemon will not run it: {why}", why.hint)


def _not_run(path: str, uid: int, gid: int, *, need: bool) -> Unsafe | None:
    try:
        runnable(trusted(path, uid), uid, gid)
    except Unsafe as why:
        # Who is neither root nor about to run it cannot tell for another user, but that nothing is there.
        if os.geteuid() == 0 or need or _missing(path):
            return why
    return None


def _missing(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _ids(user: str) -> tuple[int, int] | None:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid
