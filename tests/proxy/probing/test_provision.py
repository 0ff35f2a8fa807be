"""What the health process is given, at its start and when other backends are probed."""

import socket

import pytest

from proxy.config.loader import load, resolve_backend
from proxy.probing import icmp_sockets
from proxy.probing.provision import Means
from proxy.processes.messages import health as health_messages

FILE = """
[node]
name = "n"
[service.db]
listen = ["192.0.2.10:3306/tcp"]
backends = [{{ address = "192.0.2.1", probe = {{ type = "ping" }} }}]
probe = [{{ type = "mysql", user = "probe", password-file = "{secret}" }}, {{ type = "ping" }}]
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "secret").write_text("hush")
    (tmp_path / "secret").chmod(0o600)
    path = tmp_path / "f.toml"
    path.write_text(FILE.format(secret=tmp_path / "secret"))
    return load(path)


def with_backend(config, address):
    """The configuration with one more backend, which has the service's probes."""
    (service,) = config.services
    more = (*service.backends, resolve_backend(config, "db", address))
    return config.model_copy(update={"services": (service.model_copy(update={"backends": more}),)})


def test_other_backends_need_other_means(config, monkeypatch, tmp_path):
    """H8, H10: a backend that is added gets the password and the sockets that its probes need, once, as those of the file."""
    monkeypatch.setattr(icmp_sockets, "allowed", lambda gid: False)
    monkeypatch.setattr(icmp_sockets, "open_raw", lambda version: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    told = []
    means = Means(config, None, lambda *what: told.append(what))
    try:
        assert [type(message) for message, _ in means.handover()] == [health_messages.Secrets, health_messages.Icmp]
        assert means.handover()[0][0].files == {}
        four = means.relisted(with_backend(config, "192.0.2.2"))
        assert [list(message.files) for message, _ in four] == [[str(tmp_path / "secret")]]
        six = means.relisted(with_backend(config, "2001:db8::2"))
        assert [(type(message), len(fds)) for message, fds in six] == [(health_messages.Icmp, 1)]
        assert means.relisted(with_backend(config, "2001:db8::3")) == []
        assert [len(fds) for _, fds in means.handover()] == [0, 2]
        assert told == []
    finally:
        means.close()


def test_what_cannot_be_had_is_told(config, monkeypatch, tmp_path):
    """H8, H13: a password file that cannot be read and a socket that is refused are told, when a backend comes that needs them."""
    monkeypatch.setattr(icmp_sockets, "allowed", lambda gid: False)

    def refused(version):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(icmp_sockets, "open_raw", refused)
    told = []
    means = Means(config, None, lambda *what: told.append(what))
    assert len(means.faults) == 1
    (tmp_path / "secret").unlink()
    means.relisted(with_backend(config, "2001:db8::2"))
    assert [fault for _, fault in told] == [True, True]
    assert "cannot ping" in told[0][0]
    assert "secret" in told[1][0]
    means.close()
