"""proxy.control.path: where the control socket lies, and who may be there first."""

import fcntl
import grp
import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

from proxy.control.path import claim, group_id, peer_credentials, peer_groups
from proxy.control.wire import ControlError


@pytest.fixture
def path(tmp_path):
    """Return where the socket shall be, in a directory that is not there yet."""
    return tmp_path / "run" / "control.sock"


def mode(path):
    """Return the permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_private_from_its_creation(path):
    """S2: the socket has mode 0600, whatever the umask says, and the umask is put back; its directory is 0755."""
    before = os.umask(0)
    try:
        with claim(path):
            assert mode(path) == 0o600
            assert mode(path.parent) == 0o755
    finally:
        assert os.umask(before) == 0


def test_never_wider_than_0600(path, monkeypatch):
    """S2: at the very moment of the bind, before anything could correct it, the mode is 0600 already."""
    seen = []
    real = socket.socket.listen

    class Watched(socket.socket):
        def bind(self, address):
            super().bind(address)
            seen.append(mode(path))

        def listen(self, backlog):
            seen.append(mode(path))
            real(self, backlog)

    monkeypatch.setattr(socket, "socket", Watched)
    claim(path, os.getegid()).close()
    assert seen == [0o600, 0o660]


def test_a_group_may_connect(path):
    """S2: with a group the socket is 0660 and belongs to it."""
    with claim(path, os.getegid()):
        assert mode(path) == 0o660
        assert path.lstat().st_gid == os.getegid()


def test_a_stale_socket_is_replaced(path):
    """A socket that nobody answers on, left by a daemon that was killed, is no obstacle."""
    claim(path).close()
    with claim(path) as second, socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))
        second.accept()[0].close()


def test_a_living_daemon_is_not_replaced(path):
    """A second daemon is refused, told the pid of the first, and the first one still answers."""
    with claim(path) as first:
        with pytest.raises(ControlError, match=f"another daemon, pid {os.getpid()}, answers there"):
            claim(path)
        first.accept()[0].close()  # the second one's trial
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))


def test_a_stuck_daemon_is_not_replaced(path):
    """A daemon whose queue is full is alive all the same, and the trial does not hang on it."""
    clients = []
    with claim(path) as first:
        first.listen(0)
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            clients.append(client)
            try:
                client.connect(os.fspath(path))
            except BlockingIOError:
                break
        with pytest.raises(ControlError, match="too busy to answer"):
            claim(path)
    for client in clients:
        client.close()


@pytest.mark.parametrize("planted", ["file", "symlink", "directory"])
def test_what_is_no_socket_stays(path, tmp_path, planted):
    """S5: a file, a symbolic link (even to a socket) or a directory in the way is an error, and is not removed."""
    path.parent.mkdir()
    elsewhere = tmp_path / "elsewhere.sock"
    claim(elsewhere).close()
    {"file": path.touch, "symlink": lambda: path.symlink_to(elsewhere), "directory": path.mkdir}[planted]()
    with pytest.raises(ControlError, match="is not a socket is in the way"):
        claim(path)
    assert os.path.lexists(path)
    assert elsewhere.exists()


def test_a_directory_open_to_all_is_refused(path):
    """S5: where anybody could replace the socket there is none."""
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(ControlError, match="may replace files in this directory"):
        claim(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another user")
def test_another_users_directory_is_refused(path):
    """S5: whoever owns the directory could replace the socket, and then answer for the daemon."""
    path.parent.mkdir()
    try:
        os.chown(path.parent, 12345, 12345)
    except OSError:
        pytest.skip("this root has no other users")
    with pytest.raises(ControlError, match="uid 12345 may replace"):
        claim(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave a socket of another user")
def test_another_users_socket_is_not_removed(path):
    """S5: a stale socket of somebody else is an error that names the user."""
    claim(path).close()
    try:
        os.chown(path, 12345, 12345)
    except OSError:
        pytest.skip("this root has no other users")
    with pytest.raises(ControlError, match="uid 12345"):
        claim(path)
    assert path.exists()


def test_errors_are_told_in_words(tmp_path):
    """A path that is too long and a directory that cannot be made are errors of the configuration, in words."""
    with pytest.raises(ControlError, match="too long"):
        claim(tmp_path / ("x" * 120))
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match="Not a directory"):
        claim(tmp_path / "file" / "sub" / "control.sock")
    with pytest.raises(ControlError, match='no group "no-such-group"'):
        group_id("no-such-group")
    assert group_id(None) is None
    assert group_id(grp.getgrgid(os.getegid()).gr_name) == os.getegid()


def test_two_that_start_together(path):
    """Of many daemons that start at one instant on a stale socket exactly one gets the place."""
    claim(path).close()
    winners, errors, start = [], [], threading.Barrier(8)

    def contend():
        start.wait()
        try:
            winners.append(claim(path))
        except ControlError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert len(errors) == 7
    assert all("another daemon" in error for error in errors)
    winners[0].close()


def test_a_directory_that_somebody_has_locked(path):
    """S5: who locks the control socket's directory, as everybody may, keeps no daemon from its start."""
    path.parent.mkdir()
    directory = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    claim(path).close()
    os.close(directory)


def test_nobody_is_waited_for(path):
    """Where another daemon is just taking its place there, the second is refused at once, and the lock goes with the first."""
    path.parent.mkdir()
    lock = path.with_name("control.sock.lock")
    first = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(first, fcntl.LOCK_EX)
    with pytest.raises(ControlError, match="another daemon is starting there"):
        claim(path)
    os.close(first)
    claim(path).close()
    assert [one.name for one in path.parent.iterdir()] == ["control.sock"]


def test_a_planted_lock_is_refused(path, tmp_path):
    """S5: a link, or a file that others may open, in the place of the lock is an error."""
    path.parent.mkdir()
    lock = path.with_name("control.sock.lock")
    lock.symlink_to(tmp_path / "victim")
    with pytest.raises(ControlError, match=r"control\.sock\.lock"):
        claim(path)
    assert not (tmp_path / "victim").exists()
    lock.unlink()
    lock.touch(0o644)
    with pytest.raises(ControlError, match="no private file of ours"):
        claim(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have other groups")
@pytest.mark.parametrize("count", [0, 3, 256, 257, 5000])
def test_however_many_groups(path, count):
    """S2: a member of the socket's group is known by any of its groups, also beyond the 256 that Python's call can carry."""
    groups = [*range(20_000, 20_000 + count)]
    with claim(path) as listener:
        path.chmod(0o666)
        code = (
            f"import os, socket\nos.setgroups({groups!r})\ns = socket.socket(socket.AF_UNIX)\n"
            f"s.connect({os.fspath(path)!r})\nos.setgroups([])\nprint(flush=True)\ninput()"
        )
        with subprocess.Popen(
            [sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client:
            client.stdin.write(code.replace("input()", "os.read(0, 1)"))
            client.stdin.close()
            if not client.stdout.readline():
                pytest.skip("this root has no other groups")
            with listener.accept()[0] as connection:
                assert sorted(peer_groups(connection)) == groups


def test_the_kernel_says_who_connects():
    """S2: pid, uid and gid of a peer, and its further groups, come from the kernel, not from the peer."""
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_credentials(one) == (os.getpid(), os.geteuid(), os.getegid())
        assert set(peer_groups(one)) == set(os.getgroups())
