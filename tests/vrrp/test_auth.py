"""Signed adverts: keepalived's wire images, and what a receiver makes of them."""

from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp import packet
from vrrp.auth import Signer, Verifier, decode_key, number_after, number_at
from vrrp.packet import Advert, Drop

# The images of the draft's appendix, as keepalived 2.4.3 has them in test/auth_hmac_test.c: key 00 01 ... 1f with id 1,
# VRID 51, priority 200, number 0x6800000080000000; over IPv4 with a checksum of the message alone, over IPv6 with one for
# the destination fe80::20 that takes in the trailer.
KEY = bytes(range(32))
NUMBER = 0x6800000080000000
WALL = 0x68000000 + 0.5
IMAGE4 = bytes.fromhex("3133c80100644402c00002640101000068000000800000001b84bc4e8e43892dc6d98448f8ee2265")
IMAGE6 = bytes.fromhex(
    "3133c8010064a2e9fe800000000000000000000000000100010100006800000080000000c8c56146ebfd66ee10ec4d8186461b78"
)
SOURCE4, SOURCE6, TARGET6 = ip_address("198.51.100.10"), ip_address("fe80::10"), ip_address("fe80::20")
ADVERT4 = Advert(3, 51, 200, (ip_address("192.0.2.100"),), 1.0)
ADVERT6 = Advert(3, 51, 200, (ip_address("fe80::100"),), 1.0)

OLD, NEW = b"the old key, which is long enough", b"the new key, which is long enough"
SOURCE, OTHER, TARGET = ip_address("192.0.2.1"), ip_address("192.0.2.2"), packet.GROUP4


def signed(signer, wall, advert=ADVERT4, source=SOURCE, target=TARGET):
    """Return an advert with its trailer, as it is sent."""
    trailer = signer.trailer(packet.build(advert, source, source), source, wall)
    return packet.build(advert, source, target, trailer=trailer)


def reason(result):
    return None if result is None else result.reason


@pytest.mark.parametrize(
    ("image", "advert", "source", "target", "checksum"),
    [(IMAGE4, ADVERT4, SOURCE4, TARGET, "plain"), (IMAGE6, ADVERT6, SOURCE6, TARGET6, "pseudo")],
)
def test_keepaliveds_images(image, advert, source, target, checksum):
    """V9, V21: we send what keepalived's own test has on the wire, octet for octet, and accept it."""
    trailer = Signer(1, KEY).trailer(packet.build(advert, source, target), source, WALL)
    assert packet.build(advert, source, target, checksum=checksum, trailer=trailer) == image
    assert packet.parse(image, source, target, 255) == advert
    verifier = Verifier({1: KEY})
    assert verifier.check(image, source, 0.0) is None
    assert verifier.seen == {source: NUMBER}


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (2, "auth_mac"),  # priority
        (4, "auth_mac"),  # advert interval
        (6, None),  # the checksum, which is not covered
        (23, "auth_mac"),  # address
        (25, "auth_key"),
        (28, "auth_mac"),  # seconds
        (34, "auth_mac"),  # counter
        (36, "auth_mac"),  # the HMAC itself
    ],
)
def test_keepaliveds_changed_octets(offset, expected):
    """V21: one changed octet of keepalived's image is judged as keepalived's own test wants it."""
    data = bytearray(IMAGE6)
    data[offset] ^= 1
    assert reason(Verifier({1: KEY}).check(bytes(data), SOURCE6, 0.0)) == expected


@pytest.mark.parametrize("offset", [24, 26, 27])
def test_another_type_is_no_advert(offset):
    """V21: a trailer of another type, or with reserved bits, makes the advert one of a wrong length."""
    data = bytearray(IMAGE6)
    data[offset] ^= 1
    found = packet.parse(bytes(data), SOURCE6, TARGET6, 255)
    assert isinstance(found, Drop)
    assert found.reason == "length"
    assert reason(Verifier({1: KEY}).check(bytes(data), SOURCE6, 0.0)) == "auth_missing"


@pytest.mark.parametrize("version", [2, 3])
def test_source_vrid_and_version_are_bound(version):
    """V21: a trailer counts for its sender, VRID, version and IP version only."""
    data = bytearray(signed(Signer(1, OLD), WALL, Advert(version, 51, 200, (ip_address("192.0.2.100"),), 1.0)))
    assert reason(Verifier({1: OLD}).check(bytes(data), OTHER, WALL)) == "auth_mac"
    data[1] ^= 1
    assert reason(Verifier({1: OLD}).check(bytes(data), SOURCE, WALL)) == "auth_mac"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("source", "target", "virtual"),
    [("192.0.2.1", "224.0.0.18", "198.51.100.10"), ("fe80::1", "ff02::12", "2001:db8::1")],
)
def test_without_keys_the_trailer_is_ignored(version, source, target, virtual):
    """V21: a host whose mode is off reads the adverts of one that signs, in every version and family."""
    advert = Advert(version, 51, 100, (ip_address(virtual),), 1.0)
    source, target = ip_address(source), ip_address(target)
    data = signed(Signer(1, OLD), WALL, advert, source, target)
    assert len(data) == len(packet.build(advert, source, target)) + 28
    assert packet.parse(data, source, target, 255) == advert
    assert Verifier({1: OLD}).check(data, source, WALL) is None


