"""Signed adverts."""

from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp import packet
from vrrp.auth import Signer, Verifier
from vrrp.packet import Advert, Drop

SOURCE, OTHER, TARGET = ip_address("192.0.2.1"), ip_address("192.0.2.2"), packet.GROUP4
OLD, NEW = b"the old key, long enough", b"the new key, long enough"
MESSAGE = packet.build(Advert(3, 51, 100, (ip_address("198.51.100.10"),), 1.0), SOURCE, TARGET)


def reason(result):
    return result.reason if isinstance(result, Drop) else None


def test_signed_is_accepted():
    """V21: a signed advert comes out as it went in, and its length is the advert's and 48 octets."""
    data = Signer([OLD], 7).sign(MESSAGE, SOURCE, TARGET)
    assert len(data) == len(MESSAGE) + packet.TRAILER_LENGTH
    assert Verifier([OLD]).verify(data, SOURCE, TARGET) == MESSAGE


def test_without_keys_the_trailer_is_ignored():
    """V21: a host without keys reads the advert of one with keys, in every version and family."""
    for version in (2, 3):
        for source, target, virtual in (
            (SOURCE, TARGET, "198.51.100.10"),
            (ip_address("fe80::1"), packet.GROUP6, "2001:db8::10"),
        ):
            advert = Advert(version, 51, 100, (ip_address(virtual),), 1.0)
            data = Signer([OLD], 1).sign(packet.build(advert, source, target), source, target)
            assert packet.parse(data, source, target, 255) == advert


def test_no_trailer_no_effect():
    """V21: a host with keys drops an advert without a trailer."""
    assert reason(Verifier([OLD]).verify(MESSAGE, SOURCE, TARGET)) == "auth_missing"
    assert reason(Verifier([OLD]).verify(b"", SOURCE, TARGET)) == "auth_missing"


def test_unknown_key():
    """V21: an advert signed with a key that we do not have is dropped."""
    data = Signer([NEW], 1).sign(MESSAGE, SOURCE, TARGET)
    assert reason(Verifier([OLD]).verify(data, SOURCE, TARGET)) == "auth_key"


def test_any_changed_octet():
    """V21: whatever octet is changed on the way, and whoever claims to have sent it, the advert is dropped."""
    data = Signer([OLD], 1).sign(MESSAGE, SOURCE, TARGET)
    for at in range(len(data)):
        forged = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        assert reason(Verifier([OLD]).verify(forged, SOURCE, TARGET)) in {"auth_missing", "auth_key", "auth_mac"}
    assert reason(Verifier([OLD]).verify(data, OTHER, TARGET)) == "auth_mac"
    assert reason(Verifier([OLD]).verify(data, SOURCE, OTHER)) == "auth_mac"


def test_replay():
    """V21: a recorded advert counts once, also after a hundred others."""
    signer, verifier = Signer([OLD], 1), Verifier([OLD])
    recorded = [signer.sign(MESSAGE, SOURCE, TARGET) for _ in range(100)]
    assert all(verifier.verify(data, SOURCE, TARGET) == MESSAGE for data in recorded)
    assert {reason(verifier.verify(data, SOURCE, TARGET)) for data in recorded} == {"auth_replay"}


def test_overtaking():
    """V21: adverts that overtook one another within the window of 64 count, each once."""
    signer, verifier = Signer([OLD], 1000), Verifier([OLD])
    sent = [signer.sign(MESSAGE, SOURCE, TARGET) for _ in range(64)]
    first = [verifier.verify(sent[63], SOURCE, TARGET)]
    shuffled = sent[:63]
    Random(1).shuffle(shuffled)
    assert first + [verifier.verify(data, SOURCE, TARGET) for data in shuffled] == [MESSAGE] * 64
    assert {reason(verifier.verify(data, SOURCE, TARGET)) for data in sent} == {"auth_replay"}


