"""From the forms of `probe` to whole specs."""

import pytest

from proxy.config import diagnose

HEAD = '[service.a]\nlisten = ["10.0.0.10:389/tcp"]\nbackends = ["10.0.0.11"]\n'


def service(listen='"10.0.0.10:389/tcp"', rest="", backends='"10.0.0.11"'):
    """Return a service's text."""
    return f"[service.a]\nlisten = [{listen}]\nbackends = [{backends}]\n{rest}\n"


def probes(config):
    """Return the probes of the first backend of the first service."""
    return config.services[0].backends[0].probes


@pytest.mark.parametrize(
    ("listen", "protocol", "kind"),
    [
        ('"10.0.0.10:53/udp"', "dns", "dns"),
        ('"10.0.0.10:389/tcp"', "plain", "tcp"),
        ('"10.0.0.10:88/udp", "10.0.0.10:88/tcp"', "plain", "tcp"),
        ('"10.0.0.10:514/udp"', "plain", "none"),
    ],
)
def test_the_default_probe_follows_the_service(loaded, listen, protocol, kind):
    """A service without `probe` gets a tcp probe, a dns service a dns probe, a UDP service none."""
    (probe,) = probes(loaded(service(listen, f'protocol = "{protocol}"')))
    assert probe.type == kind


@pytest.mark.parametrize(
    ("listen", "transport"),
    [
        ('"10.0.0.10:53/udp"', "udp"),
        ('"10.0.0.10:53/tcp"', "tcp"),
        ('"10.0.0.10:53/udp", "10.0.0.10:53/tcp"', "both"),
    ],
)
def test_a_dns_probe_asks_as_the_clients_do(loaded, listen, transport):
    """H7: a dns probe's transport is the listeners' unless it says its own."""
    assert probes(loaded(service(listen, 'protocol = "dns"')))[0].transport == transport
    own = loaded(service(listen, 'protocol = "dns"\nprobe = { transport = "tcp" }'))
    assert probes(own)[0].transport == "tcp"


def test_the_port_and_address_are_the_backends(loaded):
    """A probe asks the backend's address and port, else the listener's port, unless it names its own."""
    text = service(
        backends='"10.0.0.11", "10.0.0.12:3389", { address = "10.0.0.13", probe = { port = 7, address = "10.0.0.99" } }'
    )
    found = [(backend.probes[0].address, backend.probes[0].port) for backend in loaded(text).services[0].backends]
    assert found == [("10.0.0.11", 389), ("10.0.0.12", 3389), ("10.0.0.99", 7)]


@pytest.mark.parametrize("rest", ["", 'probe = { type = "tcp" }'])
def test_several_ports_need_a_port(said, rest):
    """A probe without a port is an error where the listeners have several, and the error shows what to write."""
    found = said(service('"10.0.0.10:389,636/tcp"', rest))
    assert len(found) == 1
    assert "needs a" in found[0]
    assert 'the listeners have several (389, 636) | write for instance probe = { type = "tcp", port = 389 }' in found[0]


def test_a_backends_port_answers_for_several_listeners(said):
    """With a port of their own the backends are probed there, however many the listeners have."""
    assert said(service('"10.0.0.10:389,636/tcp"', "backend-defaults = { port = 389 }")) == []


def test_ping_and_script_need_no_port(said):
    """A probe that uses no port asks for none."""
    assert (
        said(
            service(
                '"10.0.0.10:389,636/tcp"', 'probe = [{ type = "ping" }, { type = "script", command = ["/bin/true"] }]'
            )
        )
        == []
    )


def test_defaults_go_into_each_probe_of_a_list(loaded):
    """[defaults.probe] is merged key by key into every probe, also the implied one; what a type does not have is left out."""
    defaults = '[defaults.probe]\ninterval = "7s"\nfall = 9\nsend = "x"\n'
    one, two = probes(loaded(defaults + service(rest='probe = [{ type = "tcp", fall = 2 }, { type = "dns" }]')))
    assert (one.interval, one.fall, one.send) == (7.0, 2, "x")
    assert (two.interval, two.fall) == (7.0, 9)
    assert probes(loaded(defaults + service()))[0].interval == 7.0


def test_a_named_probe_is_used_and_changed(loaded):
    """`use` takes a [probe.NAME] and what stands beside it wins; a name alone, or in a list, is the same; names may chain."""
    named = '[probe.base]\ntype = "tcp"\nport = 1\nfall = 4\n[probe.more]\nuse = "base"\nrise = 5\n'
    (probe,) = probes(loaded(named + service(rest='probe = { use = "more", fall = 6 }')))
    assert (probe.port, probe.fall, probe.rise) == (1, 6, 5)
    assert probes(loaded(named + service(rest='probe = "more"')))[0].rise == 5
    assert [each.port for each in probes(loaded(named + service(rest='probe = ["base", { port = 2 }]')))] == [1, 2]


