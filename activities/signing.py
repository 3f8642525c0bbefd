"""Ed25519 signatures of mandates and receipts, by keys with identifiers (RFC 8032, RFC 8037).

A directory holds one private key per file, ``<key id>.pem``. The last by name signs; all verify, so a new
key is put in service by adding a file and restarting, and an old one keeps verifying what it signed.
A verifying key is always looked up by its identifier here, never taken from what is verified.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from models.errors import InvalidRequestError
from models.settings import InvalidSettingsError, Settings

KEY_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
PUBLIC_KEY_BYTES = 32


class InvalidKeySetError(InvalidRequestError):
    """A JSON Web Key Set holds no usable Ed25519 keys."""

    code = "INVALID_KEY_SET"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The key set cannot be used: {reason}. Give the JWKS that the platform publishes "
            "(keys of kty OKP, crv Ed25519, each with a kid).",
        )


class Verifier:
    """Checks signatures with a set of public keys; needs nothing else, so it works offline."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Trust ``keys``, by identifier."""
        self._keys = dict(keys)

    @classmethod
    def from_jwks(cls, document: bytes | str) -> "Verifier":
        """Read the keys of a JSON Web Key Set (RFC 7517).

        Raises:
            InvalidKeySetError: It is malformed or holds no Ed25519 key.
        """
        try:
            parsed: Any = json.loads(document)
            listed = cast("list[dict[str, str]]", parsed["keys"])
            keys: dict[str, Ed25519PublicKey] = {}
            for key in listed:
                if key.get("kty") == "OKP" and key.get("crv") == "Ed25519":
                    keys[key["kid"]] = Ed25519PublicKey.from_public_bytes(_from_base64url(key["x"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidKeySetError(f"it is malformed ({type(error).__name__})") from None
        if not keys:
            raise InvalidKeySetError("it holds no Ed25519 key")
        return cls(keys)

    def knows(self, key_id: str) -> bool:
        """Tell whether a key of this identifier is trusted."""
        return key_id in self._keys

    def verify(self, domain: bytes, message: bytes, signature: bytes, key_id: str) -> bool:
        """Tell whether ``signature`` is the key's over ``domain`` followed by ``message``."""
        key = self._keys.get(key_id)
        if key is None:
            return False
        try:
            key.verify(signature, domain + message)
        except InvalidSignature:
            return False
        return True

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public keys as a JSON Web Key Set (RFC 7517, RFC 8037 §2)."""
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "alg": "EdDSA",
                    "use": "sig",
                    "kid": key_id,
                    "x": _to_base64url(key.public_bytes(Encoding.Raw, PublicFormat.Raw)),
                }
                for key_id, key in sorted(self._keys.items())
            ]
        }


class Signer(Verifier):
    """Signs with the newest key and verifies with all of them."""

    def __init__(self, private_keys: Mapping[str, Ed25519PrivateKey]) -> None:
        """Take at least one key; the last identifier in order signs."""
        super().__init__({key_id: key.public_key() for key_id, key in private_keys.items()})
        self.key_id = max(private_keys)
        self._key = private_keys[self.key_id]

    @classmethod
    def from_directory(cls, directory: Path) -> "Signer":
        """Read every ``<key id>.pem`` of ``directory``.

        Raises:
            InvalidSettingsError: It cannot be read, is empty, or a file is no Ed25519 private key.
        """
        keys: dict[str, Ed25519PrivateKey] = {}
        for path in sorted(directory.glob("*.pem")):
            if not KEY_ID.match(path.stem):
                raise _unusable(f"{path.name}: the name must be `<key id>.pem` of letters, digits, . _ -")
            try:
                key = load_pem_private_key(path.read_bytes(), password=None)
            except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
                raise _unusable(f"{path.name} is not a readable, unencrypted private key") from None
            if not isinstance(key, Ed25519PrivateKey):
                raise _unusable(f"{path.name} is not an Ed25519 key")
            keys[path.stem] = key
        if not keys:
            raise _unusable("must name a directory with at least one `<key id>.pem`")
        return cls(keys)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Signer":
        """Read the keys of ``SIGNING_KEY_DIR``.

        Raises:
            InvalidSettingsError: The setting is missing or the directory is not usable.
        """
        if settings.signing_key_dir is None:
            raise _unusable("is required: the directory of the keys that sign mandates and receipts")
        return cls.from_directory(settings.signing_key_dir)

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """Return the signature (64 bytes) over ``domain`` followed by ``message``."""
        return self._key.sign(domain + message)


def generate_key(directory: Path, key_id: str) -> Path:
    """Write a new private key to ``<key id>.pem``, readable by its owner only, and return its path.

    Raises:
        ValueError: The identifier is not one.
        FileExistsError: A key of this identifier exists already.
    """
    if not KEY_ID.match(key_id):
        raise ValueError(f"not a key identifier: {key_id!r}")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{key_id}.pem"
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(pem)
    return path


def _unusable(problem: str) -> InvalidSettingsError:
    return InvalidSettingsError({"SIGNING_KEY_DIR": problem})


def _to_base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
