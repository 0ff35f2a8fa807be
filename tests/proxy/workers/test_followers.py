"""proxy.workers.followers: who follows what begins and ends in the workers."""

from proxy.processes.messages import worker as messages
from proxy.workers.followers import Followers


def test_each_follower_gets_its_own():
    """A report reaches the follower that it names, with the worker's index, and no other."""
    told, heard = [], []
    followers = Followers(told.append)
    for number in (1, 2):
        followers.add(
            messages.Follow(number, "web", "", "", "on"), lambda *what, number=number: heard.append((number, *what))
        )
    assert [one.follower for one in told] == [one.follower for one in followers.wishes] == [1, 2]
    followers.happened(3, messages.Happened(2, [{"event": "opened"}], 4))
    assert heard == [(2, 3, [{"event": "opened"}], 4)]


def test_one_that_has_left_gets_nothing():
    """After its end the workers are told once, later workers are not told of it, and late reports are dropped."""
    told, heard = [], []
    followers = Followers(told.append)
    followers.add(messages.Follow(1, "", "", "", "on"), lambda *what: heard.append(what))
    followers.remove(1)
    followers.remove(1)
    followers.happened(0, messages.Happened(1, [], 0))
    assert [one.act for one in told] == ["on", "off"]
    assert followers.wishes == heard == []