def test_the_copies_of_an_advert_have_one_trailer():
    """V21: every destination gets the same number and HMAC, and each of them accepts its copy."""
    trailer = Signer(1, OLD).trailer(packet.build(ADVERT4, SOURCE, OTHER), SOURCE, WALL)
    for target in (OTHER, ip_address("192.0.2.3")):
        data = packet.build(ADVERT4, SOURCE, target, trailer=trailer)
        assert packet.parse(data, SOURCE, target, 255) == ADVERT4
        assert Verifier({1: OLD}).check(data, SOURCE, WALL) is None


def test_no_trailer():
    """V21: an advert without a trailer counts unless signatures are required."""
    plain = packet.build(ADVERT4, SOURCE, TARGET)
    assert reason(Verifier({1: OLD}).check(plain, SOURCE, WALL)) == "auth_missing"
    assert Verifier({1: OLD}, required=False).check(plain, SOURCE, WALL) is None


def test_a_wrong_trailer_never_counts():
    """V21: a trailer that is wrong makes the advert void, whether or not signatures are required."""
    data = signed(Signer(1, NEW), WALL)
    for required in (True, False):
        assert reason(Verifier({1: OLD}, required=required).check(data, SOURCE, WALL)) == "auth_mac"
        assert reason(Verifier({2: NEW}, required=required).check(data, SOURCE, WALL)) == "auth_key"


def test_any_changed_octet():
    """V21: whatever octet is changed on the way but for the checksum, the advert is dropped."""
    data = signed(Signer(1, OLD), WALL)
    for at in range(len(data)):
        forged = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        ends = [packet.parse(forged, SOURCE, TARGET, 255), Verifier({1: OLD}).check(forged, SOURCE, WALL)]
        assert any(isinstance(end, Drop) for end in ends)


def test_replay():
    """V21: a recorded advert counts once, also after a hundred others, and one that was overtaken does not count."""
    signer, verifier = Signer(1, OLD), Verifier({1: OLD})
    recorded = [signed(signer, WALL) for _ in range(100)]
    late = recorded.pop(50)
    assert all(verifier.check(data, SOURCE, WALL) is None for data in recorded)
    assert {reason(verifier.check(data, SOURCE, WALL)) for data in [late, *recorded]} == {"auth_replay"}


@given(st.lists(st.integers(0, 200), max_size=100))
def test_numbers_grow(numbers):
    """V21: an advert counts exactly if its number is above all that counted before."""
    verifier, highest = Verifier({1: OLD}), -1
    for number in numbers:
        got = verifier.check(signed(Signer(1, OLD, number), 0.0), SOURCE, WALL)
        assert (got is None) == (number > highest)
        highest = max(highest, number)


def test_numbers_follow_the_clock():
    """V21: a number is the time of sending, and the next one after the last where the clock has not moved on."""
    signer = Signer(1, OLD)
    numbers = []
    for wall in (WALL, WALL, WALL - 3600, WALL + 0.01):
        signer.trailer(IMAGE4[:12], SOURCE, wall)
        numbers.append(signer.number)
    assert numbers == [NUMBER, NUMBER + 1, NUMBER + 2, number_at(WALL + 0.01)]


def test_the_seconds_may_overflow():
    """V21: the sender is heard on when the 32 bits of seconds begin anew, in 2106."""
    signer, verifier = Signer(1, OLD), Verifier({1: OLD})
    for wall in (2**32 - 0.5, 2**32 + 0.5, 2**32 + 1.5):
        assert verifier.check(signed(signer, wall), SOURCE, wall) is None


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_step_of_the_receivers_clock(step):
    """V16: a receiver whose clock steps by an hour, one way and back again, accepts every advert, and no recorded one."""
    signer, verifier = Signer(1, OLD), Verifier({1: OLD})
    recorded = []
    for second in range(30):
        data = signed(signer, WALL + second)
        assert verifier.check(data, SOURCE, WALL + second + (step if 10 <= second < 20 else 0.0)) is None
        recorded.append(data)
    assert {reason(verifier.check(data, SOURCE, WALL + 30)) for data in recorded} == {"auth_replay"}


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_step_of_the_senders_clock(step):
    """V16: a sender whose clock steps by an hour, one way and back again, is heard all the time."""
    signer, verifier = Signer(1, OLD), Verifier({1: OLD})
    for second in range(30):
        data = signed(signer, WALL + second + (step if 10 <= second < 20 else 0.0))
        assert verifier.check(data, SOURCE, WALL + second) is None


