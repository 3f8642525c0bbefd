"""A tenant's access to channels: secrets are sealed where they are stored and opened for one use."""

import json

from activities.channels.protocol import Account
from activities.temporal.codec import KeyRing
from models.channel import ChannelAccount


def seal_account(ring: KeyRing, account_id: str, secrets: dict[str, str]) -> tuple[bytes, str]:
    """Encrypt an account's secrets, bound to the account; returns ciphertext and key id."""
    return ring.encrypt(json.dumps(secrets).encode(), account_id.encode()), ring.current_id


def open_account(ring: KeyRing, account: ChannelAccount) -> Account:
    """Decrypt an account.

    Raises:
        DecryptionError: Its key left the ring.
    """
    plain = ring.decrypt(account.secret_key_id, account.secret_ciphertext, account.id.encode())
    return Account(settings=account.settings, secrets=json.loads(plain))
