"""From a file to a configuration, or to everything that is wrong with it."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import Config, ConfigError, diagnose, load
from proxy.config.loader import diagnose_text, resolve_backend

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.toml"))
WHOLE = next(path for path in EXAMPLES if path.name == "mail-hosting.toml").read_text()
SMALL = '[service.a]\nlisten = ["10.0.0.10:80/tcp"]\nbackends = ["10.0.0.11"]\n'


def test_the_whole_file_of_the_contract(write):
    """The configuration that uses every part of the schema is valid on both nodes, each with its own priority."""
    for node, priority in (("lb1", 150), ("lb2", 100)):
        config = load(write(WHOLE), node, need_files=False)
        assert [service.name for service in config.services] == [
            "dns", "ldap", "mysql-write", "mysql-read", "smtp", "submission", "pop3", "imap", "webmail",
        ]  # fmt: skip
        assert {router.priority for router in config.vrrp} == {priority}
        lag = config.services[0].backends[0].probes[0]
        assert (lag.query, lag.max_serial_lag, lag.transport) == ("example.net SOA", 10, "both")
        assert [probe.port for probe in config.services[1].backends[0].probes] == [389, 636]
        assert config.services[3].backends[0].probes[0].max_lag == 30.0
        assert [listener.text for listener in config.services[4].listeners] == [
            "198.51.100.10:25/tcp",
            "[2001:db8:1::10]:25/tcp",
        ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_configuration_comes_back_from_json(path, tmp_path):
    """The effective configuration is equal to what its own JSON says, so it can travel to the other processes."""
    node = "lb1" if path.name == "mail-hosting.toml" else None
    config = load(shutil.copy(path, tmp_path), node, need_files=False)
    text = json.dumps(config.model_dump(mode="json"), allow_nan=False)
    assert Config.model_validate(json.loads(text)) == config


def test_load_raises_every_error_and_no_warning(write):
    """R1: load raises ConfigError with all errors; what is only unwise is for check to say."""
    text = '[service.a]\nlisten = ["*:53/udp"]\nbackends = ["10.0.0.11"]\nquorum = 0\nfail-open = 1\n'
    with pytest.raises(ConfigError) as error:
        load(write(text))
    assert [(item.severity, item.line) for item in error.value.diagnostics] == [("error", 4), ("error", 5)]


def test_missing_files_are_errors_on_their_host(write):
    """R13: a secret that is not there stops a daemon, and `check` on this host; for another host `check` only warns."""
    text = (
        SMALL
        + 'probe = { type = "imap", user = "x", password-file = "/nonexistent/pw", tls = "starttls", tls-name = "a" }\n'
    )
    with pytest.raises(ConfigError, match="/nonexistent/pw: no such file"):
        load(write(text))
    config, found = diagnose(write(text))
    assert (config, [item.severity for item in found]) == (None, ["error"])
    config, found = diagnose(write('nodes = ["not-this-host"]\n' + text))
    assert config is not None
    assert [item.severity for item in found] == ["warning"]


def test_what_is_wrong_for_the_other_node_stops_this_one(write):
    """A file that is wrong on the other host is wrong on both: load refuses it too."""
    text = 'nodes = ["lb1", "lb2"]\n[node]\nworkers = { lb1 = 1, lb2 = 0 }\n' + SMALL
    with pytest.raises(ConfigError, match="workers = 0"):
        load(write(text), "lb1")


def test_an_empty_file_is_valid_and_pointless(said):
    """A file that balances nothing is no error, and check says so."""
    assert said("") == ["1:1 warning: neither [service.NAME] nor [vrrp.NAME]: there is nothing to run"]


def test_ten_thousand_backends_load_in_a_few_seconds(write):
    """A file a thousand times larger than usual takes time in proportion: no part of the loader is quadratic."""
    backends = ",\n".join(f'"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}"' for index in range(1, 10001))
    config = load(write(f'[service.a]\nlisten = ["10.255.0.10:80/tcp"]\nbackends = [{backends}]\n'))
    assert len(config.services[0].backends) == 10000


def within(found, path):
    """Assert that each diagnostic has a place within its file."""
    lines = path.read_bytes().replace(b"\r\n", b"\n").split(b"\n")
    for item in found:
        assert item.file == str(path)
        assert 1 <= item.line <= len(lines)
        assert 1 <= item.col <= len(lines[item.line - 1].decode(errors="replace")) + 1
        assert item.message
        assert str(item)


def survive(path, data):
    """Diagnose some bytes: a configuration, or errors with a place, and nothing else."""
    path.write_bytes(data)
    config, found = diagnose(path)
    within(found, path)
    assert (config is None) == any(item.severity == "error" for item in found)
    if config is not None:
        assert Config.model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config
    with suppress(ConfigError):
        load(path)


FUZZ = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=150
)


@FUZZ
@given(
    data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
)
def test_any_bytes_are_a_configuration_or_an_error(tmp_path, data):
    """R1: whatever a file holds, the outcome is a configuration or a ConfigError whose every error has a place in the file."""
    survive(tmp_path / "steelyard.toml", data)


@settings(FUZZ, max_examples=75)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_a_damaged_file_is_a_configuration_or_an_error(tmp_path, seed, count):
    """R1: the whole example with words, lines or characters removed, doubled, swapped or changed is read or refused in words."""
    rng = random.Random(seed)
    text = WHOLE
    for _ in range(count):
        text = damaged(text, rng)
    survive(tmp_path / "steelyard.toml", text.encode(errors="replace"))


VALUES = (
    "0", "-1", "5", "3.5", "true", '""', '"x"', "[]", "[[]]", "{}", "[1]", '["a"]', "{ a = 1 }", '"never"', '"0s"', "2024-01-01", "nan",
    "99999999999999999999", '"10.0.0.1"', '"[::1]:1"', '"*:1-9/tcp"', '{ lb1 = 1, lb2 = "x" }', "{ lb1 = [] }", '[{ use = "mysql" }]', '"\\u0000"',
)  # fmt: skip


def damaged(text, rng):
    """Return the text with one piece of damage."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 2:
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        case 3:
            if "=" in lines[at]:
                lines[at] = lines[at].partition("=")[0] + "= " + rng.choice(VALUES)
        case 4:
            words = lines[at].split(" ")
            del words[rng.randrange(len(words))]
            lines[at] = " ".join(words)
        case 5:
            other = lines[rng.randrange(len(lines))]
            if "=" in other and "=" in lines[at]:
                lines[at] = other.partition("=")[0] + "=" + lines[at].partition("=")[2]
        case _:
            column = rng.randrange(len(lines[at]) + 1)
            lines[at] = (
                lines[at][:column]
                + chr(rng.choice([34, 39, 44, 61, 91, 93, 123, 125, 46, 10, 0, 233, 0x1F600]))
                + lines[at][column + 1 :]
            )
    return "\n".join(lines)


