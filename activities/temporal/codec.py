"""Encryption of everything that Temporal stores: AES-256-GCM with a key ring (DESIGN §4)."""

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from models.errors import PlatformError
from models.settings import EncryptionKey

ENCODING = b"binary/encrypted"
KEY_ID = "encryption-key-id"
NONCE_BYTES = 12


class DecryptionError(PlatformError):
    """A stored ciphertext cannot be read: its key left the ring, or it was changed."""

    code = "DECRYPTION_FAILED"

    def __init__(self, key_id: str, reason: str) -> None:
        super().__init__(
            f"A ciphertext under encryption key {key_id!r} cannot be read: {reason}. "
            "Keep every key that was ever used in ENCRYPTION_KEYS.",
            details={"key_id": key_id},
        )


class KeyRing:
    """Encrypts with the current key, decrypts with any key of the ring."""

    def __init__(self, keys: Sequence[EncryptionKey]) -> None:
        """Take the ring's keys, the current one first; there must be at least one."""
        self.current_id = keys[0].id
        self._ciphers = {key.id: AESGCM(key.key) for key in keys}

    def encrypt(self, plain: bytes, context: bytes = b"") -> bytes:
        """Encrypt under the current key; ``context`` is authenticated and must be given again to decrypt."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[self.current_id].encrypt(nonce, plain, context)

    def decrypt(self, key_id: str, ciphertext: bytes, context: bytes = b"") -> bytes:
        """Decrypt what ``encrypt`` made under the key ``key_id``.

        Raises:
            DecryptionError: The key is not in the ring, or the bytes or the context are not the same.
        """
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise DecryptionError(key_id, "the key is not in the ring")
        try:
            return cipher.decrypt(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], context)
        except InvalidTag:
            raise DecryptionError(key_id, "the bytes are not what was encrypted") from None


class EncryptionCodec(PayloadCodec):
    """Encrypts whole payloads, their metadata included; keys rotate by putting a new one first."""

    def __init__(self, ring: KeyRing) -> None:
        """Use ``ring`` for every payload."""
        self._ring = ring

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload under the current key."""
        return [
            Payload(
                metadata={"encoding": ENCODING, KEY_ID: self._ring.current_id.encode()},
                data=self._ring.encrypt(payload.SerializeToString()),
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt each encrypted payload; others pass unchanged.

        Raises:
            DecryptionError: A key is missing from the ring, or a payload was changed.
        """
        return [
            Payload.FromString(self._ring.decrypt(payload.metadata[KEY_ID].decode(), payload.data))
            if payload.metadata.get("encoding") == ENCODING
            else payload
            for payload in payloads
        ]
