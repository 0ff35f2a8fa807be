"""proxy.cli.events: `steelyard events`."""

import json
import signal
import time
from datetime import datetime

import pytest

from proxy.cli.events import line

EVENT = {"at": 1_000_000.0, "kind": "verdict", "subject": "dns/10.0.0.11", "text": "down: refused", "level": "warning"}
DAY = "1970-01-12"
ZONE = datetime.fromtimestamp(1_000_000.0).astimezone().isoformat(" ")[19:]


def test_a_change_is_shown_with_its_why(daemon, steelyard):
    """H13: the timeline shows when, what, whom and the reason in words, aligned, oldest first."""
    daemon.add("verdict", "dns/10.0.0.11", "down: no answer within 1 s (3 of 3 failed)", level="warning")
    daemon.clock.now += 61
    daemon.add("worker", "worker 0", "died: killed by signal 9; restarted")
    done = steelyard("events", "-s", daemon.path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{DAY} 13:46:40{ZONE}  verdict    dns/10.0.0.11             down: no answer within 1 s (3 of 3 failed)",
        f"{DAY} 13:47:41{ZONE}  worker     worker 0                  died: killed by signal 9; restarted",
    ]


def test_json_lines(daemon, steelyard):
    """With --json each line is one event with all its fields."""
    daemon.add("verdict", "dns/a", "down: refused", reason="refused", previous="up")
    (shown,) = steelyard("events", "--json", "-s", daemon.path).stdout.splitlines()
    assert json.loads(shown) == {
        "at": "1970-01-12T13:46:40.000Z", "kind": "verdict", "subject": "dns/a", "text": "down: refused", "level": "info",
        "reason": "refused", "previous": "up",
    }  # fmt: skip


def test_since_and_until(daemon, steelyard):
    """A span is cut out by times as people write them, the time zone of the host understood."""
    now = time.time()
    for ago, text in ((7200, "long ago"), (1800, "lately"), (60, "just now")):
        daemon.clock.now = now - ago
        daemon.add("k", "s", text)
    shown = steelyard("events", "--since", "1h", "--until", "10m", "-s", daemon.path).stdout
    assert "lately" in shown
    assert "ago" not in shown
    assert "just now" not in shown
    assert len(steelyard("events", "--since", f"@{now - 8000}", "-s", daemon.path).stdout.splitlines()) == 3
    assert steelyard("events", "--since", "now", "-s", daemon.path).stdout == ""


def test_hostile_text_stays_text():
    """S3: control characters in an event cannot reach the terminal."""
    shown = line({**EVENT, "text": "banner \x1b[2J\nforged", "subject": "x\ry"}, coloured=True)
    assert shown.count("\x1b") == 2
    assert "\n" not in shown
    assert "\\x1b[2J\\x0aforged" in shown


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_long_text_goes_on_below(width):
    """On a terminal no word is lost, and none stands beyond its edge."""
    text = "no answer within 1 s " * 12
    shown = line({**EVENT, "text": text}, width=width).splitlines()
    assert text.split() == " ".join(shown).split()[-len(text.split()) :]
    assert max(map(len, shown)) <= max(width, 72)
    assert line({**EVENT, "text": "short"}, width=80).count("\n") == 0


def test_colour_tells_the_grave_ones():
    """A warning is coloured where colours are wanted, a common event never."""
    assert "\x1b[33mdown: refused\x1b[0m" in line(EVENT, coloured=True)
    assert "\x1b" not in line({**EVENT, "level": "info"}, coloured=True)
    assert "\x1b" not in line(EVENT)


@pytest.mark.parametrize(
    "arguments", [("--since", "last friday"), ("--until", "25:61"), ("--follow", "--until", "now"), ("--bogus",)]
)
def test_wrong_usage(steelyard, arguments):
    """A time that is none, and a follow with an end, are wrong usage: 64, in words, without asking anybody."""
    done = steelyard("events", "-s", "/nonexistent", *arguments)
    assert done.returncode == 64
    assert "Error: " in done.stderr


