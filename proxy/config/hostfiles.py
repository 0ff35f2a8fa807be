"""Checks the files that a configuration consists of or names: they exist, they are safe, and their contents are usable."""

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Final, Literal

from health.credentials import NoCredential, is_credential, located
from health.executable import Unsafe, runnable, trusted
from health.probes import tls
from health.secrets import AUTHORITIES, PASSWORD, PUBLIC_KEY, Kind, NoSecret, read
from proxy.config.diagnostics import Report
from proxy.config.positions import Spot

Use = Literal["elsewhere", "here", "now"]
"""What a configuration is read for: another host, a check on its own host, or a daemon that is about to obey it."""
KINDS: Final = {"password-file": PASSWORD, "tls-ca-file": AUTHORITIES, "public-key-file": PUBLIC_KEY}
"""The keys that name a file to read -> the kind of the file."""


def distrust(path: str, *, running: bool) -> Unsafe | None:
    """Return why this process must not obey the file `path`, None if it may (S7).

    Root obeys only files that root alone can change, by the rules for scripts (S4): any other user who could change the
    file could act as root.  Another user follows these rules only when `running`, and also trusts its own user and group.
    """
    user = os.geteuid()
    if user != 0 and not running:
        return None
    try:
        path = located(path)  # of a credential: root's, in a directory of root's, which this user may only read
        trusted(os.path.join(Path.cwd(), path), user, os.getegid() if user else 0)  # noqa: PTH118 - links come before ".."
    except NoCredential as why:
        return Unsafe(str(why))
    except Unsafe as why:
        return Unsafe(f"{why}: root must not obey it" if user == 0 else str(why), why.hint)
    return None


def check_file(path: str, spot: Spot, report: Report, *, use: Use, secret: bool, kind: Kind | None = None) -> None:
    """Report a file named in the configuration that is missing, not safe, or of the wrong kind.

    A missing file is an error on the host that the configuration is for, otherwise a warning.  A missing credential is an
    error only for the daemon: nobody else gets it from the service manager.
    """
    need = use == "now"
    try:
        info = Path(located(path)).stat()
    except NoCredential as reason:
        hint = "the daemon gets it from its unit: LoadCredential="
        report.add("error" if need else "warning", spot, f"{path} cannot be looked at: {reason}", hint)
        return
    except PermissionError:
        if need:
            report.error(spot, f"{path}: permission denied")
        return  # the daemon as root can read it, but the user who runs the check cannot
    except OSError as error:
        words = (error.strerror or "unreadable").lower()
        hint = "the unit's LoadCredential= does not name it" if is_credential(path) else ""
        missing = need or (use == "here" and not is_credential(path))
        report.add("error" if missing else "warning", spot, f"{path}: {words} on this host", hint)
        return
    if not stat.S_ISREG(info.st_mode):
        report.error(spot, f"{path} is not a file")
        return
    if why := distrust(path, running=need):
        report.error(spot, str(why), why.hint)
    if secret and info.st_mode & stat.S_IROTH:
        report.warn(spot, f"{path} contains a secret and everybody can read it", f"chmod o-r {path}")
    if kind is not None and (need or os.access(located(path), os.R_OK)):
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


def check_user(name: str, spot: Spot, report: Report) -> None:
    """Report a user whom root's children cannot become; another user's daemon stays that user."""
    if os.geteuid() != 0:
        return
    found = _ids(name)
    if found is None:
        report.error(spot, f'this host has no user "{name}"')
    elif found[0] == 0:
        report.error(spot, f"workers must not run as {name}: it is the superuser")


def check_group(name: str, spot: Spot, report: Report) -> None:
    """Report a group that this host does not know."""
    try:
        grp.getgrnam(name)
    except ValueError:
        pass  # a NUL character, which is an error of its own
    except KeyError:
        report.error(spot, f'this host has no group "{name}"')


def check_script(path: str, spot: Spot, report: Report, *, use: Use, user: str) -> None:
    """Report a script probe's program that the daemon would not run; a root process runs it as `user`."""
    ids = _ids(user) if os.geteuid() == 0 else None
    why = _not_run(path, *(ids or (os.geteuid(), os.getegid())), need=use == "now")
    if why is not None:
        report.warn(spot, f"the daemon will not run this probe: {why}", why.hint)


def check_command(path: str, spot: Spot, report: Report, *, use: Use) -> None:
    """Report a program that the daemon itself would not run, because it is missing or others could change it (S4)."""
    why = _not_run(path, os.geteuid(), os.getegid(), need=use == "now")
    if why is not None:
        report.warn(spot, f"the daemon will not run it: {why}", why.hint, of_host=True)


def _not_run(path: str, uid: int, gid: int, *, need: bool) -> Unsafe | None:
    try:
        runnable(trusted(path, uid), uid, gid)
    except Unsafe as why:
        # A process that is neither root nor about to run the program can only see whether it exists.
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
