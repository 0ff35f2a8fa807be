"""What the tests of the web room share."""

import pytest

from tests.proxy.web.bed import Bed


@pytest.fixture
async def bed():
    """A server that listens; it is closed afterwards."""
    made = await Bed().start()
    yield made
    await made.server.close(0.0)
