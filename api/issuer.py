"""The embedded stack's own token issuer: discovery, public key, and the tokens of ``switchyard login``."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.development import is_local_development
from api.envelope import Success, errors, success
from api.issuer_key import TOKEN_SECONDS, IssuerKey
from api.state import Services, ServicesDep
from api.token import TENANT_ID, user_id_of
from models.errors import NotFoundError
from models.identity import Role

router = APIRouter(tags=["identity"])


class IssuerDisabledError(NotFoundError):
    """Tokens come from an identity provider here, not from Switchyard."""

    code = "ISSUER_DISABLED"

    def __init__(self) -> None:
        super().__init__(
            "Switchyard issues no tokens here; get one from the identity provider, or make an API key. "
            "Only the embedded stack on this machine (`switchyard up`) signs people in by name."
        )


class Discovery(BaseModel):
    """What a verifier needs to know (OpenID Connect Discovery 1.0 §3)."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
    id_token_signing_alg_values_supported: list[str]
    subject_types_supported: list[str]
    response_types_supported: list[str]


class KeySet(BaseModel):
    """JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, Any]]


class LoginRequest(BaseModel):
    """Who to be."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    roles: list[Role] = Field(
        default_factory=lambda: [Role.USER, Role.DEVELOPER], min_length=1, max_length=len(Role)
    )
    tenant: str = Field(default="default", pattern=f"^{TENANT_ID.pattern}$")
    email: Annotated[str, Field(max_length=254, pattern=r"^[!-?A-~]+@[A-Za-z0-9.\-]+$")] | None = None


class Token(BaseModel):
    """A bearer token."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: int = Field(description="Seconds.")
    expires_at: int = Field(description="Unix time.")
    user_id: str
    tenant_id: str
    roles: list[Role]


@router.get(
    "/.well-known/openid-configuration",
    operation_id="issuer_discovery",
    responses=errors(IssuerDisabledError),
)
async def discovery(services: ServicesDep) -> Discovery:
    """Describe the embedded issuer to verifiers."""
    _issuer_key(services)
    base = services.settings.public_url.rstrip("/")
    return Discovery(
        issuer=services.settings.jwt_issuer,
        jwks_uri=f"{base}/.well-known/jwks.json",
        token_endpoint=f"{base}/login",
        id_token_signing_alg_values_supported=["EdDSA"],
        subject_types_supported=["public"],
        response_types_supported=["token"],
    )


@router.get("/.well-known/jwks.json", operation_id="issuer_keys", responses=errors(IssuerDisabledError))
async def key_set(services: ServicesDep) -> KeySet:
    """Return the embedded issuer's public key."""
    return KeySet.model_validate(_issuer_key(services).jwks())


@router.post("/login", operation_id="login", responses=errors(IssuerDisabledError))
async def login(request: Request, body: LoginRequest, services: ServicesDep) -> Success[Token]:
    """Sign in by name, on the machine that runs the embedded stack only (``LOCAL_LOGIN``)."""
    if not services.settings.local_login or not is_local_development(request, services):
        raise IssuerDisabledError
    settings = services.settings
    roles = sorted(set(body.roles))
    token = _issuer_key(services).issue(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        name=body.name,
        tenant_id=body.tenant,
        roles=roles,
        email=body.email,
    )
    return success(
        Token(
            access_token=token,
            expires_in=TOKEN_SECONDS,
            expires_at=int(time.time()) + TOKEN_SECONDS,
            user_id=user_id_of(settings.jwt_issuer, body.tenant, body.name),
            tenant_id=body.tenant,
            roles=roles,
        )
    )


def _issuer_key(services: Services) -> IssuerKey:
    if services.issuer_key is None:
        raise IssuerDisabledError
    return services.issuer_key
