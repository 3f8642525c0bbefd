"""The agent manifest: what a developer declares, and what the platform then enforces.

The scanner compares the code with the declared capabilities, the sandbox and its egress broker
enforce the same declaration at run time (frameos-agent-runtime-flows, publishing flow, step 2).
The JSON Schema published as ``docs/manifest.schema.json`` is generated from these models.
"""

import json
import re
from enum import StrEnum
from typing import Any, Self, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from models.errors import InvalidRequestError

MAX_TIMEOUT_MS = 300_000
MIN_MEMORY_MB = 32
MAX_MEMORY_MB = 2_048
MAX_AMOUNT_MINOR = 100_000_000
MAX_SCHEMA_BYTES = 65_536
MAX_SCHEMA_DEPTH = 32
SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"

# https://semver.org, the regular expression of the 2.0.0 specification's FAQ.
SEMVER_PATTERN = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)
SLUG_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"
HOST_PATTERN = r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])$"
HEADER_PATTERN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$"
ENTRY_POINT_PATTERN = r"^(?!/)(?!.*(?:^|/)\.{1,2}(?:/|$))(?!.*//)[^\\\x00-\x1f\x7f]{1,200}$"
ALIAS_PATTERN = r"^[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?$"

ENTRY_POINT_SUFFIXES: dict[str, tuple[str, ...]] = {
    "python": (".py",),
    "node": (".js", ".mjs", ".cjs"),
}

JsonObject: TypeAlias = dict[str, Any]


class Runtime(StrEnum):
    """The interpreters of the sandbox image."""

    PYTHON = "python"
    NODE = "node"


class Capability(StrEnum):
    """What code may touch beyond computing on its inputs. Undeclared use is sent to review."""

    FILESYSTEM = "filesystem"
    NETWORK = "network"
    PROCESS = "process"
    THREAD = "thread"
    NATIVE = "native"
    DYNAMIC_CODE = "dynamic_code"
    ENVIRONMENT = "environment"
    DESERIALISATION = "deserialisation"


class PricingModel(StrEnum):
    """How an execution is charged."""

    FREE = "free"
    PER_EXECUTION = "per_execution"