@given(st.lists(st.integers(0, 200), max_size=300))
def test_window_against_a_set(sequences):
    """V21: the window decides as a set of all sequences seen would, for whatever is less than 64 below the highest."""
    verifier, seen = Verifier([OLD]), set()
    for sequence in sequences:
        got = verifier.verify(Signer([OLD], sequence).sign(MESSAGE, SOURCE, TARGET), SOURCE, TARGET)
        fresh = sequence not in seen and (not seen or sequence > max(seen) - 64)
        assert (got == MESSAGE) == fresh
        if fresh:
            seen.add(sequence)


def test_far_ahead():
    """V21: a jump to the highest sequence there is costs nothing and closes the window below it."""
    verifier = Verifier([OLD])
    for sequence in (1, 2**64 - 1):
        assert verifier.verify(Signer([OLD], sequence).sign(MESSAGE, SOURCE, TARGET), SOURCE, TARGET) == MESSAGE
    assert reason(verifier.verify(Signer([OLD], 2).sign(MESSAGE, SOURCE, TARGET), SOURCE, TARGET)) == "auth_replay"


def test_roll_over():
    """V21: a key is rolled over on one host after the other without a dropped advert: add behind, swap, drop the old."""
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    verifiers = {ip: Verifier(steps[0]) for ip in (SOURCE, OTHER)}
    sequence = 0
    state = {SOURCE: 0, OTHER: 0}
    for host in [SOURCE, OTHER] * 3:
        state[host] += 1
        verifiers[host] = Verifier(steps[state[host]], verifiers[host].highest)
        for sender, receiver in ((SOURCE, OTHER), (OTHER, SOURCE)):
            sequence += 1
            data = Signer(steps[state[sender]], sequence).sign(MESSAGE, sender, TARGET)
            assert verifiers[receiver].verify(data, sender, TARGET) == MESSAGE


def test_highest_is_kept():
    """V21: what a verifier knew, its successor knows: no recorded advert counts after a restart."""
    signer, verifier = Signer([OLD], 500), Verifier([OLD])
    recorded = [signer.sign(MESSAGE, SOURCE, TARGET) for _ in range(3)]
    for data in recorded:
        verifier.verify(data, SOURCE, TARGET)
    successor = Verifier([OLD], verifier.highest)
    assert {reason(successor.verify(data, SOURCE, TARGET)) for data in recorded} == {"auth_replay"}
    assert successor.verify(signer.sign(MESSAGE, SOURCE, TARGET), SOURCE, TARGET) == MESSAGE


def test_restart_with_the_clock_set_back():
    """V16, V21: a sender that restarts with its clock an hour back goes on above its stored sequence, and is heard."""
    verifier, signer = Verifier([OLD]), Signer([OLD], 7_200_000_000)
    assert verifier.verify(signer.sign(MESSAGE, SOURCE, TARGET), SOURCE, TARGET) == MESSAGE
    again = Signer([OLD], max(3_600_000_000, signer.sequence))
    assert verifier.verify(again.sign(MESSAGE, SOURCE, TARGET), SOURCE, TARGET) == MESSAGE


def test_bounds():
    """V21: the 65th sender is dropped rather than one forgotten; short or missing keys are refused."""
    verifier = Verifier([OLD])
    got = [
        verifier.verify(Signer([OLD], 1).sign(MESSAGE, sender, TARGET), sender, TARGET)
        for sender in map(ip_address, range(1, 66))
    ]
    assert got[:64] == [MESSAGE] * 64
    assert reason(got[64]) == "auth_senders"
    for keys in ([], [b"short"], [OLD, b""]):
        with pytest.raises(ValueError):
            Signer(keys, 1)


def test_random_bytes():
    """V1, V21: no bytes harm the verifier, whatever length they have and however they begin or end."""
    random, verifier = Random(5), Verifier([OLD])
    data = Signer([OLD], 1).sign(MESSAGE, SOURCE, TARGET)
    for _ in range(20_000):
        cut = random.randrange(len(data))
        noise = data[cut:] if random.random() < 0.5 else data[:cut] + random.randbytes(random.randrange(60))
        assert isinstance(verifier.verify(noise, SOURCE, TARGET), (bytes, Drop))
