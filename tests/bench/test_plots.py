"""The pictures of results."""

import pytest

from bench.plots import write
from tests.bench.samples import compared, scaled


@pytest.mark.parametrize("made", [compared(), scaled()])
def test_pictures_are_png_and_svg(tmp_path, made):
    """Each result gives a PNG and an SVG beside its JSON file."""
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    png, svg = write(made, tmp_path / "result.json")
    assert (png.name, svg.name) == ("result.png", "result.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in svg.read_bytes()
