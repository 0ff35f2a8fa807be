"""proxy.records.log: one line a transition, never two, never blocking."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.records import log
from proxy.records.disk_thread import QUEUE

HOSTILE = "banner \x1b[2J\r\n2026-01-01 info forged\x00\x9b\u2028\u202e\x7f end"


@pytest.fixture
def pipe():
    """Make a pipe, and put the root logger back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)
    os.close(reading)
    os.close(writing)


def read(fd):
    """Return all lines that wait in the pipe."""
    data = b""
    try:
        while chunk := os.read(fd, 65536):
            data += chunk
    except BlockingIOError:
        pass
    assert not data or data.endswith(b"\n")
    return data.decode().splitlines()


def test_a_text_line_has_time_level_and_words(pipe):
    """A text line says when, how grave and what, in local time."""
    log.setup("info", "text", pipe[1])
    logging.getLogger("steelyard").warning("verdict %s: %s", "dns/10.0.0.11", "down: refused")
    logging.getLogger("steelyard").debug("too fine")
    (line,) = read(pipe[0])
    when, level, words = line.split(" ", 2)
    assert (level, words) == ("warning", "verdict dns/10.0.0.11: down: refused")
    assert when[10] == "T"
    assert when[-6] in "+-"


def test_a_json_line_has_the_same_and_its_fields(pipe):
    """A JSON line is one object with the words and what the event said for machines."""
    log.setup("info", "json", pipe[1])
    logging.getLogger("steelyard").info("down: %s", "refused", extra={"kind": "verdict", "fields": {"previous": "up"}})
    (line,) = read(pipe[0])
    entry = json.loads(line)
    assert entry.pop("at").endswith("Z")
    assert entry == {"level": "info", "message": "down: refused", "kind": "verdict", "fields": {"previous": "up"}}


@pytest.mark.parametrize("style", ["text", "json"])
def test_control_characters_are_escaped(pipe, style):
    """What a hostile server wrote can neither forge a line nor reach the terminal."""
    log.setup("info", style, pipe[1])
    logging.getLogger("steelyard").info(HOSTILE)
    (line,) = read(pipe[0])
    assert line.isprintable()
    assert "banner " in line
    assert "\\x1b[2J" in line or "\\u001b[2J" in line


@given(st.text())
def test_printable_text_is_printable_and_one_line(text):
    """Whatever the text, the result has no control character and no line break, and ordinary words are left alone."""
    shown = log.printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 or 0xD800 <= ord(char) < 0xE000 for char in shown)
    assert log.printable("déjà vu 10.0.0.1") == "déjà vu 10.0.0.1"


def test_an_exception_is_one_line(pipe):
    """A traceback does not break the rule of one line."""
    log.setup("info", "text", pipe[1])
    try:
        raise ValueError("bang")  # noqa: TRY301
    except ValueError:
        logging.getLogger("steelyard").exception("a bug")
    (line,) = read(pipe[0])
    assert "a bug" in line
    assert "ValueError: bang" in line


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_long_line_is_cut(pipe, style):
    """No line passes what a pipe takes in one piece, and a JSON line that is cut is still JSON."""
    log.setup("info", style, pipe[1])
    logging.getLogger("steelyard").info("begin %s", "\x00ä" * 50_000, extra={"fields": {"x": "y" * 50_000}})
    (line,) = read(pipe[0])
    assert len(line.encode()) < log.LINE_MAX
    assert "begin" in line
    if style == "json":
        assert json.loads(line)["shortened"] is True


def test_a_reader_that_stalls_holds_nobody_up(pipe):
    """With the pipe full lines are dropped, counted, and the loss is told as soon as there is room."""
    log.setup("info", "text", pipe[1])
    logger = logging.getLogger("steelyard")
    for number in range(1000):
        logger.info("line %d %s", number, "x" * 100)
    before = read(pipe[0])
    assert 100 < len(before) < 1000
    logger.info("after")
    lost, after = read(pipe[0])
    assert f"{1000 - len(before)} log lines lost" in lost
    assert after.endswith("after")


def test_a_closed_stderr_is_survived(pipe):
    """Nobody reading at all is no reason to fail."""
    reading, writing = os.pipe()
    log.setup("info", "text", writing)
    os.close(reading)
    logging.getLogger("steelyard").info("into the void")
    os.close(writing)


