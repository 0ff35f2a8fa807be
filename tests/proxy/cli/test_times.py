"""proxy.cli.times: times as people type and read them."""

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.times import ago, moment, parse_time, span, unix_of

# 2026-11-22 15:30:00 in Berlin, which is an hour ahead of UTC then and two in summer.
NOW = 1_795_357_800.0


@pytest.fixture(autouse=True)
def _berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2026-11-22T15:30:00+01:00"),
        ("10m", "2026-11-22T15:20:00+01:00"),
        ("1h30m", "2026-11-22T14:00:00+01:00"),
        ("2d", "2026-11-20T15:30:00+01:00"),
        ("today", "2026-11-22T00:00:00+01:00"),
        ("yesterday", "2026-11-21T00:00:00+01:00"),
        ("14:05", "2026-11-22T14:05:00+01:00"),
        ("9:05", "2026-11-22T09:05:00+01:00"),
        ("14:05:06", "2026-11-22T14:05:06+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("2026-07-01T12:00", "2026-07-01T12:00:00+02:00"),
        ("2026-07-01 12:00:01", "2026-07-01T12:00:01+02:00"),
        ("2026-07-01T12:00Z", "2026-07-01T14:00:00+02:00"),
        ("@1795357800", "2026-11-22T15:30:00+01:00"),
    ],
)
def test_what_people_write(text, meant):
    """Ages, days, clock times and ISO times mean what a person at this host means by them."""
    assert parse_time(text, NOW) == datetime.fromisoformat(meant).timestamp()


def test_a_day_that_the_clocks_change():
    """Midnight is the midnight of that day, not an hour beside it, when the clocks changed since."""
    noon = datetime.fromisoformat("2026-10-25T12:00:00+01:00").timestamp()
    assert parse_time("today", noon) == datetime.fromisoformat("2026-10-25T00:00:00+02:00").timestamp()


@pytest.mark.parametrize(
    "text", ["", "10", "ten minutes", "25:00", "2026-13-01", "@", "@nan", "@1e99", "-5m", "m", "5 m"]
)
def test_what_means_no_time(text):
    """Everything else is an error that shows how it is done."""
    with pytest.raises(ValueError, match="is no time: write 10m"):
        parse_time(text, NOW)


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_an_error_in_words(text):
    """No text makes anything but a number or a ValueError."""
    try:
        meant = parse_time(text, NOW)
    except ValueError as error:
        meant = str(error)
    assert isinstance(meant, float) or "is no time" in meant


def test_times_are_shown_in_local_time():
    """A moment is shown as this host's clock had it, with its zone, and read again; one that no calendar has does not fail."""
    assert moment(NOW) == moment("2026-11-22T14:30:00.250Z") == "2026-11-22 15:30:00+01:00"
    assert parse_time(moment(NOW), 0.0) == NOW
    assert [moment(each) for each in (1e20, None, "noon", [])] == ["?"] * 4
    assert (ago("2026-11-22T14:30:00.000Z", NOW + 61), ago(None, NOW)) == ("1m 1s", "-")
    assert unix_of("2026-11-22T14:30:00.250Z") == NOW + 0.25


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (61, "1m 1s"),
        (3600, "1h"),
        (3700, "1h 1m"),
        (90_000, "1d 1h"),
        (1e9, "11574d 1h"),
    ],
)
def test_spans(seconds, shown):
    """A length of time is shown in its two largest units."""
    assert span(seconds) == shown
