"""The JSON Schema of the file, for editors: `python -m proxy.config.schema > proxy/config/schema.json`.

The schema is generated from the models that check the file, and it is a little more lenient: only `steelyard check` knows
whether a name exists or two keys fit together. In place of any value, a table of values keyed by node is allowed.
"""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from health.spec import PROBE_TYPES
from proxy.config.model import NotifySettings, SyncGroup, VrrpSettings
from proxy.config.settings import ControlSettings, LogSettings, NodeSettings, PairSettings, WebSettings
from proxy.config.tables import BackendTable, DefaultsTable, ServiceTable
from proxy.config.types import NAME_PATTERN

SHIPPED: Final = Path(__file__).with_name("schema.json")

Schema = dict[str, Any]


def generate() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a configuration file, as tomllib reads it."""
    definitions: Schema = {}
    for model in (
        NodeSettings, ControlSettings, PairSettings, WebSettings, LogSettings, DefaultsTable, ServiceTable, BackendTable,
        VrrpSettings, SyncGroup, NotifySettings,
    ):  # fmt: skip
        _define(model, definitions)
    definitions["Probe"] = _probe()
    probe = {
        "anyOf": [
            {"type": "string"},
            _ref("Probe"),
            {"type": "array", "items": {"anyOf": [{"type": "string"}, _ref("Probe")]}},
        ]
    }
    for name in ("ServiceTable", "BackendTable", "BackendDefaults"):
        definitions[name]["properties"]["probe"] = probe
    definitions["DefaultsTable"]["properties"] |= {"probe": _ref("Probe"), "vrrp": _ref("VrrpSettings")}
    backend = {"anyOf": [{"type": "string"}, _ref("BackendTable")]}
    definitions["ServiceTable"]["properties"]["backends"] = {"type": "array", "items": backend, "minItems": 1}
    members = definitions["VrrpSettings"]["properties"]["members"]
    members["additionalProperties"] = _or_one(members["additionalProperties"])
    web = definitions["WebSettings"]["properties"]
    web["listen"] = _or_one(web["listen"])
    definitions["SyncGroup"]["properties"].pop("name")
    for name, definition in definitions.items():
        if name != "BackendTable":
            definition.pop("required", None)  # [defaults], `use` or the host may supply it
        _by_node(definition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Steelyard configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "nodes": {"type": "array", "items": {"type": "string", "pattern": NAME_PATTERN}, "uniqueItems": True},
            "include": {"type": "array", "items": {"type": "string", "pattern": "^/"}},
            "node": _node_or(_ref("NodeSettings")),
            "control": _node_or(_ref("ControlSettings")),
            "pair": _node_or(_ref("PairSettings")),
            "web": _node_or(_ref("WebSettings")),
            "log": _node_or(_ref("LogSettings")),
            "defaults": _node_or(_ref("DefaultsTable")),
            "probe": _named("Probe"),
            "service": _named("ServiceTable"),
            "vrrp": _named("VrrpSettings"),
            "sync-group": _named("SyncGroup"),
            "notify": _named("NotifySettings"),
        },
        "$defs": dict(sorted(definitions.items())),
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _named(name: str) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": _node_or(_ref(name)),
    }


def _node_or(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "object", "minProperties": 1, "additionalProperties": schema}]}


def _or_one(schema: Schema) -> Schema:
    """Return the schema of a list, or of one element in place of the list."""
    return {"anyOf": [schema["items"], schema]}


def _define(model: type[BaseModel], definitions: Schema) -> None:
    schema = model.model_json_schema(by_alias=True, mode="validation", ref_template="#/$defs/{model}")
    definitions |= {name: _plain(inner) for name, inner in schema.pop("$defs", {}).items()}
    definitions[model.__name__] = _plain(schema)


def _plain(schema: Any) -> Any:
    """Return the schema without titles, and without the nulls that TOML does not have."""
    if isinstance(schema, list):
        return [_plain(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    kept: Schema = {
        key: {name: _plain(value) for name, value in inner.items()} if key == "properties" else _plain(inner)
        for key, inner in schema.items()
        if key != "title" and not (key == "default" and _is_ours(inner))
    }
    if "description" in kept and kept.get("type") == "object":
        kept["description"] = kept["description"].partition("\n")[0]
    options = [option for option in kept.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        del kept["anyOf"]
        kept |= options[0]
    elif options:
        kept["anyOf"] = options
    return kept


def _is_ours(default: Any) -> bool:
    """Return True for a default that a file cannot express: None, seconds as a number, a whole table."""
    return default is None or isinstance(default, (float, dict))


def _probe() -> Schema:
    """Return one table with the keys of all probes: the type, which `use` may supply, decides which keys are allowed."""
    properties: dict[str, list[Schema]] = {"use": [{"type": "string"}], "type": [{"enum": list(PROBE_TYPES)}]}
    for model in PROBE_TYPES.values():
        schema = _plain(model.model_json_schema(by_alias=True, mode="validation"))
        for key, inner in schema["properties"].items():
            bare = {name: value for name, value in inner.items() if name != "default"}
            found = properties.setdefault(key, [])
            if key != "type" and bare not in found:
                found.append(bare)
    properties["rcode"] = [_or_one(properties["rcode"][0])]
    return {
        "type": "object",
        "description": "A probe.",
        "additionalProperties": False,
        "properties": {key: found[0] if len(found) == 1 else {"anyOf": found} for key, found in properties.items()},
    }


def _by_node(definition: Schema) -> None:
    properties: Schema = definition.get("properties", {})
    definition["properties"] = {
        key: schema if key == "members" else _node_or(schema) for key, schema in properties.items()
    }


def text() -> str:
    """Return the text of the shipped schema."""
    return json.dumps(generate(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(text())
