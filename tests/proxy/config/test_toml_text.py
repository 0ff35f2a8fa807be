"""Keys and values as they are written in a file."""

import math
import tomllib
from pathlib import Path

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from health import spec
from proxy.config import model, settings, tables
from proxy.config.toml_text import DURATIONS, key_text, value_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXTS, st.lists(TEXTS)))
def test_what_is_written_is_read_back(key, value):
    """A key and a value in TOML are read as the same key and value."""
    assert tomllib.loads(f"{key_text(key)} = {value_text('', value)}") == {key: value}


def test_durations_have_units():
    """A number of seconds is written with a unit, if its key is a duration's; a share in percent."""
    assert value_text("idle-timeout", 90.0) == '"90s"'
    assert value_text("idle-timeout", math.inf) == '"never"'
    assert value_text("weight", 90) == "90"
    assert value_text("max-share", 0.25) == '"25%"'


def durations(kind, seen):
    """Yield the file's keys of a model and the models in it that are durations."""
    if kind in seen:
        return
    seen.add(kind)
    schema = kind.model_json_schema(by_alias=True, mode="validation")
    for table in [schema, *schema.get("$defs", {}).values()]:
        for key, value in table.get("properties", {}).items():
            if any("never" in option.get("pattern", "") for option in [value, *value.get("anyOf", ())]):
                yield key


@pytest.mark.parametrize("module", [model, settings, tables, spec], ids=lambda module: Path(module.__file__).stem)
def test_every_duration_has_its_unit(module):
    """Each key of the file that holds a duration is known as one, so that no number is printed without its unit."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)]
    seen = set()
    found = {key for kind in kinds for key in durations(kind, seen)}
    assert found <= DURATIONS, found - DURATIONS
    assert found
