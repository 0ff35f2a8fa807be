"""The keys of clients in tables that a host's workers share."""

from hashlib import blake2b
from socket import AF_INET6, inet_aton, inet_pton

_IPV4 = 32  # bits of an address
_IPV6 = 128


class ClientKeys:
    """Makes the keys of a service's clients: above 0, below 2^63, and unpredictable without the secret.

    A client is its address up to the prefix length: by default a whole IPv4 address, or an IPv6 /64.
    """

    __slots__ = ("_secret", "_spare_ipv4", "_spare_ipv6")

    def __init__(self, secret: bytes, ipv4_prefix: int = _IPV4, ipv6_prefix: int = 64) -> None:
        self._secret = secret
        self._spare_ipv4 = _IPV4 - ipv4_prefix
        self._spare_ipv6 = _IPV6 - ipv6_prefix

    def of(self, service: int, address: str) -> int:
        """Return the key of a service's client; a zone in the address is ignored."""
        if ":" in address:
            packed, spare = inet_pton(AF_INET6, address.partition("%")[0]), self._spare_ipv6
        else:
            packed, spare = inet_aton(address), self._spare_ipv4
        if spare:
            packed = (int.from_bytes(packed, "big") >> spare).to_bytes(len(packed), "big")
        digest = blake2b(service.to_bytes(4, "big") + packed, digest_size=8, key=self._secret).digest()
        return int.from_bytes(digest, "big") >> 1 or 1
