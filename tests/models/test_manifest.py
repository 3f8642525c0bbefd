import json
from pathlib import Path
from typing import Any

import pytest

from models.manifest import (
    Capability,
    InvalidManifestError,
    PricingModel,
    manifest_json_schema,
    parse_manifest,
)

_ROOT = Path(__file__).resolve().parents[2]


def _valid(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Invoice reader",
        "slug": "invoice-reader",
        "version": "1.0.0",
        "description": "Reads invoices.",
        "category": "finance",
        "runtime": "python",
        "entry_point": "main.py",
        "pricing": {"model": "per_execution", "amount": 50, "currency": "INR"},
        "config_schema": {"type": "object", "properties": {"token": {"type": "string"}}},
        "capabilities": ["network"],
        "network": [
            {"host": "api.example.org", "credential": {"header": "Authorization", "config_key": "token"}}
        ],
        **changes,
    }


def test_a_complete_manifest_is_accepted() -> None:
    manifest = parse_manifest(_valid())
    assert manifest.pricing.model is PricingModel.PER_EXECUTION
    assert manifest.capabilities == [Capability.NETWORK]
    assert manifest.network[0].port == 443
    assert manifest.retry_on_failure is False


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "Bad Slug"}, "slug"),
        ({"version": "1.0"}, "version"),
        ({"version": "01.0.0"}, "version"),
        ({"runtime": "ruby"}, "runtime"),
        ({"entry_point": "../main.py"}, "entry_point"),
        ({"entry_point": "/main.py"}, "entry_point"),
        ({"entry_point": "index.js"}, "entry_point"),
        ({"timeout_ms": 300_001}, "timeout_ms"),
        ({"timeout_ms": "5"}, "timeout_ms"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"memory_mb": 4096}, "memory_mb"),
        ({"memory_mb": True}, "memory_mb"),
        ({"pricing": {"model": "free", "amount": 5}}, "pricing"),
        ({"pricing": {"model": "per_execution", "amount": 0}}, "pricing"),
        ({"pricing": {"model": "per_execution", "amount": 1.5}}, "pricing.amount"),
        ({"pricing": {"model": "per_execution", "amount": 5, "currency": "rupee"}}, "pricing.currency"),
        ({"capabilities": ["everything"]}, "capabilities.0"),
        ({"capabilities": ["network", "network"]}, "capabilities"),
        ({"capabilities": []}, "network"),
        ({"network": [{"host": "10.0.0.1"}]}, "network.0.host"),
        ({"network": [{"host": "*.example.org"}]}, "network.0.host"),
        ({"network": [{"host": "a.example.org", "port": 0}]}, "network.0.port"),
        ({"network": [{"host": "a.example.org"}, {"host": "a.example.org"}]}, "network"),
        ({"config_schema": {"type": "object"}}, "network"),
        ({"input_schema": {"type": "nonsense"}}, "input_schema"),
        ({"input_schema": {"type": "array"}}, "input_schema"),
        ({"output_schema": {"$ref": "https://example.org/schema"}}, "output_schema"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_field_is_named_with_rule_and_remedy(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidManifestError) as refusal:
        parse_manifest(_valid(**changes))
    entries = refusal.value.details["fields"]
    assert field in [entry["field"] for entry in entries]
    assert all(entry["rule"] and entry["remedy"] for entry in entries)
    assert refusal.value.code == "INVALID_MANIFEST"


def test_every_failing_field_is_listed_at_once() -> None:
    with pytest.raises(InvalidManifestError) as refusal:
        parse_manifest({"name": "", "slug": "X"})
    fields = {entry["field"] for entry in refusal.value.details["fields"]}
    assert {"name", "slug", "version", "description", "category", "runtime", "entry_point"} <= fields


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_manifest_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidManifestError):
        parse_manifest(value)


def test_the_published_schema_is_current() -> None:
    published = json.loads((_ROOT / "docs" / "manifest.schema.json").read_text("utf-8"))
    assert published == manifest_json_schema()
