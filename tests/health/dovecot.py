"""What a Dovecot of the tests is told, in the language of its version: 2.3 in Debian 12, 2.4 in Debian 13.

Source of the second: "Upgrading Dovecot CE from 2.3 to 2.4" (doc.dovecot.org/2.4.0/installation/upgrade/2.3-to-2.4.html).
"""

import functools
import subprocess
from pathlib import Path

from tests.health.launch import needed
from tests.health.pki import Issued


@functools.cache
def version() -> tuple[int, int]:
    """Return the installed one: (2, 3)."""
    said = subprocess.run([needed("dovecot"), "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = said.split()[0].split(".")[:2]
    return int(major), int(minor)


def configuration(
    base: Path,
    services: str,
    *,
    protocols: str = "imap pop3",
    listen: str = "127.0.0.1",
    trusted: str = "127.0.0.0/8",
    password: str,
    certificate: Issued | None = None,
    more: str = "",
) -> str:
    """Return a dovecot.conf below `base`: every user has `password` and mail in `base`/mail; `services` as both know them.

    Without a `certificate` it has no TLS; PROXY headers may come from `trusted`; `more` is what both know.
    """
    common = f"""base_dir = {base}/run
state_dir = {base}/run
log_path = {base}/maillog
protocols = {protocols}
listen = {listen}
ssl = {"yes" if certificate else "no"}
auth_failure_delay = 0
haproxy_trusted_networks = {trusted}
first_valid_uid = 1
{more}
"""
    if version() < (2, 4):
        tls = f"ssl_cert = <{certificate.certificate}\nssl_key = <{certificate.key}\n" if certificate else ""
        return f"""{common}{tls}disable_plaintext_auth = no
mail_location = maildir:{base}/mail/%u
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={base}/mail/%u
}}
{services}"""
    tls = (
        f"ssl_server_cert_file = {certificate.certificate}\nssl_server_key_file = {certificate.key}\n"
        if certificate
        else ""
    )
    return f"""dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
{common}{tls}auth_allow_cleartext = yes
mail_driver = maildir
mail_path = {base}/mail/%{{user}}
passdb static {{
  password = {password}
}}
userdb static {{
  fields {{
    uid = mail
    gid = mail
    home = {base}/mail/%{{user}}
  }}
}}
{services}"""


def ends() -> str:
    """Return the setting by which a login's log line has ends=CLIENT/PORT/SERVER/PORT."""
    old, new = "%r/%b/%l/%a", "%{remote_ip}/%{remote_port}/%{local_ip}/%{local_port}"
    return f"login_log_format_elements = ends={old if version() < (2, 4) else new}"
