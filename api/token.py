"""Verifies bearer tokens: JSON Web Tokens (RFC 7519) against a key set, with an allow-list of algorithms."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import httpx
import jwt
import structlog

from api.issuer_key import IssuerKey
from models.errors import AuthenticationError, UnavailableError
from models.identity import Principal, Role
from models.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger("api.token")

ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})
"""Asymmetric ones only: a public key can then never serve as an HMAC secret."""

KEY_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}

MAX_TOKEN_CHARACTERS = 8192
LEEWAY_SECONDS = 30
KEYS_FRESH_SECONDS = 600.0
REFETCH_SECONDS = 15.0
"""An unknown key id asks the provider again, but not more often than this: ids are free to make up."""

TENANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}")


class InvalidTokenError(AuthenticationError):
    """The bearer token is malformed, expired, not for us, or not signed by the identity provider."""

    code = "INVALID_TOKEN"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The bearer token is not valid: {reason}. Get a new one (`switchyard login`).",
            details={"reason": reason},
        )


class IdentityProviderUnavailableError(UnavailableError):
    """The identity provider's key set cannot be read, so no token can be verified now."""

    code = "IDENTITY_PROVIDER_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("The identity provider's keys cannot be read now. Try again shortly.")


class KeySource(Protocol):
    """Gives the public key that a key id names."""

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the signing key, or None when the provider has no such key.

        Raises:
            IdentityProviderUnavailableError: It cannot be told.
        """
        ...


def usable_keys(document: object) -> list[jwt.PyJWK]:
    """Read a key set, leaving out what we do not verify with: symmetric, encryption and unknown keys."""
    keys: list[jwt.PyJWK] = []
    entries = cast("Mapping[str, Any]", document).get("keys") if isinstance(document, Mapping) else None
    for entry in cast("list[Any]", entries) if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        facts = cast("dict[str, Any]", entry)
        if facts.get("kty") not in KEY_TYPES.values() or facts.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(facts)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if key.algorithm_name in ALGORITHMS:
            keys.append(key)
    return keys


def _choose(keys: list[jwt.PyJWK], key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
    fitting = [key for key in keys if key.algorithm_name == algorithm]
    if key_id is not None:
        return next((key for key in fitting if key.key_id == key_id), None)
    return fitting[0] if len(fitting) == 1 else None


class FixedKeys:
    """A key set that does not change while the process lives: the embedded issuer's."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._keys = usable_keys(document)

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key if it is ours."""
        return _choose(self._keys, key_id, algorithm)


class RemoteKeys:
    """The identity provider's key set, cached, read again when it is old or a new key id shows up."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._keys: list[jwt.PyJWK] = []
        self._read_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key, asking the provider when the cache does not hold it or is old.

        Keys read before stay in use while the provider is away; revoking one takes at most ten minutes
        once it answers again.

        Raises:
            IdentityProviderUnavailableError: No key set could be read so far.
        """
        found = _choose(self._keys, key_id, algorithm)
        if found is None or time.monotonic() - self._read_at > KEYS_FRESH_SECONDS:
            await self._refresh()
            found = _choose(self._keys, key_id, algorithm)
        if found is None and self._read_at == float("-inf"):
            raise IdentityProviderUnavailableError
        return found

    async def _refresh(self) -> None:
        async with self._lock:
            now = time.monotonic()
            if now - self._tried_at < REFETCH_SECONDS and self._read_at != float("-inf"):
                return
            if now - self._tried_at < 1.0:
                return
            self._tried_at = now
            try:
                answer = await self._client.get(self._url)
                answer.raise_for_status()
                keys = usable_keys(answer.json())
            except (httpx.HTTPError, ValueError) as error:
                log.warning("key set not readable", reason=type(error).__name__)
                return
            if keys:
                self._keys, self._read_at = keys, time.monotonic()
            else:
                log.warning("key set holds no usable key")


class TokenVerifier:
    """Turns a bearer token into a principal."""

    def __init__(self, keys: KeySource, *, issuer: str, audience: str) -> None:
        """Accept tokens of ``issuer`` for ``audience`` that a key of ``keys`` signed."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str) -> Principal:
        """Check signature, algorithm, issuer, audience and times, and read who it is.

        Claims: ``sub``, ``tenant_id``, ``roles`` (unknown roles are left out), ``email``, ``name``.

        Raises:
            InvalidTokenError: One of the checks fails; says which, never the token's content.
            IdentityProviderUnavailableError: The keys cannot be read.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise InvalidTokenError("it is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise InvalidTokenError("it is malformed") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise InvalidTokenError(f"it must be signed with one of {', '.join(sorted(ALGORITHMS))}")
        if key_id is not None and not isinstance(key_id, str):
            raise InvalidTokenError("its key id is not a string")
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            raise InvalidTokenError("its key is not known to the issuer")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key=key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise InvalidTokenError(_REASONS.get(type(error), "it does not pass verification")) from None
        except (ValueError, TypeError, RecursionError, OverflowError):
            raise InvalidTokenError("it is malformed") from None
        return _principal(claims)


_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is from another issuer",
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.MissingRequiredClaimError: "it lacks one of exp, sub, iss, aud",
}


def user_id_of(issuer: str, tenant_id: str, subject: str) -> str:
    """Return the user's identifier: a UUIDv8 (RFC 9562 §5.8) of issuer, tenant and the issuer's subject.

    Derived, so that every process knows it without asking, and two tenants never share a user's row.
    """
    digest = hashlib.sha256("\x1f".join((issuer, tenant_id, subject)).encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | (0x8 << 76)
    value = value & ~(0b11 << 62) | (0b10 << 62)
    return f"usr_{value:032x}"


def _principal(claims: Mapping[str, Any]) -> Principal:
    subject, tenant_id, roles = claims["sub"], claims.get("tenant_id"), claims.get("roles", [])
    if not isinstance(subject, str) or not subject or not _storable(subject):
        raise InvalidTokenError("its subject is not a usable string")
    if not isinstance(tenant_id, str) or not TENANT_ID.fullmatch(tenant_id):
        raise InvalidTokenError("it lacks a usable tenant_id claim")
    if not isinstance(roles, list):
        raise InvalidTokenError("its roles claim is not a list")
    known = frozenset(Role)
    return Principal(
        user_id=user_id_of(str(claims["iss"]), tenant_id, subject),
        tenant_id=tenant_id,
        roles=frozenset(
            Role(role) for role in cast("list[Any]", roles) if isinstance(role, str) and role in known
        ),
        email=_text(claims.get("email")),
        name=_text(claims.get("name")) or subject[:200],
    )


def _storable(value: str) -> bool:
    return "\x00" not in value and value.isprintable() and len(value) <= 255


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and _storable(value) else None


@asynccontextmanager
async def token_verifier(settings: Settings, issuer_key: IssuerKey | None) -> AsyncGenerator[TokenVerifier]:
    """Make the verifier that the settings ask for: the provider's key set, else the embedded issuer's."""
    if settings.jwt_jwks_url:
        async with httpx.AsyncClient(timeout=5.0, follow_redirects=False) as client:
            keys: KeySource = RemoteKeys(settings.jwt_jwks_url, client)
            yield TokenVerifier(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    else:
        keys = FixedKeys(issuer_key.jwks() if issuer_key is not None else {})
        yield TokenVerifier(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
