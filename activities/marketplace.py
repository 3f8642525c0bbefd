"""Keeping deployments' configurations secret."""

from typing import Any

import orjson

from activities.records.database import Database
from activities.records.marketplace import lock_outdated_deployments, replace_ciphertext
from activities.temporal.codec import KeyRing

REENCRYPTION_BATCH = 100


def encrypt_config(ring: KeyRing, deployment_id: str, config: dict[str, Any]) -> tuple[bytes, str]:
    """Encrypt a configuration under the current key.

    The deployment's identifier is authenticated with it, so that a ciphertext copied to another
    deployment cannot be read there.

    Returns:
        The ciphertext and the key's id.
    """
    return ring.encrypt(orjson.dumps(config), deployment_id.encode()), ring.current_id


def decrypt_config(ring: KeyRing, deployment_id: str, ciphertext: bytes, key_id: str) -> dict[str, Any]:
    """Decrypt a configuration, inside the activity that needs it.

    Raises:
        DecryptionError: The key left the ring, or the ciphertext is another deployment's or was changed.
    """
    config: dict[str, Any] = orjson.loads(ring.decrypt(key_id, ciphertext, deployment_id.encode()))
    return config


async def reencrypt_deployments(database: Database, ring: KeyRing) -> int:
    """Bring every deployment's configuration under the ring's current key, in small transactions.

    Once it is done, older keys may leave the ring as far as configurations are concerned. May be
    interrupted and repeated, and may run in several processes at once.

    Returns:
        How many were re-encrypted.

    Raises:
        DecryptionError: A configuration's key is not in the ring; those done before stay done.
    """
    done = 0
    while True:
        async with database.platform() as connection:
            rows = await lock_outdated_deployments(connection, ring.current_id, REENCRYPTION_BATCH)
            for row in rows:
                plain = ring.decrypt(row["config_key_id"], row["config_ciphertext"], row["id"].encode())
                await replace_ciphertext(
                    connection,
                    row["id"],
                    ciphertext=ring.encrypt(plain, row["id"].encode()),
                    key_id=ring.current_id,
                )
        if not rows:
            return done
        done += len(rows)
