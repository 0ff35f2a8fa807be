"""Which systems take part, and where their programs come from."""

import pytest

from bench.systems import PEERS, Tree, catalog
from bench.systems.own import nat_rules
from bench.works import WORKS
from tests.e2e.process import MissingError


def kinds(work, **more):
    return [(system.family, system.variant, system.tree) for system in catalog(WORKS[work], **more)]


def test_dns_has_dnsdist_and_no_haproxy():
    """DNS over UDP has dnsdist with and without vectors, and not HAProxy, which has no UDP."""
    here = Tree()
    assert kinds("dns") == [
        ("steelyard", "", here),
        ("dnsdist", "", here),
        ("dnsdist", "vector", here),
        ("nginx stream", "", here),
        ("NAT", "", here),
        ("none", "", here),
    ]


@pytest.mark.parametrize("name", WORKS)
def test_the_subject_is_first(name):
    """Each work has Steelyard first, a balancer to compare it with, the kernel's NAT and no balancer."""
    families = [system.family for system in catalog(WORKS[name])]
    assert families[0] == "steelyard"
    assert families[-3:] == ["nginx stream", "NAT", "none"]


def test_a_tree_adds_its_peers(tmp_path):
    """With a tree, its HAProxy takes part beside this machine's."""
    trees = (Tree(), Tree(tmp_path))
    found = [system.tree for system in catalog(WORKS["connect"], trees) if system.family == "HAProxy"]
    assert found == list(trees)


def test_peers_can_be_chosen():
    """Only the peers that are wanted take part; every name of them finds one."""
    assert [family for family, *_ in kinds("http", peers=["none", "haproxy"])] == [
        "steelyard",
        "HAProxy",
        "HAProxy",
        "none",
    ]
    assert all(len(kinds("dns", peers=[peer])) + len(kinds("connect", peers=[peer])) > 2 for peer in PEERS)


def test_a_tree_runs_programs_by_its_own_loader(tmp_path):
    """A program of a tree is started by the tree's loader with the tree's libraries; what is missing is named."""
    import platform

    libraries = tmp_path / "usr/lib" / f"{platform.machine()}-linux-gnu"
    libraries.mkdir(parents=True)
    (tmp_path / "usr/sbin").mkdir()
    (tmp_path / "usr/sbin/peer").touch()
    tree = Tree(tmp_path)
    with pytest.raises(MissingError, match="no loader"):
        tree.command("peer")
    (libraries / "ld-linux-test.so.2").touch()
    assert tree.command("peer") == [
        str(libraries / "ld-linux-test.so.2"),
        "--library-path",
        str(libraries),
        str(tmp_path / "usr/sbin/peer"),
    ]
    with pytest.raises(MissingError, match="other is not installed"):
        tree.command("other")


def test_nat_goes_from_server_to_server():
    """The rules of NAT number the flows, and hide the client behind the balancer's address."""
    rules = nat_rules("udp dport 53", 2, "0 : 10.0.0.11, 1 : 10.0.0.12", "eth1")
    assert "udp dport 53 dnat to numgen inc mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }" in rules
    assert 'oifname "eth1" masquerade' in rules
