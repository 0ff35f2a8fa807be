"""The works: each has real servers and a client that asks them, through a balancer or directly."""

from bench.works.base import BACKENDS, Argv, Place, Work
from bench.works.bulk import BulkDown, BulkUp
from bench.works.dns import Dns, DnsTcp, Udp
from bench.works.http import Connect, Http
from bench.works.ldap import Ldap
from bench.works.mysql import Mysql

WORKS: dict[str, type[Work]] = {
    kind.name: kind for kind in (Dns, DnsTcp, Udp, Http, Connect, BulkUp, BulkDown, Ldap, Mysql)
}

__all__ = ["BACKENDS", "WORKS", "Argv", "Place", "Work"]
