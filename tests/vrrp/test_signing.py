"""Signatures over changes of keys."""

from ipaddress import ip_address

import pytest

from vrrp.packet import Advert, build
from vrrp.settings import AuthSettings
from vrrp.signing import Signing

A, B = ip_address("192.0.2.2"), ip_address("192.0.2.3")
ADVERT = Advert(3, 51, 100, (ip_address("198.51.100.10"),), 1.0)
WALL = 1.7e9
OFF = AuthSettings()


def keys(mode, *numbers):
    """Return settings with these keys; the first one signs."""
    return AuthSettings(mode, tuple((number, bytes([number]) * 32) for number in numbers))


def sent_by(signing, wall=WALL, source=A):
    """Return an advert with its trailer."""
    plain = build(ADVERT, source, B)
    return build(ADVERT, source, B, trailer=signing.trailer(build(ADVERT, source, source), source, wall)) or plain


@pytest.mark.parametrize("first", ["a", "b"])
def test_keys_are_rotated_host_by_host(first):
    """A new key behind the old one, then before it, then alone: whichever host is first, each accepts the other."""
    hosts = {name: Signing(keys("enforce", 1), 1.0) for name in ("a", "b")}
    order = ["a", "b"] if first == "a" else ["b", "a"]
    wall = WALL
    for step in (keys("enforce", 1, 2), keys("enforce", 2, 1), keys("enforce", 2)):
        for name in order:
            hosts[name].change(step, 1.0)
            wall += 1
            assert hosts["b"].check(sent_by(hosts["a"], wall), A, wall) is None
            assert hosts["a"].check(sent_by(hosts["b"], wall, B), B, wall) is None


def test_numbers_outlive_a_change():
    """A recorded advert does not count after a change of the keys, and our own numbers only grow, also while it is off."""
    signer, verifier = Signing(keys("enforce", 1), 1.0), Signing(keys("enforce", 1), 1.0)
    recorded = sent_by(signer)
    assert verifier.check(recorded, A, WALL) is None
    before = signer.sent
    for one in (signer, verifier):
        one.change(keys("enforce", 1, 2), 1.0)
    assert verifier.check(recorded, A, WALL).reason == "auth_replay"
    signer.change(OFF, 1.0)
    assert (signer.signs, signer.trailer(b"", A, WALL), signer.sent) == (False, b"", before)
    assert signer.check(b"", B, WALL) is None
    signer.change(keys("enforce", 1), 1.0)
    assert verifier.check(sent_by(signer, WALL - 5), A, WALL) is None
    assert signer.sent > before


def test_stored_numbers_are_learnt_when_signing_begins():
    """Numbers that were stored count for a router that signs for the first time after a change."""
    signing = Signing(OFF, 1.0)
    signing.know(1 << 62, {B: 5})
    signing.change(keys("permissive", 1), 1.0)
    assert signing.seen == {B: 5}
    sent_by(signing)
    assert signing.sent > 1 << 62