def test_a_backends_own_probe_replaces_the_services(loaded):
    """A backend with a probe of its own has that one only."""
    text = service(
        rest='probe = [{ type = "tcp" }, { type = "tcp", port = 5 }]',
        backends='{ address = "10.0.0.11", probe = { type = "none" } }',
    )
    assert [probe.type for probe in probes(loaded(text))] == ["none"]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ('probe = "ldpa"', ["4:9 error: there is no [probe.ldpa]"]),
        ('probe = "tcp"', ['4:9 error: there is no [probe.tcp] | for the type write { type = "tcp" }']),
        ('probe = { use = "gatway" }\n[probe.gateway]', ['4:17 error: there is no [probe.gatway] | did you mean "gateway"?']),
        ('probe = { type = "tpc" }', ['4:18 error: unknown probe type "tpc" | did you mean "tcp"?']),
        ("probe = []", ['4:9 error: probe is an empty list: for no probe at all write { type = "none" }']),
        ('probe = { use = "a" }\n[probe.a]\nuse = "a"', ["6:7 error: [probe.a] uses itself"]),
        (
            'probe = { type = "tcp", user = "x" }',
            ['4:25 error: unknown key "user" | "user" belongs in a probe of type "mysql", "pgsql", "redis", "pop3" or "imap"'],
        ),
        ('probe = { type = "tcp", intervall = "2s" }', ['4:25 error: unknown key "intervall" | did you mean "interval"?']),
        ("probe = { timeout = 5 }", ['4:21 error: a duration needs a unit: "5s" or "5ms"']),
        ('probe = { type = "mysql" }', ['4:1 error: "user" is missing in this mysql probe']),
        ('[probe.unused]\ntype = "tcp"\nfall = 0', ["6:8 error: fall = 0 is too small: at least 1"]),
        ("probe = { use = [] }", ["4:17 error: use must be the name of a [probe.NAME], not a list"]),
        ("probe = { use = { a = 1 } }", ["4:17 error: use must be the name of a [probe.NAME], not a table"]),
        (
            '[defaults.probe]\ntype = "tpc"',
            ['5:8 error: unknown probe type "tpc" | did you mean "tcp"?'],
        ),
        ("[defaults.probe]\nfal = 5", ['5:1 error: unknown key "fal" | did you mean "fall"?']),
        ('[defaults.probe]\ntype = "tcp"\nquery = "x A"', ['6:1 error: "query" is not a key of a tcp probe']),
    ],
)  # fmt: skip
def test_mistakes_in_probes(said, rest, expected):
    """A mistake in a probe is one error at the word that is wrong."""
    assert said(service(rest=rest)) == expected


def test_a_default_type_that_is_none(said):
    """A type in [defaults.probe] that is not a string is reported at its place."""
    assert [line[:11] for line in said(service(rest="[defaults.probe]\ntype = []"))] == ["5:8 error: "] * 2


def test_forms_that_are_no_probe(said):
    """A number is no probe, and the error lists the forms."""
    assert "probe must be a table" in said(service(rest="probe = 5"))[0]
    assert "probe must be a table" in said(service(rest="probe = [5]"))[0]


def test_a_udp_services_probe_says_its_type(said):
    """There is no usual probe for UDP: a probe without a type is asked for one."""
    assert '"type" is missing: one of "tcp", "udp"' in said(service('"10.0.0.10:514/udp"', "probe = { fall = 2 }"))[0]


def test_secrets_are_looked_for_and_never_kept(write, tmp_path):
    """S6: a password file that is missing or that everybody may read is reported; its contents never enter the configuration."""
    secret = tmp_path / "pw"
    text = service('"10.0.0.10:3306/tcp"', f'probe = {{ type = "mysql", user = "x", password-file = "{secret}" }}')
    _, found = diagnose(write(text))
    assert [(item.severity, "no such file" in item.message) for item in found] == [("error", True)]
    secret.write_text("hunter2")
    secret.chmod(0o644)
    config, found = diagnose(write(text))
    assert "everybody can read it" in found[0].message
    assert "hunter2" not in config.model_dump_json()
    secret.chmod(0o600)
    assert diagnose(write(text))[1] == []


def test_the_services_proxy_header_is_the_probes(loaded):
    """T22: a probe speaks the PROXY protocol as the service does, unless it says otherwise."""
    assert probes(loaded(service(rest='send-proxy = "v2"')))[0].send_proxy == "v2"
    assert probes(loaded(service(rest='send-proxy = "v2"\nprobe = { send-proxy = "off" }')))[0].send_proxy == "off"