@pytest.mark.parametrize("top", ["[defaults]\nquorum = 2\n", ""])
def test_one_more_backend(write, top):
    """H1: a backend that is added is what one more string in the file would have made of it, whatever quorum there is."""
    text = top + SMALL.replace('["10.0.0.11"]', '["10.0.0.11", "10.0.0.12"]') + "backend-defaults = { weight = 7 }\n"
    config = load(write(text))
    whole = load(write(text.replace('"10.0.0.12"', '"10.0.0.12", "[2001:db8::13]:81"')))
    assert resolve_backend(config, "a", "[2001:db8::13]:81") == whole.services[0].backends[2]
    for wrong in ("10.0.0", "ns.example.net", "10.0.0.13:0", "10.0.0.13\x00", '"'):
        with pytest.raises(ConfigError):
            resolve_backend(config, "a", wrong)


def test_names_of_this_host(write):
    """R13: a group that this host does not know is an error here, and for another host none."""
    text = '[control]\ngroup = "no-such-group"\n' + SMALL
    config, found = diagnose(write(text))
    assert (config, [item.message for item in found]) == (None, ['this host has no group "no-such-group"'])
    config, found = diagnose(write('nodes = ["not-this-host"]\n' + text))
    assert config is not None
    assert not any("group" in item.message for item in found)


def test_a_text_is_judged_as_its_file_is(tmp_path):
    """`diagnose_text` says of a text what `diagnose` says of the file with that text."""
    text = '[service.a]\nlisten = ["127.0.0.1:80/tcp"]\nbackends = ["nosuch"]\n'
    path = tmp_path / "a.toml"
    path.write_text(text)
    config, found = diagnose_text(text, str(path))
    assert config is None
    assert found == diagnose(path)[1]