def test_without_a_daemon(tmp_path, steelyard):
    """Without a daemon the exit code is 3."""
    assert steelyard("events", "-s", tmp_path / "none").returncode == 3


def test_a_service_a_kind_and_the_last_ones(daemon, steelyard):
    """--service and --kind choose events, and -n the last ones of those."""
    for number in range(3):
        daemon.add("verdict", "dns/a", f"dns {number}")
        daemon.add("verdict", "ldap/a", f"ldap {number}")
        daemon.add("drained", "a", f"drained {number}", service="dns")
    shown = steelyard("events", "--service", "dns", "-s", daemon.path).stdout
    assert [line.split("  ")[-1].strip() for line in shown.splitlines()] == [
        "dns 0", "drained 0", "dns 1", "drained 1", "dns 2", "drained 2",
    ]  # fmt: skip
    shown = steelyard("events", "--service", "dns", "--kind", "verdict", "-n", "2", "-s", daemon.path).stdout
    assert [line.split("  ")[-1].strip() for line in shown.splitlines()] == ["dns 1", "dns 2"]
    assert steelyard("events", "-n", "0", "-s", daemon.path).stdout == ""


def test_the_events_of_a_daemon_that_is_dead(tmp_path, steelyard):
    """If no daemon runs, the recorded events are shown, torn lines left out, and standard error says whence they are."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    lines = [json.dumps({**EVENT, "text": text}) for text in ("older", "newer")]
    (state / "events.jsonl.1").write_text(lines[0] + "\n")
    (state / "events.jsonl").write_text("torn\n" + lines[1] + '\n{"at"')
    done = steelyard("events", "-s", tmp_path / "none", "--state-dir", state)
    assert done.returncode == 0
    assert [line.split("  ")[-1].strip() for line in done.stdout.splitlines()] == ["older", "newer"]
    assert f"these are the events in {state}" in done.stderr
    last = steelyard("events", "-s", tmp_path / "none", "--state-dir", state, "-n", "1").stdout
    assert "newer" in last
    assert "older" not in last
    assert steelyard("events", "-s", tmp_path / "none", "--state-dir", tmp_path / "nowhere").returncode == 3


def test_following_until_interrupted(daemon, background):
    """--follow shows the past, then each event as it comes, and ends cleanly when interrupted."""
    daemon.add("k", "s", "past")
    process = background("events", "--follow", "-s", daemon.path)
    assert "past" in process.stdout.readline()
    daemon.add("k", "s", "present")
    assert "present" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_following_until_the_daemon_goes(daemon, background):
    """When the daemon stops, its followers say so and exit with 3."""
    daemon.add("k", "s", "past")
    process = background("events", "--follow", "--json", "-s", daemon.path)
    assert json.loads(process.stdout.readline())["text"] == "past"
    daemon.stop()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert errors == "steelyard: the daemon has stopped\n"


def test_a_corrupted_file_of_a_daemon_that_is_dead(tmp_path, steelyard):
    """Rubbish in the recorded events, of any length, costs those lines and no others; a file that is none is told."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    rubbish = [b"\0\xff" * 999, b"[" * 100_000, b'{"at": ' + b"9" * 6000 + b"}", b"x" * 5_000_000]
    old = json.dumps({**EVENT, "text": "a time as a number"}).encode()
    new = json.dumps({**EVENT, "at": "2026-11-22T17:22:10.123Z", "text": "a time as a text"}).encode()
    (state / "events.jsonl.1").write_bytes(b"\n".join([*rubbish, old, b""]))
    (state / "events.jsonl").write_bytes(b"\n".join([*rubbish, old, new, new[:-5]]))
    done = steelyard("events", "-s", tmp_path / "none", "--state-dir", state)
    assert [line.split("  ")[-1].strip() for line in done.stdout.splitlines()] == [
        "a time as a number", "a time as a number", "a time as a text",
    ]  # fmt: skip
    (state / "events.jsonl").unlink()
    (state / "events.jsonl").mkdir()
    done = steelyard("events", "-s", tmp_path / "none", "--state-dir", state)
    assert (done.returncode, f"{state}/events.jsonl" in done.stderr) == (3, True)