def test_setting_up_again_replaces(pipe):
    """A second set-up changes style and level instead of doubling the lines."""
    log.setup("info", "text", pipe[1])
    log.setup("error", "json", pipe[1])
    logging.getLogger("steelyard").warning("below")
    logging.getLogger("steelyard").error("above")
    (line,) = read(pipe[0])
    assert json.loads(line)["message"] == "above"


def test_a_file_that_does_not_answer(tmp_path, monkeypatch):
    """R15: a log file whose disk hangs holds nobody up; what waits is bounded, and is written when the disk answers."""
    reading, writing = os.pipe()
    entered = threading.Event()
    real = os.write

    def stuck(fd, data):
        entered.set()
        os.read(reading, 1)
        return real(fd, data)

    with (tmp_path / "log").open("ab") as file:
        handler = log.LineHandler(file.fileno())
        monkeypatch.setattr(os, "write", stuck)
        for number in range(QUEUE + 10):
            handler.emit(logging.makeLogRecord({"msg": f"line {number}"}))
            assert number or entered.wait(10)
        assert handler.lost == 9
        os.close(writing)
        handler._disk.wait(10)
        handler.emit(logging.makeLogRecord({"msg": "after"}))
        handler._disk.wait(10)
    os.close(reading)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[: QUEUE + 1] == [f"line {number}" for number in range(QUEUE + 1)]
    assert lines[QUEUE + 1 :] == ["9 log lines lost: the reader was too slow", "after"]


def test_the_last_lines_of_a_file():
    """What is logged right before the end of a process is in its log file."""
    code = (
        "import logging, sys\nfrom proxy.records import log\nlog.setup()\n"
        "for number in range(100):\n    logging.warning(str(number))"
    )
    with tempfile.TemporaryFile("w+") as file:
        subprocess.run([sys.executable, "-c", code], stderr=file, check=True, timeout=60)
        file.seek(0)
        assert [line.split()[-1] for line in file] == [str(number) for number in range(100)]


def test_another_level_and_style(pipe):
    """R3: from a change on, lines have the new level and style; the handler, and what it has not written yet, stay."""
    log.setup("warning", "text", pipe[1])
    (handler,) = (one for one in logging.getLogger().handlers if isinstance(one, log.LineHandler))
    logger = logging.getLogger("steelyard")
    logger.info("one")
    log.change("info", "json")
    logger.info("two")
    log.change("error", "text")
    logger.warning("three")
    (line,) = read(pipe[0])
    assert json.loads(line)["message"] == "two"
    assert handler in logging.getLogger().handlers


def stream(fd):
    """Return what JOURNAL_STREAM says of a descriptor."""
    found = os.fstat(fd)
    return f"{found.st_dev}:{found.st_ino}"


def test_the_journal_gets_priorities_and_no_times(pipe, monkeypatch):
    """In the journal a line begins with its priority, and has neither a time nor the name of its level."""
    monkeypatch.setenv("JOURNAL_STREAM", stream(pipe[1]))
    log.setup("debug", "text", pipe[1])
    logger = logging.getLogger("steelyard")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "down: %s", "<1>\nforged")
    assert read(pipe[0]) == [f"<{priority}>down: <1>\\x0aforged" for priority in (7, 6, 4, 3, 3)]


def test_the_journal_gets_json_without_times(pipe, monkeypatch):
    """In the journal an object follows its priority, without a time, also where it had to be shortened."""
    monkeypatch.setenv("JOURNAL_STREAM", stream(pipe[1]))
    log.setup("info", "json", pipe[1])
    logging.getLogger("steelyard").warning("down")
    logging.getLogger("steelyard").error("x" * 5000)
    short, long = read(pipe[0])
    assert short == '<4>{"level": "warning", "message": "down"}'
    log.change("info", "text")
    logging.getLogger("steelyard").warning("down")
    assert read(pipe[0]) == ["<4>down"]
    assert long.startswith('<3>{"level": "error", "message": "xxx')
    assert json.loads(long[3:])["shortened"] is True


@pytest.mark.parametrize("value", ["", "1:2", "nonsense"])
def test_another_stream_is_not_the_journal(pipe, monkeypatch, value):
    """If the descriptor was redirected, so that JOURNAL_STREAM names another one, lines have their times."""
    monkeypatch.setenv("JOURNAL_STREAM", value)
    log.setup("info", "text", pipe[1])
    logging.getLogger("steelyard").info("up")
    (line,) = read(pipe[0])
    assert line.endswith(" info up")
    assert not log.is_journal(-1)
