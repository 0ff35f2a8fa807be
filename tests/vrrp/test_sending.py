"""When failing adverts cost a router its addresses."""

import errno

import pytest

from vrrp.sending import FIRST_PAUSE, LAST_PAUSE, PATIENCE, Sending


def test_three_failures_in_a_row_are_the_end():
    """A router gives up when so many adverts in a row have failed that the others count it as down, and says why."""
    sending = Sending()
    assert [sending.failed(errno.EPERM) for _ in range(PATIENCE - 1)] == [""] * (PATIENCE - 1)
    assert sending.failed(errno.EPERM) == (
        "adverts cannot be sent: Operation not permitted (a firewall of this host drops them)"
    )


def test_one_that_leaves_begins_the_count_anew():
    """An advert that leaves forgives those before it."""
    sending = Sending()
    for _ in range(10):
        assert not sending.failed(errno.EPERM)
        assert not sending.failed(errno.EMSGSIZE)
        sending.left()


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM, errno.ENETDOWN, errno.ENODEV])
def test_what_passes_is_no_reason(code):
    """A full queue, and a link that is down, which is a fault of its own, never make a router give up."""
    sending = Sending()
    assert not any(sending.failed(code) for _ in range(100))
    assert not sending.failed(errno.EPERM)


def test_a_trial_ends_at_the_first_failure():
    """A router that gave up tries again after a pause, which doubles, and then gives up at once; success forgets that."""
    sending = Sending()
    for _ in range(PATIENCE):
        sending.failed(errno.EMSGSIZE)
    pauses = [sending.next_pause()]
    while pauses[-1] < LAST_PAUSE:
        assert sending.failed(errno.EMSGSIZE) == "adverts cannot be sent: Message too long"
        pauses.append(sending.next_pause())
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert sending.next_pause() == LAST_PAUSE
    sending.left()
    assert not sending.failed(errno.EMSGSIZE)
    assert sending.next_pause() == FIRST_PAUSE
