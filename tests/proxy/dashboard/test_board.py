"""proxy.dashboard.board: the whole picture as lines."""

import pytest

from proxy.dashboard.board import Scene, once
from proxy.dashboard.text import length, plain


@pytest.mark.parametrize("cells", [40, 80, 120, 200])
def test_the_table_has_everything(scene, cells):
    """Every service and backend is in the table, nothing is folded, and the last events are below."""
    lines = once(scene, cells, 3)
    assert max(map(length, lines)) <= cells
    text = "\n".join(map(plain, lines))
    for service in scene.status["services"]:
        assert service["name"] in text
        for backend in service["backends"]:
            assert cells < 60 or backend["name"] in text
    assert text.count("verdict") == 2


def test_before_the_first_snapshot():
    """Without a snapshot there is nothing to show."""
    assert once(Scene(), 80, 3) == []
