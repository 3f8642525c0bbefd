"""Objects that nobody can change or delete before their time: S3 Object Lock in compliance mode.

They lie in a bucket of their own, ``{bucket}-kept``, because a bucket with the lock keeps every version of
every object. Where the server has no such lock, or we may not make the bucket, there is none.
"""

import asyncio
from datetime import datetime
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError

from activities.storage.objects import ObjectStore


class LockedObjects(ObjectStore):
    """Puts objects that stay; reads like any other store."""

    def __init__(self, objects: ObjectStore) -> None:
        """Use the same server as ``objects``."""
        self.bucket = f"{objects.bucket}-kept"
        self._client = objects._client

    @classmethod
    async def open(cls, objects: ObjectStore) -> Self | None:
        """Find the bucket, or make it; None where the server locks nothing."""
        locked = cls(objects)
        try:
            if not await locked.reachable():
                await asyncio.to_thread(
                    locked._client.create_bucket, Bucket=locked.bucket, ObjectLockEnabledForBucket=True
                )
            found = await asyncio.to_thread(
                locked._client.get_object_lock_configuration, Bucket=locked.bucket
            )
        except (ClientError, BotoCoreError, OSError):
            return None
        enabled = found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        return locked if enabled else None

    async def put_locked(self, key: str, data: bytes, *, until: datetime, content_type: str) -> None:
        """Store ``data`` so that this version of it cannot be deleted before ``until``.

        Raises:
            ObjectStoreUnavailableError: S3 is away.
        """
        await self._call(
            key,
            self._client.put_object,
            Bucket=self.bucket,
            Key=key,
            Body=data,
            ContentType=content_type,
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=until,
        )