class HttpMethod(StrEnum):
    """Request methods the egress broker can allow for a host."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"


class _Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False)


class Pricing(_Declaration):
    """The price of one execution, in minor units of a currency.

    Attributes:
        model: ``free`` (amount is 0) or ``per_execution`` (amount is at least 1).
        amount: Minor units, e.g. 50 is ₹0.50.
        currency: ISO 4217 code.
    """

    model: PricingModel = PricingModel.FREE
    amount: StrictInt = Field(default=0, ge=0, le=MAX_AMOUNT_MINOR)
    currency: StrictStr = Field(default="INR", pattern=r"^[A-Z]{3}$")

    @model_validator(mode="after")
    def _amount_fits_model(self) -> Self:
        if self.model is PricingModel.FREE and self.amount != 0:
            raise ValueError("amount must be 0 when model is 'free'; set 0 or choose 'per_execution'")
        if self.model is PricingModel.PER_EXECUTION and self.amount < 1:
            raise ValueError("amount must be at least 1 when model is 'per_execution'; set it or use 'free'")
        return self


class CredentialInjection(_Declaration):
    """A secret of the deployment's config that the egress broker adds to requests to one host.

    The value never enters the container.

    Attributes:
        header: Name of the request header that carries the secret.
        config_key: Top-level property of ``config_schema`` that holds it.
        prefix: Text before the secret, e.g. ``"Bearer "``.
    """

    header: StrictStr = Field(pattern=HEADER_PATTERN)
    config_key: StrictStr = Field(min_length=1, max_length=100)
    prefix: StrictStr = Field(default="", max_length=32, pattern=r"^[\x20-\x7e]*$")


class NetworkHost(_Declaration):
    """One declared egress destination; everything else is refused by the broker.

    Attributes:
        host: Fully qualified DNS name, lower case; no addresses, no wildcards.
        port: TCP port.
        methods: Allowed request methods; all when absent.
        max_bytes: Cap on bytes in both directions per execution; the platform's default when absent.
        alias: Name for ``http://egress/<alias>/…``; the host when absent.
        credential: Secret that the broker injects for this host only.
    """

    host: StrictStr = Field(pattern=HOST_PATTERN, max_length=253)
    port: StrictInt = Field(default=443, ge=1, le=65_535)
    methods: list[HttpMethod] | None = Field(default=None, min_length=1)
    max_bytes: StrictInt | None = Field(default=None, ge=1, le=1 << 30)
    alias: StrictStr | None = Field(default=None, pattern=ALIAS_PATTERN)
    credential: CredentialInjection | None = None


class AgentManifest(_Declaration):
    """``manifest.json`` of an agent.

    Attributes:
        name: Display name.
        slug: Marketplace name, owned by the first developer who registers it.
        version: SemVer 2.0; immutable once published.
        description: What the agent does, for the marketplace page.
        category: Marketplace category, lower case.
        runtime: Interpreter.
        entry_point: Relative path of the file that is run.
        input_schema: JSON Schema 2020-12 of the inputs (an object).
        output_schema: JSON Schema 2020-12 of the outputs.
        config_schema: JSON Schema 2020-12 of a deployment's config (an object).
        pricing: Price of one execution.
        timeout_ms: Wall-clock limit of one execution in milliseconds.
        memory_mb: Memory limit in MiB.
        network: Declared egress.
        capabilities: What the code touches; enforced by the sandbox.
        retry_on_failure: Whether the agent's own failure may be retried (it must be idempotent).
        author: Name shown on the marketplace page.
    """

    name: StrictStr = Field(min_length=1, max_length=120)
    slug: StrictStr = Field(pattern=SLUG_PATTERN)
    version: StrictStr = Field(pattern=SEMVER_PATTERN, max_length=64)
    description: StrictStr = Field(min_length=1, max_length=4_000)
    category: StrictStr = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,48}$")
    runtime: Runtime
    entry_point: StrictStr = Field(pattern=r"^[^\\\x00-\x1f\x7f]{1,200}$")
    input_schema: JsonObject = Field(default_factory=lambda: {"type": "object"})
    output_schema: JsonObject = Field(default_factory=lambda: {"type": "object"})
    config_schema: JsonObject = Field(default_factory=lambda: {"type": "object"})
    pricing: Pricing = Field(default_factory=Pricing)
    timeout_ms: StrictInt = Field(default=30_000, ge=1, le=MAX_TIMEOUT_MS)
    memory_mb: StrictInt = Field(default=256, ge=MIN_MEMORY_MB, le=MAX_MEMORY_MB)
    network: list[NetworkHost] = Field(default_factory=list, max_length=32)
    capabilities: list[Capability] = Field(default_factory=list)
    retry_on_failure: StrictBool = False
    author: StrictStr | None = Field(default=None, min_length=1, max_length=200)

    @field_validator("entry_point")
    @classmethod
    def _entry_point_stays_inside(cls, value: str) -> str:
        if re.match(ENTRY_POINT_PATTERN, value) is None:
            raise ValueError("must be a relative path inside the archive, without '.' or '..' parts")
        return value

    @field_validator("input_schema", "output_schema", "config_schema")
    @classmethod
    def _is_a_json_schema(cls, value: JsonObject) -> JsonObject:
        _check_json_schema(value)
        return value

    @field_validator("input_schema", "config_schema")
    @classmethod
    def _describes_an_object(cls, value: JsonObject) -> JsonObject:
        if value.get("type") != "object":
            raise ValueError('must describe an object; add "type": "object"')
        return value

    @field_validator("capabilities")
    @classmethod
    def _names_each_capability_once(cls, value: list[Capability]) -> list[Capability]:
        if len(set(value)) != len(value):
            raise ValueError("must name each capability once; remove the repetition")
        return value

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        suffixes = ENTRY_POINT_SUFFIXES[self.runtime.value]
        if not self.entry_point.endswith(suffixes):
            raise ValueError(
                f"entry_point must end in {' or '.join(suffixes)} for runtime '{self.runtime.value}'"
            )
        if self.network and Capability.NETWORK not in self.capabilities:
            raise ValueError("network lists hosts, so capabilities must contain 'network'; add it")
        seen: set[str] = set()
        for entry in self.network:
            alias = entry.alias or entry.host
            key = alias if entry.alias else f"{alias}:{entry.port}"
            if key in seen:
                raise ValueError(f"network names '{key}' twice; remove one entry or give it an alias")
            seen.add(key)
            properties = self.config_schema.get("properties", {})
            if entry.credential is not None and entry.credential.config_key not in properties:
                raise ValueError(
                    f"network credential for '{entry.host}' names config key "
                    f"'{entry.credential.config_key}', which config_schema.properties does not define; add it"
                )
        return self


class InvalidManifestError(InvalidRequestError):
    """The manifest breaks its schema; ``details["fields"]`` has field, rule and remedy of each breach."""

    code = "INVALID_MANIFEST"

    def __init__(self, fields: list[dict[str, str]]) -> None:
        names = ", ".join(sorted({entry["field"] for entry in fields})[:10])
        super().__init__(
            f"The manifest is invalid in {len(fields)} place(s): {names}. Correct each field as described.",
            details={"fields": fields},
        )


_REMEDIES = {
    "missing": "Add this field to the manifest.",
    "extra_forbidden": "Remove this field; the manifest has a closed set of fields.",
    "string_type": "Write a JSON string.",
    "int_type": "Write a JSON integer, without quotes or fraction.",
    "bool_type": "Write true or false.",
    "dict_type": "Write a JSON object.",
    "list_type": "Write a JSON array.",
    "model_type": "Write a JSON object.",
    "model_attributes_type": "Write a JSON object.",
    "enum": "Use one of the values named in the rule.",
    "literal_error": "Use one of the values named in the rule.",
    "string_pattern_mismatch": "Change the value so that it matches the pattern.",
    "string_too_short": "Write a longer value.",
    "string_too_long": "Shorten the value.",
    "greater_than_equal": "Choose a value within the bounds.",
    "less_than_equal": "Choose a value within the bounds.",
    "too_long": "Remove entries.",
    "too_short": "Add an entry, or leave the field out.",
}


def parse_manifest(data: object) -> AgentManifest:
    """Validate a decoded ``manifest.json``.

    Args:
        data: The JSON value.

    Raises:
        InvalidManifestError: Naming every failing field with its rule and remedy.
    """
    try:
        return AgentManifest.model_validate(data)
    except ValidationError as error:
        raise InvalidManifestError(_field_errors(error)) from None


def _field_errors(error: ValidationError) -> list[dict[str, str]]:
    fields: list[dict[str, str]] = []
    for entry in error.errors(include_url=False, include_input=False, include_context=False):
        kind = entry["type"]
        message = entry["msg"].removeprefix("Value error, ")
        path = ".".join(str(part) for part in entry["loc"])
        if not path and kind == "value_error":
            path = message.split(" ", 1)[0]
        fields.append(
            {
                "field": path or "manifest",
                "rule": message[:500],
                "remedy": _REMEDIES.get(kind, "Change the value so that the rule holds."),
            }
        )
    return fields


def manifest_json_schema() -> JsonObject:
    """Return the JSON Schema 2020-12 that ``docs/manifest.schema.json`` publishes."""
    schema = AgentManifest.model_json_schema()
    return {"$schema": SCHEMA_ID, "title": "Switchyard agent manifest", **schema}


def _check_json_schema(value: JsonObject) -> None:
    try:
        size = len(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must hold JSON values only") from None
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"must be at most {MAX_SCHEMA_BYTES} bytes as JSON; simplify it")
    declared = value.get("$schema")
    if declared is not None and str(declared).rstrip("#") != SCHEMA_ID:
        raise ValueError(f"must use JSON Schema 2020-12; set $schema to {SCHEMA_ID} or leave it out")
    _check_references(value, 0)
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        path = "/".join(str(part) for part in error.absolute_path)
        raise ValueError(f"is not a valid JSON Schema 2020-12 at '{path}': {error.message[:200]}") from None
    except (re.error, RecursionError) as error:
        raise ValueError(f"is not a valid JSON Schema 2020-12: {str(error)[:200]}") from None


def secret_config_keys(manifest: AgentManifest) -> set[str]:
    """Name the configuration's values that must never enter a container.

    Those are every value that the egress broker injects, and every property that the configuration's schema
    marks ``writeOnly`` or of format ``password`` (JSON Schema 2020-12 §9.4, §7.3).
    """
    injected = {host.credential.config_key for host in manifest.network if host.credential is not None}
    properties: dict[str, Any] = manifest.config_schema.get("properties", {})
    marked = {
        name
        for name, schema in properties.items()
        if isinstance(schema, dict)
        and (schema.get("writeOnly") is True or schema.get("format") == "password")
    }
    return injected | marked


def _check_references(value: object, depth: int) -> None:
    if depth > MAX_SCHEMA_DEPTH:
        raise ValueError(f"must be nested at most {MAX_SCHEMA_DEPTH} levels deep; flatten it")
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(item, str) and not item.startswith("#"):
                raise ValueError("may refer only to itself; write references that start with '#'")
            _check_references(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_references(item, depth + 1)
