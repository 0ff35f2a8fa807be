"""Durations, addresses and strict numbers."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from health.units import (
    FROM_FILE,
    AbsolutePath,
    Address,
    Duration,
    format_duration,
    kebab,
    mistake,
    parse_address,
    parse_duration,
)

DURATION = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("100us", 1e-4),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("never", math.inf),
    ],
)
def test_durations_are_read(text, seconds):
    """A duration with units is that many seconds, "never" is infinite."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 s", "-1s", "1s2", "1x", "1h 30m", "1..5s", "Never", "٣s", "99999999d"])
def test_what_is_no_duration_is_refused(text):
    """A text that is no duration raises ValueError in words."""
    with pytest.raises(ValueError, match=r"duration|ten years"):
        parse_duration(text)


def test_a_bare_number_asks_for_a_unit():
    """A number without a unit is an error that shows the two likely readings."""
    with pytest.raises(ValueError, match='needs a unit: "5s" or "5ms"'):
        parse_duration("5")
    with pytest.raises(ValidationError, match='needs a unit: "5s" or "5ms"'):
        DURATION.validate_python(5, context=FROM_FILE)


@pytest.mark.parametrize("value", [True, [], {}, -1.0, math.nan])
def test_other_values_are_no_durations(value):
    """Neither booleans, containers, negative numbers nor NaN are durations, from code either."""
    with pytest.raises(ValidationError):
        DURATION.validate_python(value)


@given(st.one_of(st.floats(0, 1e8, allow_nan=False), st.just(math.inf)))
def test_seconds_come_back_from_json(seconds):
    """A duration survives JSON, infinity as the word "never"."""
    text = json.dumps(DURATION.dump_python(seconds, mode="json"), allow_nan=False)
    assert DURATION.validate_python(json.loads(text)) == seconds


@given(st.one_of(st.integers(0, 10**12).map(lambda count: count / 1000), st.just(math.inf)))
def test_formatted_durations_are_read_back(seconds):
    """What `format_duration` writes, `parse_duration` reads as the same seconds, up to ten years."""
    if seconds <= 10 * 365 * 86400 or math.isinf(seconds):
        assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (2.0, "2s"), (5400.0, "90m"), (86400.0, "1d"), (0.0, "0s"), (1.5, "1500ms")]
)
def test_durations_are_written_short(seconds, text):
    """The text of a duration has the largest unit that fits."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.999", "not an IPv4 address"),
        ("2001:db8::g", "not an IP address"),
        ("2001:db8:::1", "not an IPv6 address"),
        ("dns1.example.net", "is a name"),
        ("[2001:db8::1]", "brackets"),
        ("10.0.0.1/24", "not an IP address"),
        ("", "not an IP address"),
    ],
)
def test_what_is_no_address_is_told_from_what_is_a_name(text, words):
    """An error about an address says whether a name, a mistyped address or something else was written."""
    with pytest.raises(ValueError, match=words):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.0.0.0", "is the address of no host"),
        ("::", "is the address of no host"),
        ("0.0.0.9", "is the address of no host"),
        ("224.0.0.1", "is a multicast address"),
        ("ff02::1", "is a multicast address"),
        ("255.255.255.255", "is the broadcast address"),
        ("::ffff:224.0.0.1", "is a multicast address"),
        ("2001:db8::1%eth0", "is not link-local: write it without the interface"),
        ("fe80::1%a-name-too-long!", "is not the name of a network interface"),
        ("fe80::1", 'is link-local, so it needs its interface: write "fe80::1%eth0"'),
    ],
)
def test_an_address_is_one_that_a_host_can_have(text, words):
    """A server, a source, or what a probe asks is one host: the addresses of everybody and nobody are refused."""
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Address).validate_python(text)


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "127.0.0.1", "::1", "2001:db8::1", "fe80::1%eth0", "169.254.0.1", "240.0.0.1"]
)
def test_addresses_of_hosts(text):
    """Every unicast address is accepted, those of this host and those of one link included."""
    assert TypeAdapter(Address).validate_python(text) == text


def test_addresses_become_canonical():
    """An address has one form, however it was written: IPv6 with all its zeros, IPv4 as IPv6 (mapped)."""
    assert TypeAdapter(Address).validate_python("2001:DB8:0:0::1") == "2001:db8::1"
    for mapped in ("::ffff:10.0.0.1", "::FFFF:a00:1", "0:0:0:0:0:ffff:0a00:0001"):
        assert TypeAdapter(Address).validate_python(mapped) == "10.0.0.1"


@pytest.mark.parametrize("path", ["etc/x", "./x", "~/x", "/a\0b", "/" + "a" * 256, "/a" * 2048, "/" + "é" * 128])
def test_paths_are_absolute(path):
    """A relative path, one with a NUL, and one that is too long for the kernel, is refused."""
    with pytest.raises(ValidationError, match=r"relative path|NUL|too long"):
        TypeAdapter(AbsolutePath).validate_python(path)


def test_a_mistake_shows_braces_as_they_are():
    """The text of a mistake may hold braces, which pydantic would take for its own."""
    assert mistake('write { type = "tcp" }').message() == 'write { type = "tcp" }'


def test_keys_are_kebab_case():
    """A field's key in the file has hyphens."""
    assert kebab("fast_interval") == "fast-interval"