def test_a_keepalived_whose_clock_was_put_right():
    """V9, V16: a keepalived that ran an hour ahead, and begins anew with the right time, is heard at once; what it sent is not."""
    verifier = Verifier({1: OLD})
    ahead = [signed(Signer(1, OLD), WALL + 3600 + second) for second in range(3)]
    for second, data in enumerate(ahead):
        assert verifier.check(data, SOURCE, WALL + second) is None
    long_ago = signed(Signer(1, OLD), WALL - 60)
    assert reason(verifier.check(long_ago, SOURCE, WALL + 3)) == "auth_replay"
    right = signed(Signer(1, OLD), WALL + 3)
    assert verifier.check(right, SOURCE, WALL + 3) is None
    assert reason(verifier.check(right, SOURCE, WALL + 4)) == "auth_replay"


def test_roll_over():
    """V21: a key is rolled over on one host after the other without a dropped advert: add behind, swap, drop the old."""
    steps = [{1: OLD}, {1: OLD, 2: NEW}, {1: NEW, 2: OLD}, {1: NEW}]
    verifiers = {ip: Verifier(steps[0]) for ip in (SOURCE, OTHER)}
    state = {SOURCE: 0, OTHER: 0}
    wall = WALL
    for host in [SOURCE, OTHER] * 3:
        state[host] += 1
        verifiers[host] = Verifier(steps[state[host]], seen=verifiers[host].seen)
        for sender, receiver in ((SOURCE, OTHER), (OTHER, SOURCE)):
            wall += 1
            data = signed(Signer(1, steps[state[sender]][1]), wall, source=sender)
            assert verifiers[receiver].check(data, sender, wall) is None


def test_what_was_seen_is_kept():
    """V21: what a verifier knew, its successor knows: no recorded advert counts after a restart."""
    signer, verifier = Signer(1, OLD), Verifier({1: OLD})
    recorded = [signed(signer, WALL) for _ in range(3)]
    for data in recorded:
        verifier.check(data, SOURCE, WALL)
    successor = Verifier({1: OLD}, seen=verifier.seen)
    assert {reason(successor.check(data, SOURCE, WALL)) for data in recorded} == {"auth_replay"}
    assert successor.check(signed(signer, WALL), SOURCE, WALL) is None


def test_restart_with_the_clock_set_back():
    """V16, V21: a sender that restarts with its clock an hour back goes on above what it stored, and is heard."""
    verifier, signer = Verifier({1: OLD}), Signer(1, OLD)
    assert verifier.check(signed(signer, WALL), SOURCE, WALL) is None
    again = Signer(1, OLD, signer.number)
    assert verifier.check(signed(again, WALL - 3600), SOURCE, WALL) is None


def test_a_number_after_a_crash():
    """V21: the number after a crash is above all of the time that has passed, and hardly ahead of the clock."""
    assert number_at(WALL + 7.25) < number_after(number_at(WALL), 7.25) <= number_at(WALL + 7.26)


def test_senders_are_bounded():
    """V21: 64 senders are remembered; one more takes the place of the one that was not heard for the longest time."""
    verifier = Verifier({1: OLD})
    senders = [ip_address(number) for number in range(1, 66)]
    for sender in [*senders[:64], senders[0], senders[64]]:
        assert verifier.check(signed(Signer(1, OLD, len(verifier.seen)), 0.0, source=sender), sender, WALL) is None
    assert len(verifier.seen) == 64
    assert senders[0] in verifier.seen
    assert senders[1] not in verifier.seen


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"hex:" + KEY.hex().encode(), KEY),
        (b"hex:" + KEY.hex(" ").upper().encode() + b"\r\n", KEY),
        (KEY.hex().encode() + b"\n", KEY.hex().encode()),
        (b" spaces are a part of it, as of keepalived's \n", b" spaces are a part of it, as of keepalived's "),
    ],
)
def test_a_key_file(text, key):
    """V9, V21: a key file is read as keepalived reads it: "hex:" and digits, or the text without the end of its line."""
    assert decode_key(text) == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "0 octets: it must have 32 to 64"),
        (b"hex:" + b"ab" * 31, "31 octets"),
        (b"x" * 65, "65 octets"),
        (b"hex:" + b"zz" * 32, "only hexadecimal digits may follow"),
        (b"hex:" + b"a" * 65, "only hexadecimal digits may follow"),
        (b"x" * 20 + b"\0" * 20, "not text"),
    ],
)
def test_a_key_file_that_holds_none(text, why):
    """V21, S6: what is no key is refused in words that do not show it."""
    with pytest.raises(ValueError, match=why) as caught:
        decode_key(text)
    assert not text or text.decode() not in str(caught.value)


def test_random_bytes():
    """V1, V21: no bytes harm the verifier, whatever length they have and however they begin or end."""
    random, verifier = Random(5), Verifier({1: OLD})
    data = signed(Signer(1, OLD), WALL)
    for _ in range(20_000):
        cut = random.randrange(len(data))
        noise = data[cut:] if random.random() < 0.5 else data[:cut] + random.randbytes(random.randrange(60))
        if isinstance(packet.parse(noise, SOURCE, TARGET, 255), Advert):
            verifier.check(noise, SOURCE, WALL)
