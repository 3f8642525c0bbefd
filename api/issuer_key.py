"""The embedded issuer's Ed25519 key: signs the tokens of ``switchyard login``, and nothing else."""

import hashlib
import time
from collections.abc import Iterable
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt.utils import base64url_encode

from models.identity import Role
from models.settings import InvalidSettingsError, Settings

TOKEN_SECONDS = 12 * 3600


class IssuerKey:
    """Signs and publishes. Separate from the keys of mandates and receipts."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._x = base64url_encode(public).decode()
        # RFC 7638: the thumbprint names the key, so a new key gets a new id by itself.
        thumbprint = f'{{"crv":"Ed25519","kty":"OKP","x":"{self._x}"}}'
        self.key_id = base64url_encode(hashlib.sha256(thumbprint.encode()).digest()).decode()

    @classmethod
    def from_settings(cls, settings: Settings) -> "IssuerKey | None":
        """Read ``JWT_SIGNING_KEY_FILE``; None where it is not set.

        Raises:
            InvalidSettingsError: The file is not there or holds no Ed25519 private key.
        """
        path = settings.jwt_signing_key_file
        if path is None:
            return None
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidSettingsError(
                {"JWT_SIGNING_KEY_FILE": "must name a readable PEM file with an Ed25519 private key"}
            )
        return cls(key)

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": self._x,
                    "kid": self.key_id,
                    "use": "sig",
                    "alg": "EdDSA",
                }
            ]
        }

    def issue(
        self,
        *,
        issuer: str,
        audience: str,
        name: str,
        tenant_id: str,
        roles: Iterable[Role],
        email: str | None = None,
        lifetime_seconds: int = TOKEN_SECONDS,
    ) -> str:
        """Sign a token for the person ``name`` of a tenant, valid from now on."""
        now = int(time.time())
        claims = {
            "iss": issuer,
            "aud": audience,
            "sub": name,
            "name": name,
            "email": email or f"{name}@{tenant_id}.localhost",
            "tenant_id": tenant_id,
            "roles": sorted(roles),
            "iat": now,
            "exp": now + lifetime_seconds,
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self.key_id})
