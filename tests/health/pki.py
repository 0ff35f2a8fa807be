"""Certificates of a certification authority of our own, made by openssl: good ones and each kind of bad one."""

import datetime as dt
import subprocess
from pathlib import Path
from typing import NamedTuple

_CONFIG = """
[ca]
default_ca = own
[own]
database = {base}/index.txt
new_certs_dir = {base}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
email_in_dn = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Issued(NamedTuple):
    """The paths of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates below `base`; `ca` is its own, to be trusted."""

    def __init__(self, base: Path, name: str = "Example Authority") -> None:
        self._base = base
        self._config = base / "openssl.cnf"
        self._config.write_text(_CONFIG.format(base=base))
        (base / "index.txt").write_text("")
        self.ca, self._key = self.self_signed(name, "-addext", "basicConstraints=critical,CA:true")

    def self_signed(self, name: str, *more: str) -> Issued:
        """Return a certificate that is signed by nobody else."""
        made = self._place(name)
        self._openssl("req", "-x509", *_KEY, "-days", "30", "-subj", f"/CN={name}", *more, *_out(made))
        return made

    def issue(self, *names: str, begin: float = -1.0, end: float = 30.0) -> Issued:
        """Return a certificate for `names` that is valid from `begin` to `end`, in days from now."""
        made = self._place(names[0])
        request = made.certificate.with_suffix(".csr")
        kinds = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names)
        subject = ("-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={kinds}")
        self._openssl("req", *_KEY, *subject, "-keyout", str(made.key), "-out", str(request))
        sign = ("ca", "-batch", "-notext", "-cert", str(self.ca), "-keyfile", str(self._key))
        dates = ("-startdate", _date(begin), "-enddate", _date(end))
        self._openssl(*sign, *dates, "-in", str(request), "-out", str(made.certificate))
        return made

    def _place(self, name: str) -> Issued:
        stem = f"{len(list(self._base.iterdir()))}-{name.replace(' ', '-').replace('*', 'any')}"
        return Issued(self._base / f"{stem}.pem", self._base / f"{stem}.key")

    def _openssl(self, command: str, *arguments: str) -> None:
        whole = ["openssl", command, "-config", str(self._config), *arguments]
        subprocess.run(whole, check=True, capture_output=True, timeout=30)


def _out(made: Issued) -> tuple[str, ...]:
    return ("-keyout", str(made.key), "-out", str(made.certificate))


def _date(days: float) -> str:
    return f"{dt.datetime.now(dt.UTC) + dt.timedelta(days=days):%Y%m%d%H%M%SZ}"
