"""A mix of LDAP searches on kept connections: the bench's own client, and slapd."""

from bench.outputs import Sample
from bench.results import Unit
from bench.works.base import Work
from bench.works.http import exchange, exchange_run
from health.probes.ldapmessage import search
from tests.e2e.servers import LDAP_PEOPLE, Slapd

BASE = "dc=example,dc=net"


def searches(number: int = 200) -> list[bytes]:
    """Return searches: of twenty, fourteen for a person, three for one entry, two that find nothing, one for all."""
    found = []
    for n in range(number):
        person = f"(uid=p{n % LDAP_PEOPLE})"
        kind = n % 20
        if kind in {3, 9, 15}:
            found.append(search(1, f"cn=whoami,{BASE}", "(objectClass=*)", ("description",), below=False, most=0))
        elif kind in {6, 13}:
            found.append(search(1, f"ou=people,{BASE}", f"(uid=nobody{n})", ("cn",), below=True, most=0))
        elif kind == 19:  # noqa: PLR2004 - the last of twenty
            found.append(search(1, f"ou=people,{BASE}", "(objectClass=inetOrgPerson)", ("cn",), below=True, most=0))
        else:
            found.append(search(1, f"ou=people,{BASE}", person, ("cn", "sn"), below=True, most=0))
    return found


class Ldap(Work):
    """Searches on kept connections."""

    name = "ldap"
    about = "bench/exchange.py, 32 kept connections; two slapd; searches for one entry, for none and for fifty"
    port = 389
    unit = Unit("searches/s", "us/search")
    tools = ("slapd",)

    def serve(self) -> None:
        """Start one slapd for each address."""
        for address in self.backends:
            Slapd(self.bed, self.place.servers, [address], name=address, cpus=self.place.cpus)

    def run(self, address: str, seconds: float) -> Sample:
        """Search without a pause on every connection."""
        found = exchange_run(self, "ldap", address, seconds, 0, searches())
        return Sample(found["done"], found["seconds"], found["failed"])

    def latencies(self, address: str, seconds: float, rate: float) -> tuple[list[float], int]:
        """Search at a fixed rate; a search that waits for a free connection has waited in its latency too."""
        return exchange(self, "ldap", address, seconds, rate, searches())
