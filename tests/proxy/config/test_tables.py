"""The forms of the file that differ from what becomes of them."""

import pytest
from pydantic import ValidationError

from proxy.config.tables import BackendDefaults, BackendTable, ServiceTable


def test_a_backup_is_a_tier():
    """`backup = true` and `tier = 1` say the same and may stand together; another tier contradicts it."""
    assert BackendDefaults(backup=True, tier=1).tier == 1
    with pytest.raises(ValidationError, match="backup = true means tier = 1"):
        BackendDefaults(backup=True, tier=0)


def test_an_address_with_a_port_is_explained():
    """In a backend's table the port is a key of its own."""
    with pytest.raises(ValidationError, match=r'write address = "10\.0\.0\.1", port = 80'):
        BackendTable(address="10.0.0.1:80")
    assert BackendTable(address="[2001:db8::1]").address == "2001:db8::1"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\x1bb", "x" * 129])
def test_a_backends_name_fits_a_key(name):
    """A backend's name has no blank, slash or control character: `service/backend` is a key, and logs are read by people."""
    with pytest.raises(ValidationError):
        BackendTable(address="10.0.0.1", name=name)


def test_a_service_needs_someone_who_listens_and_someone_who_serves():
    """`listen` and `backends` are the two keys without a default."""
    with pytest.raises(ValidationError) as error:
        ServiceTable()
    assert [item["loc"] for item in error.value.errors()] == [("listen",), ("backends",)]
