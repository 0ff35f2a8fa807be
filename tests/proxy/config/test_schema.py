"""The JSON Schema that is shipped, and the reference: both know every key."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from health.spec import PROBE_TYPES
from proxy.config.model import Announce, Auth, NotifySettings, SyncGroup, Track, VrrpSettings
from proxy.config.schema import SHIPPED, generate, text
from proxy.config.settings import (
    ControlSettings,
    DnsSettings,
    Eject,
    LogSettings,
    NodeSettings,
    PairSettings,
    Persistence,
    Queue,
    ServiceSettings,
    TcpSettings,
    UdpSettings,
    WebSettings,
)
from proxy.config.tables import BackendTable, FileTable, ServiceTable
from proxy.config.validate import keys_of

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def fits(value, schema, root):
    """Tell whether a value fits a schema: as much of draft 2020-12 as ours uses, and an error for anything else."""
    known = {
        "$ref", "$schema", "$defs", "title", "description", "default", "anyOf", "type", "enum", "const", "properties", "required",
        "additionalProperties", "propertyNames", "minProperties", "items", "minItems", "maxItems", "uniqueItems", "pattern", "minLength",
        "maxLength", "minimum", "maximum",
    }  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": (int, float)}
    wanted = schema.get("type")
    checks = [
        wanted is None or (isinstance(value, types[wanted]) and (wanted == "boolean" or not isinstance(value, bool))),
        "anyOf" not in schema or any(fits(value, option, root) for option in schema["anyOf"]),
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
    ]
    if isinstance(value, str):
        checks += [
            "pattern" not in schema or bool(re.search(schema["pattern"], value)),
            len(value) >= schema.get("minLength", 0),
        ]
    if isinstance(value, int) and not isinstance(value, bool):
        checks += [value >= schema.get("minimum", value), value <= schema.get("maximum", value)]
    if isinstance(value, list):
        checks += [
            len(value) >= schema.get("minItems", 0),
            all(fits(each, schema.get("items", {}), root) for each in value),
        ]
    if isinstance(value, dict):
        checks += [set(schema.get("required", ())) <= set(value), len(value) >= schema.get("minProperties", 0)]
        for key, inner in value.items():
            rest = schema.get("additionalProperties", {})
            found = schema.get("properties", {}).get(key, rest)
            checks.append(found is not False and fits(inner, found, root))
            checks.append("propertyNames" not in schema or fits(key, schema["propertyNames"], root))
    return all(checks)


def test_the_shipped_schema_is_current():
    """schema.json is what the models say: `python -m proxy.config.schema > proxy/config/schema.json` changes nothing."""
    assert SHIPPED.read_text() == text()


def test_every_reference_within_the_schema_leads_somewhere():
    """No $ref of the schema dangles."""
    schema = json.loads(SHIPPED.read_text())
    assert {name.rpartition("/")[2] for name in re.findall(r'"\$ref": "([^"]+)"', text())} <= set(schema["$defs"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_fit_the_schema(path):
    """Whatever an example says, an editor with the schema accepts."""
    schema = generate()
    assert fits(tomllib.loads(path.read_text()), schema, schema)


@pytest.mark.parametrize(
    "source",
    [
        "bogus = 1", "[node]\nworker = 2", '[node]\nworkers = "2"', '[service.a]\nlisten = "x"', '[service.a]\nscheduler = "zzz"',
        "[service.a.tcp]\nidle-timeout = 5", '[probe.a]\ntype = "zzz"', "[probe.a]\nfall = 0", "[vrrp.a]\nvrid = 256",
        "[service.a]\nbackends = [{ weight = 1 }]", '[service."a b"]', '[node]\nworkers = { lb1 = 1, lb2 = "x" }',
    ],
)  # fmt: skip
def test_the_schema_finds_mistakes(source):
    """An editor with the schema marks unknown keys, wrong types and values out of bounds."""
    schema = generate()
    assert not fits(tomllib.loads(source), schema, schema)


@pytest.mark.parametrize(
    "source",
    [
        'nodes = ["a", "b"]\n[node]\nworkers = { a = 1, b = 2 }', '[service.a]\nlisten = { a = ["*:1/tcp"], b = ["*:2/tcp"] }',
        '[service.a]\nprobe = ["x", { use = "x", fall = 2 }]', '[web]\nlisten = "127.0.0.1:9600"', '[vrrp.a]\nmembers = { a = "10.0.0.1" }',
        '[probe.a]\nrcode = "NOERROR"', '[probe.a]\nrcode = ["NOERROR"]', "[defaults.vrrp]\npriority = { a = 1 }",
        '[service.a.tcp]\nidle-timeout = "never"', "[node.a]\nworkers = 1\n[node.b]\nworkers = 2",
    ],
)  # fmt: skip
def test_the_schema_accepts_every_form(source):
    """Values keyed by node, one value for a list of one, names for probes: an editor accepts what check accepts."""
    schema = generate()
    assert fits(tomllib.loads(source), schema, schema)


REFERENCE = (ROOT / "docs" / "reference" / "configuration.md").read_text()
SECTIONS = {
    "The top of the file": [FileTable],
    "[node]": [NodeSettings],
    "[control]": [ControlSettings],
    "[pair]": [PairSettings],
    "[web]": [WebSettings],
    "[log]": [LogSettings],
    "[service.NAME]": [ServiceSettings, ServiceTable, Persistence, Queue, Eject],
    "[service.NAME.tcp]": [TcpSettings],
    "[service.NAME.udp]": [UdpSettings],
    "[service.NAME.dns]": [DnsSettings],
    "Backends": [BackendTable],
    "[vrrp.NAME]": [VrrpSettings, Track, Announce, Auth],
    "[sync-group.NAME]": [SyncGroup],
    "[notify.NAME]": [NotifySettings],
    "Probes": list(PROBE_TYPES.values()),
}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_reference_explains_every_key(title):
    """Each key of a table has a row in that table's section of docs/reference/configuration.md, and each row is a key."""
    found = re.search(rf"^## `?{re.escape(title)}`?\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    rows = {
        key
        for cell in re.findall(r"^\| (`[^|]*?) \|", found[1], re.MULTILINE)
        for key in re.findall(r"`([^`]+)`", cell)
    }
    keys = {key for model in SECTIONS[title] for key in keys_of(model)} - (
        {"name"} if title == "[sync-group.NAME]" else set()
    )
    extra = {"use"} if title == "Probes" else set()
    assert rows == keys | extra


def test_the_examples_of_the_reference_are_toml():
    """Each block of TOML in the reference is TOML and fits the schema."""
    schema = generate()
    blocks = re.findall(r"```toml\n(.*?)```", REFERENCE, re.DOTALL)
    assert len(blocks) >= 10
    for block in blocks:
        assert fits(tomllib.loads(block), schema, schema), block
