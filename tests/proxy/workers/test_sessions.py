"""proxy.workers.sessions: which worker gets which UDP session of a predecessor."""

from proxy.workers.member_owners import Members
from proxy.workers.sessions import lots


def test_sessions_go_where_their_clients_send():
    """R12: each UDP session goes to the worker that polls the member that its client sends to; others find no worker."""
    members = Members(2)
    members.add(5, 3)
    members.settle({0, 1}, [5])
    rows = [["l", "s", "b", "192.0.2.1", port, 0.0, {"member": port % 4}] for port in range(8)]
    strange = [["x"], ["other", "s", "b", "192.0.2.1", 9, 0.0], ["l", "s", "b", "192.0.2.1", 9, 0.0]]
    found = lots(members, lambda text: 5 if text == "l" else None, [*rows, *strange], range(11))
    assert {worker: fds for worker, (_, fds) in found.items()} == {0: [0, 2, 4, 6], 1: [1, 5]}
    assert [row[4] for row in found[1][0]] == [1, 5]


def test_nobody_polls():
    """R12: while no worker polls, no session finds one."""
    members = Members(1)
    members.add(5)
    assert lots(members, lambda _: 5, [["l", "s", "b", "192.0.2.1", 1, 0.0, {"member": 0}]], [3]) == {}
