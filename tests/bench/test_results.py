"""The JSON of results."""

import json

import pytest

from bench.results import Result
from tests.bench.samples import compared, scaled


@pytest.mark.parametrize("made", [compared(), scaled()])
def test_a_result_is_read_as_it_was_written(tmp_path, made):
    """What is read from the file of a result equals what was written, raw runs and all."""
    path = tmp_path / "new" / "result.json"
    made.write(path)
    assert Result.read(path) == made


def test_another_format_is_refused(tmp_path):
    """A file of another format raises an error, and is not misread."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Result.read(path)
