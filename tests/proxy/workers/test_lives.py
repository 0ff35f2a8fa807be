"""proxy.workers.lives: what a worker process is given, and what is left of it."""

from types import SimpleNamespace

from proxy.processes import channel
from proxy.processes.messages import worker as messages
from proxy.relay.plan import Member
from proxy.workers.lives import end_life, grant
from proxy.workers.place import Place


def test_many_members_go_in_lots():
    """As many descriptors go with a message as the channel takes, each member once, in order."""
    sent = []
    place = Place(0)
    keys = [(number, 0) for number in range(channel.DESCRIPTORS + 1)]
    grant(place, SimpleNamespace(), keys)  # nobody is there: nothing is sent
    place.child = SimpleNamespace(send=lambda message, fds: sent.append((message, fds)))
    member = lambda key: (Member(*key, 0, "tcp", "127.0.0.1", 1), key[0] + 7)  # noqa: E731 - a line is enough
    grant(place, SimpleNamespace(member=member), keys)
    assert [len(fds) for _, fds in sent] == [channel.DESCRIPTORS, 1]
    assert all(isinstance(message, messages.Listen) for message, _ in sent)
    assert [row[0] for message, _ in sent for row in message.members] == [number for number, _ in keys]
    assert [fd for _, fds in sent for fd in fds] == [number + 7 for number, _ in keys]


def test_an_end_is_counted_once():
    """The counters of a process that has ended are folded once, and its generation is released once."""
    done = []
    place = Place(0)
    place.life = 5
    provision = SimpleNamespace(columns=SimpleNamespace(fold=lambda life: done.append(("fold", life))))
    provision.release = lambda life: done.append(("release", life))
    end_life(place, provision)
    end_life(place, provision)
    assert done == [("fold", 5), ("release", 5)]
    assert place.life is None
