"""What the demo says where it gets no namespaces; that it works where it does is in tests/e2e/test_demo_pair.py."""

import errno
import os

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.demo import namespaces


def refuse(number, monkeypatch):
    def call(name, *_):
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr(namespaces, "_call", call)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC])
def test_a_refusal_says_what_to_do(number, monkeypatch):
    """Where neither root nor a user namespace is to be had, the command says so, names the sysctls, and exits with 1."""
    refuse(number, monkeypatch)
    done = CliRunner().invoke(main, ["demo", "--pair"])
    assert done.exit_code == 1
    assert os.strerror(number) in done.output
    assert "sudo steelyard demo --pair" in done.output
    assert "user.max_user_namespaces" in done.output


def test_a_kernel_without_namespaces(monkeypatch):
    """A kernel that does not know them is named as the reason: no right would help."""
    refuse(errno.EINVAL, monkeypatch)
    with pytest.raises(namespaces.NamespaceError, match="lacks namespaces"):
        namespaces.enclosed(lambda: 0)
