"""What a daemon does with its state directory: one owner, a disk that is full, a file system that does not answer."""

import os
import signal
import subprocess
import time

import pytest

from tests.e2e.loopback import Backend, Node, dns_service, free_port, lift_loopback, living
from tests.e2e.process import program, until

B0 = ("dns", "b0")


@pytest.fixture(autouse=True, scope="module")
def _loopback():
    lift_loopback()


@pytest.fixture
def backends():
    two = [Backend(), Backend()]
    yield two
    for one in two:
        one.close()


@pytest.fixture
def make(tmp_path, backends):
    """Make nodes with a DNS service, each in a directory of its own, that are gone afterwards."""
    nodes = []

    def node(**kwargs):
        directory = tmp_path / f"node{len(nodes)}"
        directory.mkdir()
        nodes.append(Node(directory, dns_service(free_port(), backends), **{"workers": 1, **kwargs}))
        return nodes[-1]

    yield node
    for one in nodes:
        one.end()


def mounted(*command):
    """Run mount(8) or a related command; skip the test if the kernel forbids it."""
    done = subprocess.run([program(command[0]), *map(str, command[1:])], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


@pytest.fixture
def small(tmp_path):
    """Mount file systems of 128 KiB that are unmounted afterwards."""
    places = []

    def mount(place):
        place.mkdir(mode=0o750)
        mounted("mount", "-t", "tmpfs", "-o", "size=128k,mode=750", "tmpfs", place)
        places.append(place)

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


class Disk:
    """An ext4 file system that can be frozen: a write then waits, uninterruptibly, until it is thawed."""

    def __init__(self, place, image):
        self.place = place
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(8 << 20)
        mounted("mkfs.ext4", "-q", image)
        mounted("mount", "-o", "loop", image, place)
        place.chmod(0o750)
        self._frozen = False

    def freeze(self):
        """Freeze it: every write waits."""
        subprocess.run([program("fsfreeze"), "-f", self.place], check=True)
        self._frozen = True

    def thaw(self):
        """Thaw it."""
        if self._frozen:
            self._frozen = False
            subprocess.run([program("fsfreeze"), "-u", self.place], check=True)

    def close(self):
        """Unmount it."""
        self.thaw()
        until(lambda: not subprocess.run(["umount", self.place], check=False, capture_output=True).returncode, 10, "it")


@pytest.fixture
def disk(tmp_path):
    """Make a disk for a node; the test ends the node before it is unmounted."""
    disks = []

    def mount(place):
        disks.append(Disk(place, tmp_path / "image"))
        return disks[-1]

    yield mount
    for one in disks:
        one.close()


def fill(place):
    """Fill the file system to the last octet."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def admin(node, backend="b0"):
    """Return the admin state of a backend."""
    return next(b["admin"] for s in node.status()["services"] for b in s["backends"] if b["name"] == backend)


def test_one_owner(make):
    """R11: a second daemon with the same state directory does not start, binds nothing, and names the owner."""
    first = make().start()
    other = make()
    other.text = other.text.replace(f"{other.dir}/state", f"{first.dir}/state")
    code, lines = other.failed()
    assert code == 1
    owner = f"another daemon, pid {first.pid} of node n: give each daemon its own directory"
    assert lines == [f"steelyard: node.state-dir: {first.dir}/state belongs to {owner}"]
    assert not other.socket.exists()
    assert first.proc.alive
    os.kill(first.pid, signal.SIGKILL)
    first.proc.wait(5)
    other.start()


def test_a_full_disk(make, small, backends):
    """R15: on a full disk a command that must be saved is refused and not done, all else continues, and clearing works."""
    node = make()
    small(node.dir / "state")
    node.start()
    assert node.steelyard("drain", "dns", "b0", "--save")[0] == 0
    fill(node.dir / "state")
    code, said = node.steelyard("drain", "dns", "b1", "--force", "--save")
    assert (code, admin(node, "b1")) == (1, "ready")
    assert "No space left on device" in said
    assert "nothing is changed" in said
    for act in (("add", "dns", "127.0.0.9"), ("weight", "dns", "b1", "7"), ("remove", "dns", "b1", "--force")):
        code, said = node.steelyard(*act, "--save")
        assert (code, "nothing is changed" in said) == (1, True), act
    rows = node.status()["services"][0]["backends"]
    assert [(row["name"], row["weight"], row["admin"]) for row in rows] == [("b0", 1, "drain"), ("b1", 1, "ready")]
    probes = backends[0].probes
    code, said = node.steelyard("overrides", "clear")
    assert (code, admin(node)) == (0, "ready"), said
    assert not (node.dir / "state" / "overrides.json").exists()
    until(lambda: backends[0].probes > probes + 2, 10, "probes to go on")
    (node.dir / "state" / "filler").unlink()
    assert node.steelyard("drain", "dns", "b1", "--save")[0] == 0
    os.kill(node.pid, signal.SIGINT)
    assert node.proc.wait(10) == 0
    node.start()
    assert (admin(node), admin(node, "b1")) == ("ready", "drain")


def test_saved_acts_of_another_version(make):
    """R9: saved acts that are not understood keep the daemon from starting, with the reason, and are not overwritten."""
    node = make()
    saved = node.dir / "state" / "overrides.json"
    saved.parent.mkdir(mode=0o750)
    row = '{"service": "dns", "backend": "b0", "admin": "drain", "by": "uid 0", "reason": null, "at": 1.0}'
    for text, words in (
        ('{"version": 99, "acts": []}', "it has version 99 and this steelyard reads version 1"),
        ('{"version": 1, "acts": [{"act": "fly"}]}', "invalid override"),
        ("nonsense", "overrides.json: Expecting value"),
    ):
        saved.write_text(text)
        code, lines = node.failed()
        assert (code, words in lines[-1]) == (1, True), lines
        assert saved.read_text() == text
    saved.write_text(f"[{row}]")  # as a version without `add --save` wrote it
    node.start()
    assert admin(node) == "drain"


def test_a_clear_that_cannot_be_saved(make, small):
    """R15: if a saved state cannot be removed, `overrides clear` says so and leaves every backend unchanged."""
    node = make()
    small(node.dir / "state")
    node.start()
    for name in ("b0", "b1"):
        assert node.steelyard("drain", "dns", name, "--save", "--force")[0] == 0
    (node.dir / "state" / "overrides.json").unlink()
    (node.dir / "state" / "overrides.json").mkdir()  # which unlink does not remove
    code, said = node.steelyard("overrides", "clear")
    assert (code, admin(node), admin(node, "b1")) == (1, "drain", "drain")
    assert "nothing is changed" in said


def test_a_file_system_that_does_not_answer(make, disk, backends):
    """R15: while the state directory's disk hangs, the daemon answers, probes and acts; a refused change is not saved later."""
    node = make()
    stuck = disk(node.dir / "state")
    try:
        node.start()
        stuck.freeze()
        before = backends[0].probes
        code, said = node.steelyard("drain", "dns", "b0", "--save")
        assert (code, admin(node)) == (1, "ready")
        assert "has not answered for" in said
        began = time.monotonic()
        assert node.steelyard("drain", "dns", "b0", "--save")[0] == 1
        assert node.steelyard("drain", "dns", "b0")[0] == 0
        assert node.steelyard("status")[0] in (0, 1)
        assert time.monotonic() - began < 2.5
        assert admin(node) == "drain"
        until(lambda: backends[0].probes > before + 5, 10, "probes to go on")
        until(lambda: node.told("the file system does not answer"), 5, "it to be told")
        stuck.thaw()
        until(lambda: node.told("the file system answers again"), 5, "it to be told")
        until(lambda: "drain, by uid" in (node.dir / "state" / "events.jsonl").read_text(), 5, "the events")
        assert not (node.dir / "state" / "overrides.json").exists()
        assert node.steelyard("drain", "dns", "b0", "--save")[0] == 0
        assert (node.dir / "state" / "overrides.json").exists()
        family = node.family()
        os.kill(node.pid, signal.SIGINT)
        assert node.proc.wait(10) == 0
        assert not living(family)
    finally:
        stuck.thaw()
        node.end()


def test_a_connection_log_that_does_not_answer(make, disk, tmp_path):
    """R15: if the connection log's file system hangs, neither the start nor the supervision stops."""
    node = make()
    stuck = disk(tmp_path / "log")
    node.text += f'\n[log]\nconnections = "all"\nconnections-to = "{tmp_path}/log/connections"\n'
    try:
        stuck.freeze()
        node.start()
        os.kill(node.workers()[0], signal.SIGKILL)
        until(lambda: node.told("restarted as pid"), 10, "the worker to be replaced")
        until(lambda: node.told("the connection log cannot be written", "does not answer"), 10, "it to be told")
        stuck.thaw()
        until(lambda: node.told("the connection log is written again"), 10, "it to be told")
        os.kill(node.pid, signal.SIGINT)
        assert node.proc.wait(10) == 0
    finally:
        stuck.thaw()
        node.end()


def test_a_log_that_does_not_answer(make, disk, tmp_path, backends):
    """R15: if the file system of standard error hangs, neither master nor children stop."""
    node = make()
    stuck = disk(tmp_path / "log")
    node.log = tmp_path / "log" / "steelyard.log"
    try:
        node.start()
        stuck.freeze()
        probes, first = backends[1].probes, node.workers()[0]
        backends[0].silent = True
        os.kill(first, signal.SIGKILL)
        node.until(lambda s: s["services"][0]["backends"][0]["state"] == "down", "the verdict")
        node.until(lambda s: s["workers"][0]["alive"] and s["workers"][0]["pid"] != first, "another worker")
        until(lambda: backends[1].probes > probes + 5, 10, "probes to go on")
        stuck.thaw()
        until(lambda: node.told("verdict dns/b0", "down"), 5, "the lines that waited")
    finally:
        stuck.thaw()
        node.end()


def test_a_start_on_a_stuck_disk(make, disk):
    """R15: a daemon whose state directory does not answer says so within seconds, and binds nothing."""
    node = make()
    stuck = disk(node.dir / "state")
    try:
        stuck.freeze()
        node.start(ready=False)
        until(lambda: node.told("node.state-dir", "has not answered"), 15, "it to be told")
        assert not node.socket.exists()
        stuck.thaw()
        assert node.proc.wait(10) == 1
    finally:
        stuck.thaw()
        node.end()


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.4])
def test_stopped_while_it_starts(make, delay):
    """SIGTERM ends a daemon at any moment of its start, and leaves nothing behind."""
    node = make(node='stop-timeout = "1s"').start(ready=False)
    time.sleep(delay)
    family = node.family()
    os.kill(node.pid, signal.SIGTERM)
    assert node.proc.wait(10) in (0, -signal.SIGTERM)
    until(lambda: not living(family), 5, "the children to be gone")
    assert not node.socket.exists()
    assert "Traceback" not in node.output()
    node.start()


def test_a_locked_directory_of_the_control_socket(make):
    """S5: a local user who locks the control socket's directory does not prevent a daemon's start."""
    node = make()
    with subprocess.Popen(["flock", str(node.dir), "sleep", "30"]) as holder:
        until(lambda: subprocess.run(["flock", "-n", node.dir, "true"], check=False).returncode, 5, "the lock")
        node.start()
        holder.kill()
