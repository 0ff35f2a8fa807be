"""The bed of the bench: client, balancer and servers, three hosts joined by cables without a switch.

A second balancer's host, `nat`, is beside the first.  Rules for NAT make the kernel track all connections of their
namespace, so NAT must not share one with the other systems.  Each system has an address of its own.

    client --- 198.51.100.0/24 --- balancer --- 10.0.0.0/24 --- servers
           `-- 203.0.113.0/24 ---- nat -------- 192.0.2.0/24 --'
"""

from pathlib import Path

from tests.e2e.bed import INSIDE, Bed

FIRST = 20  # of the last octets of the systems' addresses
SYSTEMS = 40
NAT = "203.0.113.10"


def system_address(number: int) -> str:
    """Return the address of system `number`, 0 and up, on host `balancer`."""
    return f"198.51.100.{FIRST + number}"


def bench_bed() -> Bed:
    """Return the bed, without any process."""
    bed = Bed()
    try:
        for name in ("client", "balancer", "nat", "servers"):
            bed.host(name, forward=name in {"balancer", "nat"})
        bed.wire("client", "balancer", ["198.51.100.2/24"], [f"{system_address(n)}/24" for n in range(SYSTEMS)])
        bed.wire("balancer", "servers", [f"{INSIDE}/24"], ["10.0.0.11/24", "10.0.0.12/24"])
        bed.wire("client", "nat", ["203.0.113.2/24"], [f"{NAT}/24"])
        bed.wire("nat", "servers", ["192.0.2.10/24"], ["192.0.2.1/24"])
        bed.route("client", "10.0.0.0/24", system_address(0))
        bed.route("nat", "10.0.0.0/24", "192.0.2.1")
        bed.route("servers", "default", INSIDE)
        with bed.inside("nat"):  # a minute or two of closed connections would fill the table
            for name in ("tcp_timeout_time_wait", "tcp_timeout_close_wait", "tcp_timeout_last_ack"):
                path = Path("/proc/sys/net/netfilter", f"nf_conntrack_{name}")
                if path.exists():
                    path.write_text("5")
    except BaseException:
        bed.close()
        raise
    return bed


def shape(bed: Bed, rate: str = "1gbit") -> None:
    """Limit the client's links to `rate` in both directions, with a queue of 20 ms (tbf)."""
    for one, other in (("client", "balancer"), ("client", "nat"), ("balancer", "client"), ("nat", "client")):
        port = bed.hosts[one].ports[other]
        queue = f"tc qdisc replace dev {port} root tbf rate {rate} burst 128k latency 20ms"
        bed.run(one, queue.split(), check=True)
