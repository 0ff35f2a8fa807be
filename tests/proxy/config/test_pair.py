"""[pair]: the link to the other host."""

import datetime as dt

import pytest

from proxy.config import ConfigError, diagnose, load
from proxy.config.changes import steps
from proxy.peer.certificates import make

NOW = dt.datetime.now(dt.UTC)
OURS, THEIRS = make("lb1", NOW), make("lb2", NOW)
SERVICE = '[service.dns]\nlisten = ["*:53/tcp"]\nbackends = ["10.0.0.11"]\n'
MEMBERS = 'members = { lb1 = "10.0.0.2", lb2 = "10.0.0.3" }'


@pytest.fixture
def files(tmp_path):
    """Write both certificates; return their lines."""
    (tmp_path / "pair.pem").write_bytes(OURS.secret)
    (tmp_path / "pair.pem").chmod(0o600)
    (tmp_path / "peer.pem").write_bytes(THEIRS.public)
    return f'certificate = "{tmp_path}/pair.pem"\npeer-certificate = "{tmp_path}/peer.pem"\n'


@pytest.fixture
def judged(tmp_path):
    """Return a function that returns the configuration and the messages of a text, for lb1."""

    def judge(pair, rest=""):
        path = tmp_path / "steelyard.toml"
        path.write_text(f'nodes = ["lb1", "lb2"]\n{SERVICE}{rest}\n{pair}')
        config, found = diagnose(path, "lb1")
        return config, [item.message for item in found]

    return judge


def test_a_whole_section(judged, files):
    """A link needs members and certificates; the port and what is shared have defaults; each host knows its peer."""
    config, found = judged(f"[pair]\n{MEMBERS}\n{files}")
    assert found == []
    assert config.pair.members == {"lb1": "10.0.0.2", "lb2": "10.0.0.3"}
    assert (config.pair.port, config.pair.share) == (9601, ("acts", "verdicts", "persistence", "timeline"))
    assert (config.pair.peer_of("lb1"), config.pair.peer_of("lb2")) == ("lb2", "lb1")


def test_without_a_section(judged):
    """Without [pair] there is no link."""
    config, found = judged("")
    assert found == []
    assert config.pair is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('members = { lb1 = "10.0.0.2" }', "a pair has two members, and here are 1"),
        ('members = { lb1 = "10.0.0.2", lb3 = "10.0.0.3" }', '"lb3" is not in nodes'),
        ('members = { lb1 = "10.0.0.2", lb2 = "10.0.0.2" }', "10.0.0.2 is the address of lb1 as well"),
        ('members = { lb1 = "10.0.0.2", lb2 = "fd00::3" }', "one member has an IPv4 address and the other one an IPv6 address"),
        ('members = { lb1 = "10.0.0.2", lb2 = "example.net" }', "example.net"),
        (f"{MEMBERS}\nport = 0", "port = 0 is too small"),
        (f'{MEMBERS}\nshare = ["everything"]', "everything"),
        (f'{MEMBERS}\nkey-file = "/etc/steelyard/pair.key"', "Python has no TLS with a pre-shared key before 3.13"),
        (f'{MEMBERS}\npeer = "lb2"', 'unknown key "peer"'),
        ("", '"members" is missing in [pair]'),
    ],
)  # fmt: skip
def test_mistakes(judged, files, lines, expected):
    """Each mistake of the section is reported in words."""
    config, found = judged(f"[pair]\n{lines}\n{files}")
    assert config is None
    assert any(expected in message for message in found), found


def test_a_virtual_address_is_no_member(judged, files):
    """A member needs an address that its host keeps."""
    router = '[vrrp.a]\ninterface = "eth0"\nvrid = 1\naddresses = ["10.0.0.2/24"]\n'
    assert "10.0.0.2 is an address of [vrrp.a]" in judged(f"[pair]\n{MEMBERS}\n{files}", router)[1][0]


def test_certificates_are_needed(judged, files):
    """Without certificates there is no link, and the hint says how to make them."""
    for line in files.splitlines():
        _, found = judged(f"[pair]\n{MEMBERS}\n{line}")
        assert len(found) == 1
        assert "is missing in [pair]" in found[0]


def test_certificates_are_looked_at(judged, files, tmp_path):
    """On the host that the file is for, certificates that cannot work are an error before the daemon starts."""
    (tmp_path / "peer.pem").write_bytes(OURS.public)
    assert judged(f"[pair]\n{MEMBERS}\n{files}")[1] == [
        "peer-certificate: it is this host's own: copy that of the other host"
    ]
    (tmp_path / "peer.pem").unlink()
    assert "no such file" in judged(f"[pair]\n{MEMBERS}\n{files}")[1][0]
    (tmp_path / "peer.pem").write_bytes(THEIRS.public)
    (tmp_path / "pair.pem").chmod(0o644)
    assert "everybody can read it" in judged(f"[pair]\n{MEMBERS}\n{files}")[1][0]


def test_peer_verdicts_need_a_link(judged, files):
    """`require-both-down` without the verdicts of a peer is an error, rather than without effect."""
    rest = 'peer-verdict = "require-both-down"\n'
    assert "there is no [pair]" in judged("", rest)[1][0]
    assert 'share in [pair] lacks "verdicts"' in judged(f'[pair]\n{MEMBERS}\nshare = ["acts"]\n{files}', rest)[1][0]
    config, found = judged(f"[pair]\n{MEMBERS}\n{files}", rest)
    assert found == []
    assert config.services[0].peer_verdict == "require-both-down"


def test_a_host_that_is_no_member(tmp_path, files):
    """A daemon whose host is no member of the pair does not start."""
    path = tmp_path / "steelyard.toml"
    path.write_text(f'[node]\nname = "lb9"\n{SERVICE}[pair]\n{MEMBERS}\n{files}')
    with pytest.raises(ConfigError, match='this host is called "lb9", which is no member of the pair'):
        load(path)


def test_a_change_is_a_step(judged, files):
    """A reload names what changes about the link."""
    before, after = judged("")[0], judged(f"[pair]\n{MEMBERS}\n{files}")[0]
    assert [step.text for step in steps(before, after)] == ["[pair]: added"]
    other = judged(f"[pair]\n{MEMBERS}\nport = 9700\n{files}")[0]
    assert [step.text for step in steps(after, other)] == ["[pair]: port 9601 -> 9700"]
