"""The flag that writes the transcripts anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known to `pytest tests/vrrp`."""
    parser.addoption("--regenerate", action="store_true", help="write the output of the transcripts anew")


@pytest.fixture
def regenerate(pytestconfig):
    """Whether to write instead of to compare."""
    return pytestconfig.getoption("regenerate", default=False)
