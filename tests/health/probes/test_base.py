"""What all probes share."""

import pytest

from health.probes.base import OurFault
from health.probes.none import NoneCheck
from health.probes.pop3 import Pop3Check
from health.secrets import PASSWORD
from health.spec import NoneProbe, Pop3Probe


def test_a_probe_without_files_reads_none() -> None:
    """A probe that names no password file has an empty password, and one that names no file has no contents."""
    probe = NoneCheck(NoneProbe())
    assert probe.secret() == ""
    assert probe.file(PASSWORD, None) == b""


def test_a_missing_file_is_our_fault(tmp_path) -> None:
    """A password file that is missing says nothing about the backend."""
    probe = Pop3Check(Pop3Probe(port=110, user="probe", password_file=str(tmp_path / "none")))
    with pytest.raises(OurFault, match="none is missing"):
        probe.secret()
