"""What `steelyard probe` and `check --live` make of single runs."""

from typing import Any

from proxy.cli.probe import failed, transcript


def run(service: str, *, ok: bool, kind: str = "mysql", **more: Any) -> dict[str, Any]:
    """Return a run as an answer has it."""
    row = {
        "service": service,
        "backend": "b",
        "type": kind,
        "address": "192.0.2.1",
        "port": 3306,
        "transcript": ["pass"],
    }
    return row | {"ok": ok, "standby": False, "report_only": False} | more


def test_a_standby_fails_only_where_nobody_has_the_part() -> None:
    """H8: a replica in a service for writers is no failure where another backend is the writer, and one where none is."""
    writer, standby = run("write", ok=True), run("write", ok=False, standby=True)
    assert failed([writer, standby]) == []
    assert failed([standby, standby]) == [standby, standby]
    assert failed([run("read", ok=True), standby]) == [standby]
    assert failed([run("write", ok=True, kind="tcp"), standby]) == [standby]
    broken = run("write", ok=False)
    assert failed([writer, standby, broken]) == [broken]


def test_what_only_reports_and_what_was_not_tried_is_no_failure() -> None:
    """H15: a probe that only reports fails nothing unless it is asked for, nor does one that could not be tried."""
    quiet = run("a", ok=False, report_only=True)
    assert failed([quiet]) == []
    assert failed([quiet], report_only=True) == [quiet]
    assert failed([run("a", ok=False) | {"ok": None}]) == []


def test_transcript() -> None:
    """A run is told with whose it was, and a server's words harm no terminal."""
    row = run("mail", ok=False, kind="smtp", transcript=["<- \x1b[2J", "FAIL: no"])
    assert transcript(row) == ["mail/b: smtp 192.0.2.1 port 3306", "  <- \\x1b[2J", "  FAIL: no"]
