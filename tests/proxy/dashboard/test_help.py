"""proxy.dashboard.help: the page of help."""

import pytest

from proxy.dashboard import help as helping
from proxy.dashboard.acts import KEYS
from proxy.dashboard.text import UNICODE, length, plain


@pytest.mark.parametrize("cells", [40, 80, 200])
def test_it_fits(cells):
    """No line of the page is wider than the screen."""
    assert max(length(line) for line in helping.lines(cells, UNICODE, writable=True)) <= cells


def test_every_act_has_its_key():
    """With --rw each act is explained by its key; without, the page says that nothing can be changed."""
    text = "\n".join(plain(line) for line in helping.lines(120, UNICODE, writable=True))
    for key, command in KEYS.items():
        assert any(line.startswith(f"   {key} ") and command in line for line in text.splitlines())
    assert "nothing can be changed" in "\n".join(plain(line) for line in helping.lines(120, UNICODE, writable=False))


def test_every_column_is_explained(scene):
    """Each heading of the list, at every width, is on the page."""
    from proxy.dashboard import table

    text = "\n".join(plain(line) for line in helping.lines(120, UNICODE, writable=False))
    for cells in (80, 120, 200):
        heads = plain(table.heading(table.columns(scene.status, cells, UNICODE, scene.taken)))
        for head in heads.replace("SERVICE / BACKEND", "").replace("LAST PROBE SAYS", "").split():
            assert head in text
