"""Passwords and keys that the embedded stack generates once and keeps below ``secrets/``."""

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def write_private(path: Path, content: str) -> None:
    """Write ``content`` atomically to a file that only its owner may read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class SecretStore:
    """Generates each secret at its first use and returns the same one ever after.

    Args:
        directory: Directory of the secret files; must exist with mode 0700.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def password(self, name: str) -> str:
        """A password of 192 random bits, safe in a URL."""
        return self._once(name, lambda: secrets.token_urlsafe(24))

    def encryption_keys(self) -> str:
        """A key ring with one AES-256 key, in the form of ``ENCRYPTION_KEYS``."""
        return self._once(
            "encryption_keys",
            lambda: f"{secrets.token_hex(4)}:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        )

    def signing_key_dir(self) -> Path:
        """Directory with the Ed25519 key that signs mandates and receipts."""
        directory = self._directory / "signing"
        directory.mkdir(mode=0o700, exist_ok=True)
        if not any(directory.glob("*.pem")):
            write_private(directory / f"0001-{secrets.token_hex(4)}.pem", _ed25519_pem())
        return directory

    def issuer_key_file(self) -> Path:
        """The Ed25519 key of the embedded token issuer."""
        self._once("issuer.pem", _ed25519_pem)
        return self._directory / "issuer.pem"

    def _once(self, name: str, generate: Callable[[], str]) -> str:
        path = self._directory / name
        if not path.exists():
            write_private(path, generate())
        return path.read_text()


def _ed25519_pem() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
