"""Every setting of Switchyard: one field per environment variable, documented where it is declared.

`docs/settings.md` is generated from this module (``python -m models.settings``), so a setting that is
not described here does not exist. Addresses that are set in the environment replace the matching part
of the embedded stack: `switchyard up` starts nothing for them.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.errors import PlatformError


class InvalidSettingsError(PlatformError):
    """An environment variable is missing or malformed; the message names each one and its rule."""

    code = "INVALID_SETTINGS"

    def __init__(self, problems: Mapping[str, str]) -> None:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        super().__init__(
            f"Settings are not usable: {listed}. Correct these environment variables (docs/settings.md).",
            details={"fields": dict(problems)},
        )


@dataclass(frozen=True)
class EncryptionKey:
    """One AES-256 key of the ring.

    Attributes:
        id: Name stored beside each ciphertext; never reused for another key.
        key: 32 bytes.
    """

    id: str
    key: bytes

    def __repr__(self) -> str:
        return f"EncryptionKey(id={self.id!r})"


Port = Annotated[int, Field(ge=1, le=65_535)]


class Settings(BaseSettings):
    """What a process of Switchyard must know about its surroundings."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    # -- Where things are -----------------------------------------------------------------------------
    data_dir: Path = Field(
        default=Path(".switchyard"),
        validation_alias="SWITCHYARD_DATA_DIR",
        description="Directory of the embedded stack: data, logs, secrets.",
    )
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://switchyard_app@127.0.0.1:15432/switchyard"),
        description="PostgreSQL as the application's role, which row-level security binds to one tenant "
        "per transaction.",
    )
    database_platform_url: SecretStr = Field(
        default=SecretStr("postgresql://switchyard_platform@127.0.0.1:15432/switchyard"),
        description="PostgreSQL as the role for work across tenants: event publisher, reapers, payouts.",
    )
    database_owner_url: SecretStr = Field(
        default=SecretStr("postgresql://switchyard_owner@127.0.0.1:15432/switchyard"),
        description="PostgreSQL as the owner of the schema; used by migrations only.",
    )
    temporal_address: str = Field(
        default="127.0.0.1:7233", description="Host and port of the Temporal front end (gRPC)."
    )
    temporal_namespace: str = Field(default="default", description="Temporal namespace.")
    temporal_ui_url: str = Field(
        default="http://127.0.0.1:8233", description="Temporal Web UI, for links in answers and console."
    )
    s3_endpoint_url: str = Field(
        default="http://127.0.0.1:8333", description="Address of the S3 server; empty for AWS itself."
    )
    s3_region: str = Field(default="us-east-1", description="Region that S3 requests are signed for.")
    s3_access_key_id: str = Field(default="", description="S3 access key.")
    s3_secret_access_key: SecretStr = Field(default=SecretStr(""), description="S3 secret key.")
    s3_bucket: str = Field(default="switchyard", min_length=3, max_length=63, description="S3 bucket.")
    docker_host: str = Field(
        default="unix:///var/run/docker.sock", description="Docker Engine that runs the sandbox."
    )
    api_host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    api_port: Port = Field(default=8000, description="Port the API listens on.")
    public_url: str = Field(
        default="http://127.0.0.1:8000", description="Address under which clients reach the API."
    )

    # -- Who may ask ----------------------------------------------------------------------------------
    jwt_jwks_url: str = Field(
        default="", description="JWKS of the identity provider; empty: the embedded issuer's own key."
    )
    jwt_issuer: str = Field(default="switchyard", description="Required `iss` of bearer tokens.")
    jwt_audience: str = Field(default="switchyard-api", description="Required `aud` of bearer tokens.")
    jwt_signing_key_file: Path | None = Field(
        default=None,
        description="Ed25519 private key (PEM) of the embedded issuer (`switchyard login --as`); unset where "
        "an identity provider issues tokens.",
    )
    local_login: bool = Field(
        default=False,
        description="Whether `POST /login` signs people in by name, from this machine only. "
        "`switchyard up` sets it.",
    )
    wallet_top_ups: bool = Field(
        default=False,
        description="Whether wallets are topped up without a payment where Switchyard issues its tokens. "
        "`switchyard up` sets it; leave it off where money is real.",
    )

    # -- How much may be asked ------------------------------------------------------------------------
    rate_limit_key_quota: int = Field(
        default=30_000,
        ge=0,
        description="Requests of one API key, or of one person's tokens, per window; 0: no limit.",
    )
    rate_limit_tenant_quota: int = Field(
        default=120_000, ge=0, description="Requests of one tenant per window; 0: no limit."
    )
    rate_limit_window_seconds: int = Field(
        default=60, ge=1, le=3600, description="Window of both limits, in seconds."
    )

    # -- Secrets and keys -----------------------------------------------------------------------------
    encryption_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Key ring as comma-separated `id:base64` pairs of 32 bytes, current key first. Encrypts "
        "Temporal payloads and stored configuration; old keys stay in the ring to decrypt.",
    )
    signing_key_dir: Path | None = Field(
        default=None,
        description="Directory of Ed25519 private keys (`<key id>.pem`); the last by name signs mandates and "
        "receipts, all verify.",
    )

    # -- Mail -----------------------------------------------------------------------------------------
    smtp_url: SecretStr = Field(
        default=SecretStr(""),
        description="`smtp[s]://user:password@host:port`; empty: letters go to the local mailbox "
        "(`switchyard mail`).",
    )
    mail_from: str = Field(default="switchyard@localhost", description="Sender of letters.")

    # -- Channels -------------------------------------------------------------------------------------
    slack_api_url: str = Field(default="https://slack.com/api/", description="Address of Slack's Web API.")

    # -- Outside rails --------------------------------------------------------------------------------
    stripe_api_key: SecretStr = Field(
        default=SecretStr(""), description="Stripe secret or restricted key; empty: no such rail."
    )
    stripe_api_url: str = Field(default="https://api.stripe.com", description="Address of Stripe's API.")
    stripe_webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Signing secret of the endpoint `/webhooks/rails/stripe`; empty: none is accepted.",
    )
    cashfree_client_id: str = Field(default="", description="Cashfree client id; empty: no such rail.")
    cashfree_client_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Cashfree client secret; also verifies `/webhooks/rails/cashfree`.",
    )
    cashfree_api_url: str = Field(
        default="https://api.cashfree.com",
        description="Address of Cashfree's APIs (`https://sandbox.cashfree.com` to try them).",
    )

    x402_facilitator_url: str = Field(
        default="", description="Address of the x402 facilitator; empty: no such rail."
    )
    x402_network: str = Field(default="", description="Network of x402 payments (CAIP-2), as `eip155:8453`.")
    x402_pay_to: str = Field(default="", description="Our address on that network.")
    x402_assets: str = Field(
        default="",
        description='What each currency is paid in, as JSON: `{"USD": {"asset": "0x…", "units_per_minor": '
        '10000, "extra": {"name": "USDC", "version": "2"}}}`.',
    )

    # -- Payouts --------------------------------------------------------------------------------------
    payout_maturity_days: int = Field(
        default=0,
        ge=0,
        le=90,
        description="Days that earnings rest before they are paid out, so that disputes can be heard first.",
    )

    # -- Retention ------------------------------------------------------------------------------------
    event_retention_months: int = Field(
        default=13,
        ge=1,
        le=1200,
        description="Whole months that events stay in PostgreSQL after their own; later they are in S3.",
    )
    idempotency_retention_days: int = Field(
        default=30,
        ge=1,
        le=3660,
        description="Days that the answer to an `Idempotency-Key` is remembered.",
    )

    # -- Logs -----------------------------------------------------------------------------------------
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="Form of log lines.")

    # -- Metrics and traces ---------------------------------------------------------------------------
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address that `/metrics` listens on; not loopback where Prometheus is elsewhere.",
    )
    api_metrics_port: int = Field(
        default=9464, ge=0, le=65_535, description="Port of the API's `/metrics`; 0: none."
    )
    worker_metrics_port: int = Field(
        default=9465, ge=0, le=65_535, description="Port of the worker's `/metrics`; 0: none."
    )
    otlp_endpoint: str = Field(
        default="",
        description="OpenTelemetry collector (OTLP over HTTP, such as `http://127.0.0.1:4318`); empty: no "
        "traces.",
    )

    # -- Worker and sandbox ---------------------------------------------------------------------------
    task_queues: str = Field(
        default="core,sandbox,llm,money", description="Task queues that this worker serves."
    )
    sandbox_concurrency: int = Field(
        default=5, ge=1, le=256, description="Agent containers at once per worker."
    )
    sandbox_runtime: Literal["runc", "runsc"] = Field(
        default="runc", description="OCI runtime of agent containers; `runsc` is gVisor."
    )
    sandbox_image: str = Field(default="agent-runtime:latest", description="Image of agent containers.")
    sandbox_warm_python: int = Field(
        default=2, ge=0, le=64, description="Single-use Python containers kept waiting per limit class."
    )
    sandbox_warm_node: int = Field(
        default=2, ge=0, le=64, description="Single-use Node containers kept waiting per limit class."
    )

    def encryption_key_ring(self) -> tuple[EncryptionKey, ...]:
        """The keys of ``ENCRYPTION_KEYS``, current one first.

        Raises:
            InvalidSettingsError: If the ring is empty, an id repeats, or a key is not 32 bytes of base64.
        """
        ring: list[EncryptionKey] = []
        for position, pair in enumerate(self.encryption_keys.get_secret_value().split(","), start=1):
            key_id, separator, encoded = pair.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not separator or not key_id or len(key) != 32:
                raise InvalidSettingsError(
                    {"ENCRYPTION_KEYS": f"entry {position} must be `id:` and 32 bytes in base64"}
                )
            if any(key_id == other.id for other in ring):
                raise InvalidSettingsError({"ENCRYPTION_KEYS": f"key id {key_id!r} occurs twice"})
            ring.append(EncryptionKey(key_id, key))
        return tuple(ring)

    def as_environment(self) -> dict[str, str]:
        """Environment variables that reproduce these settings in a child process; contains secrets."""
        environment: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            environment[environment_variable(name)] = str(plain)
        return environment

    def given(self, name: str) -> bool:
        """Whether the field ``name`` was set explicitly rather than left at its default."""
        return name in self.model_fields_set


