"""The systems that are compared: Steelyard, its peers, the kernel's NAT, and no balancer."""

from bench.systems.base import System
from bench.systems.catalog import PEERS, SUBJECT, catalog
from bench.systems.trees import Tree

__all__ = ["PEERS", "SUBJECT", "System", "Tree", "catalog"]
