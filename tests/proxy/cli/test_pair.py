"""Tests of `steelyard pair`."""

import json
import stat
import tomllib

import pytest

from proxy.peer import tls


def test_init_makes_what_the_link_needs(steelyard, tmp_path):
    """Two hosts that have run `pair init` and have copied what it says have certificates that fit together."""
    made = []
    for node in ("lb1", "lb2"):
        done = steelyard("pair", "init", "--dir", tmp_path / node, "--node", node)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"scp {tmp_path}/{node}/pair.crt root@OTHER:{tmp_path}/{node}/peer.pem" in done.stdout
        assert done.stdout.endswith("changed\n")
        section = done.stdout[done.stdout.index("[pair]") : done.stdout.index("changed")]
        assert tomllib.loads(section)["pair"]["certificate"] == f"{tmp_path}/{node}/pair.pem"
        made.append([(tmp_path / node / name).read_bytes() for name in ("pair.pem", "pair.crt")])
    tls.check(made[0][0], made[1][1])
    tls.check(made[1][0], made[0][1])


def test_rights(steelyard, tmp_path):
    """Only its owner can read the key; the certificate is public, has no key in it, and is as long valid as it is pinned."""
    steelyard("pair", "init", "--dir", tmp_path, "--node", "lb1")
    assert stat.S_IMODE((tmp_path / "pair.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "pair.crt").stat().st_mode) == 0o644
    assert b"PRIVATE" not in (tmp_path / "pair.crt").read_bytes()


def test_nothing_is_overwritten(steelyard, tmp_path):
    """A second `init` keeps the key, says so, and makes a certificate that is missing from it."""
    first = json.loads(steelyard("pair", "init", "--dir", tmp_path, "--node", "lb1", "--json").stdout)
    before = (tmp_path / "pair.pem").read_bytes(), (tmp_path / "pair.crt").read_bytes()
    (tmp_path / "pair.crt").unlink()
    again = steelyard("pair", "init", "--dir", tmp_path, "--node", "lb9", "--json")
    told = json.loads(again.stdout)
    assert (first["changed"], told["changed"]) == (True, False)
    assert first["fingerprint"] == told["fingerprint"]
    assert ((tmp_path / "pair.pem").read_bytes(), (tmp_path / "pair.crt").read_bytes()) == before
    assert "nothing changed" in steelyard("pair", "init", "--dir", tmp_path).stdout


def test_a_foreign_file(steelyard, tmp_path):
    """A file of that name that has no certificate is an error and stays as it is."""
    (tmp_path / "pair.pem").write_text("mine")
    done = steelyard("pair", "init", "--dir", tmp_path)
    assert done.returncode == 1
    assert "no certificate in PEM form" in done.stderr
    assert (tmp_path / "pair.pem").read_text() == "mine"


PAIR = {
    "node": "lb1", "peer": "lb2", "state": "connected", "why": "the peer is there", "since": 0.0, "last_beat_s": 0.2,
    "version": "1.0", "protocol": 1, "clock_offset_s": -0.25, "same_file": True, "sha256": "x", "same_acts": True,
    "acts": 2, "acts_not_in_force_here": [], "counters": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("differs", "code"),
    [
        ({}, 0),
        ({"same_file": False}, 1),
        ({"same_acts": False}, 1),
        ({"state": "silent", "version": None, "clock_offset_s": None, "same_file": None, "same_acts": None}, 1),
    ],
)
def test_status(steelyard, daemon, differs, code):
    """`pair status` ends with 0 only if the other host is there and has the same file and acts."""
    daemon.server.register("pair-status", lambda _: {"pair": PAIR | differs}, mutates=False)
    done = steelyard("pair", "status", "-s", daemon.path)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith("peer      lb2\nlink      ")
    if not differs:
        assert "clock     -0.250 s from ours\nfile      the same\nacts      2 here, the same on lb2\n" in done.stdout
    shown = steelyard("pair", "status", "--json", "-s", daemon.path)
    assert json.loads(shown.stdout) == PAIR | differs


def answers(*files):
    """Return the answer of a daemon of which both hosts have these files: (path, digest, text) or None."""

    async def diff(_):
        for place, node in enumerate(("lb1", "lb2")):
            yield {"host": {"node": node, "version": "1.0", "sha256": "x"}, "more": True}
            for row in files:
                if row[place] is not None:
                    yield {"file": dict(zip(("path", "sha256", "text"), row[place], strict=True)), "more": True}
        yield {"more": False}

    return diff


def test_diff(steelyard, daemon):
    """P3: `pair diff` shows the lines that differ, files that only one host has, and digests of large files."""
    main, same = ("/etc/f.toml", "1", "a = 1\nb = 2\n"), ("/etc/same.toml", "3", "x")
    daemon.server.register(
        "pair-diff",
        answers(
            (main, ("/srv/f.toml", "2", "a = 1\nb = 3\n")), (same, same), (("/etc/one.toml", "4", ""), None),
            (None, ("/etc/two.toml", "5", "")), (("/etc/large", "6", None), ("/etc/large", "7", None)),
        ),
        mutates=False,
    )  # fmt: skip
    done = steelyard("pair", "diff", "-s", daemon.path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "--- lb1:/etc/f.toml", "+++ lb2:/srv/f.toml", "@@ -1,2 +1,2 @@", " a = 1", "-b = 2", "+b = 3",
        "/etc/one.toml: only on lb1, not on lb2", "/etc/large: lb1: sha256 6", "/etc/large: lb2: sha256 7",
        "/etc/two.toml: only on lb2, not on lb1",
    ]  # fmt: skip


def test_no_difference(steelyard, daemon):
    """Equal files are one line and 0."""
    main = ("/etc/f.toml", "1", "a = 1\n")
    daemon.server.register("pair-diff", answers((main, main)), mutates=False)
    done = steelyard("pair", "diff", "-s", daemon.path)
    assert (done.returncode, done.stdout) == (0, "lb1 and lb2 have the same files\n")
    assert json.loads(steelyard("pair", "diff", "--json", "-s", daemon.path).stdout)["same"] is True
