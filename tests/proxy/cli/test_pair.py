"""Tests of `steelyard pair`."""

import json
import stat
import tomllib

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
