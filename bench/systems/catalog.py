"""Which systems take part in a work."""

from collections.abc import Sequence

from bench.systems.base import System
from bench.systems.own import Direct, Nat, Steelyard
from bench.systems.peers import Dnsdist, Haproxy, NginxStream
from bench.systems.trees import HERE, Tree
from bench.works import Work

SUBJECT = Steelyard.family
PEERS = ("dnsdist", "haproxy", "nginx", "nat", "none")  # how --peers calls them
# Where the data is moved in large pieces, and where it is not.
SPLICED = frozenset({"http", "bulk-up", "bulk-down"})


def catalog(work: type[Work], trees: Sequence[Tree] = (HERE,), peers: Sequence[str] = ()) -> list[System]:
    """Return the systems for a work, the subject first; `peers` are those of PEERS that are wanted, all if empty."""
    systems: list[System] = [Steelyard()]
    for tree in trees:
        systems.append(Dnsdist(tree))
        if work.name == "dns":
            systems.append(Dnsdist(tree, "vector"))
        systems.append(Haproxy(tree))
        if work.name in SPLICED:
            systems.append(Haproxy(tree, "splice"))
    systems += [NginxStream(), Nat(), Direct()]
    wanted = {SUBJECT, *(peers or PEERS)}
    return [system for system in systems if system.fits(work) and system.family.lower().split()[0] in wanted]
