"""A conversation in lines."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.probes.base import Attempt, Failed, OurFault
from health.probes.dialogue import MOST_LINES, Dialogue, one_line


@pytest.fixture
async def attempt():
    attempt = Attempt("127.0.0.1", 9, 5.0)
    yield attempt
    attempt.close()


async def talking(attempt: Attempt, tcp_server, said: bytes, *secrets: str) -> Dialogue:
    """Return a dialogue with a server that says `said` and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    _, attempt.port = await tcp_server(talk)
    return Dialogue(attempt, await attempt.connect_tcp(), *secrets)


async def test_lines(attempt: Attempt, tcp_server) -> None:
    """Lines end with LF, with or without CR, come one by one however they were sent, and stand in the transcript."""
    talk = await talking(attempt, tcp_server, b"one\r\ntwo\n\r\nthree")
    assert [await talk.hear("x") for _ in range(3)] == [b"one", b"two", b""]
    with pytest.raises(Failed, match='closed by the server before the fourth, only "three"'):
        await talk.hear("the fourth")
    assert attempt.lines[-3:] == ['<- "one"', '<- "two"', '<- ""']


async def test_too_many_lines(attempt: Attempt, tcp_server) -> None:
    """H4: lines that are short are bounded by their number, and the transcript by less."""
    talk = await talking(attempt, tcp_server, b"\n" * (MOST_LINES + 1))
    for _ in range(MOST_LINES):
        await talk.hear("a line")
    with pytest.raises(Failed, match="sends data without end: 1000 lines read"):
        await talk.hear("a line")
    assert len(attempt.lines) < 50


async def test_secrets_are_masked(attempt: Attempt, tcp_server) -> None:
    """S6: a server that repeats the password, whole or begun, does not get it into the transcript or a reason."""
    talk = await talking(attempt, tcp_server, b"no user hunter2 with hunter2\nwrong: hunt", "hunter2")
    line = await talk.hear("the answer")
    assert talk.show(line) == '"no user **** with ****"'
    with pytest.raises(Failed) as failed:
        await talk.hear("the answer")
    assert str(failed.value).endswith('only "wrong: ****"')
    await talk.say("PASS hunter2", "PASS ****")
    assert "hunt" not in str(attempt.lines)


@given(st.binary(max_size=300), st.text(min_size=1, max_size=20), st.booleans())
def test_no_secret_is_shown(around: bytes, secret: str, partial: bool) -> None:
    """S6: an excerpt of a server's text never shows a secret, wherever the secret is in the text."""
    talk = Dialogue(None, None, secret)  # no wire is needed to show something
    plain = "".join(letter for letter in secret if letter.isascii() and letter.isalnum())
    if len(plain) > 4 and plain == secret:
        assert plain not in talk.show(around + secret.encode() + around, partial=partial)
        assert talk.show(b"> " + secret.encode()[:-1], partial=True) == '"> ****"'
    assert talk.show(around, partial=partial).isprintable()


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_one_line(text: str) -> None:
    """S9: what would break a line is refused as the configuration's fault, without being shown."""
    with pytest.raises(OurFault, match="the password holds a line break") as fault:
        one_line(text, "the password")
    assert text not in str(fault.value)
    assert one_line("a b", "x") == "a b"