def environment_variable(field: str) -> str:
    """Name of the environment variable behind a field of `Settings`."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else field.upper()


def load_settings(env_file: Path | None = None) -> Settings:
    """Read the settings from the environment.

    Args:
        env_file: File of ``NAME=value`` lines that the environment overrides, such as the one a running
            embedded stack keeps (`cli.stack.state.environment_file`).

    Raises:
        InvalidSettingsError: Naming every variable that breaks its rule; values are not repeated.
    """
    try:
        return Settings(_env_file=env_file)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        problems = {
            environment_variable(str(item["loc"][0]))
            if str(item["loc"][0]) in Settings.model_fields
            else str(item["loc"][0]): item["msg"]
            for item in error.errors(include_input=False, include_url=False)
        }
        raise InvalidSettingsError(problems) from None


def markdown_table() -> str:
    """The table of `docs/settings.md`: variable, default, meaning."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default: Any = field.default
        shown = default.get_secret_value() if isinstance(default, SecretStr) else default
        cell = f"`{shown}`" if shown not in (None, "") else ""
        meaning = field.description or ""
        if get_origin(field.annotation) is Literal:
            choices = ", ".join(
                f"`{choice}`" for choice in cast("tuple[str, ...]", get_args(field.annotation))
            )
            meaning += f" One of {choices}."
        if field.annotation is SecretStr:
            meaning += " Secret."
        lines.append(f"| `{environment_variable(name)}` | {cell} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown_table(), end="")  # noqa: T201
