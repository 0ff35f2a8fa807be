"""What the hosts ask each other: files, within bounds, without secrets."""

import asyncio
import base64

import pytest

from proxy import peer_questions
from proxy.peer import messages
from proxy.peer_questions import NoAnswerError, Questions, masked, read
from tests.proxy.two_hosts import Two


@pytest.fixture
async def two(tmp_path, monkeypatch):
    """Return two linked hosts, each with its questions as `asks`."""
    monkeypatch.setattr(peer_questions, "PATIENCE", 0.5)
    both = Two(tmp_path)
    for host in (both.a, both.b):
        host.asks = Questions(host.partner, host.bed.running)
    both.connect()
    await both.beat()
    return both


async def test_the_files_of_both(two):
    """Each host gets the other's files, with paths, digests and texts, also such as fill many messages."""
    path = two.b.bed.directory / "f.toml"
    path.write_text("# " + "x" * 100_000)
    ours, theirs = await two.during(two.a.asks.files())
    assert (ours["node"], theirs["node"]) == ("a", "b")
    assert theirs["files"][0]["path"] == str(path)
    assert theirs["files"][0]["text"] == path.read_text()
    assert ours["files"][0]["sha256"] != theirs["files"][0]["sha256"]


async def test_no_answer(two):
    """A peer that is away, does not answer, or answers nonsense is an error in words, within the bound."""
    with pytest.raises(NoAnswerError, match="b has not answered within"):
        await two.a.asks.files()
    two.a.sent.clear()
    two.a.asks._numbers = iter([7, 8, 9])

    async def answered(*replies):
        task = asyncio.ensure_future(two.a.asks.files())
        await asyncio.sleep(0)
        for reply in replies:
            two.a.take(reply)
        return await task

    with pytest.raises(NoAnswerError, match="cannot be read"):
        await answered(messages.Reply(number=7, text="!"))
    with pytest.raises(NoAnswerError, match="not whole"):
        await answered(messages.Reply(number=8, part=1, text="e30="))
    two.cut()
    with pytest.raises(NoAnswerError, match="b is away: cut for a test"):
        await two.a.asks.files()


async def test_an_unknown_question(two):
    """A question of a later version is answered with an error."""
    two.a.take(messages.Ask(number=3, what="later"))
    await two.carry()
    assert any(b"does not know this question" in base64.b64decode(one) for _, one in two.delivered)


def test_what_is_read(tmp_path):
    """A missing file is told, and a large one is compared by its digest alone."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_text("a = 1\npassword = 'geheim'\n")
    large.write_bytes(b"x" * (peer_questions.TEXT_MAX + 1))
    rows = read([str(small), str(large), str(tmp_path / "none")])
    assert rows[0]["text"] == "a = 1\npassword = ***\n"
    assert (rows[1]["text"], len(rows[1]["sha256"])) == (None, 64)
    assert (rows[2]["sha256"], rows[2]["error"]) == (None, "No such file or directory")


def test_secrets_are_masked():
    """P3: what looks like a secret is masked; the names of files that have secrets are shown."""
    assert masked('bind-password = "x"\n  api_token="y"') == "bind-password = ***\n  api_token=***"
    line = 'password-file = "/etc/steelyard/mysql.pw"'
    assert masked(line) == line
