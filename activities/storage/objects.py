"""A small asynchronous view of one S3 bucket."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from models.errors import NotFoundError, UnavailableError
from models.settings import Settings


class ObjectNotFoundError(NotFoundError):
    """There is no object under the key."""

    code = "OBJECT_NOT_FOUND"

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no object {key}.", details={"key": key})


class ObjectStoreUnavailableError(UnavailableError):
    """S3 does not answer or refuses for a reason of its own; the same call may succeed later."""

    code = "OBJECT_STORE_UNAVAILABLE"

    def __init__(self, key: str, reason: BaseException) -> None:
        super().__init__(f"The object store did not complete the call for {key} ({type(reason).__name__}).")


class ObjectStore:
    """Puts, gets and deletes whole objects of one bucket. Safe to share between tasks."""

    def __init__(self, settings: Settings) -> None:
        """Prepare a client for the bucket in the settings; nothing connects yet."""
        self.bucket = settings.s3_bucket
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint_url or None,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id or None,
            aws_secret_access_key=settings.s3_secret_access_key.get_secret_value() or None,
            config=Config(
                # Temporal retries; a second layer here would only hide how long things take.
                retries={"total_max_attempts": 2, "mode": "standard"},
                connect_timeout=3,
                read_timeout=30,
                max_pool_connections=32,
                s3={"addressing_style": "path"},
            ),
        )

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        """Store ``data`` under ``key``, replacing what was there.

        Raises:
            ObjectStoreUnavailableError: S3 is away.
        """
        await self._call(
            key,
            self._client.put_object,
            Bucket=self.bucket,
            Key=key,
            Body=data,
            Metadata=dict(metadata or {}),
            ContentType=content_type,
        )

    async def get(self, key: str) -> bytes:
        """Return the whole object.

        Raises:
            ObjectNotFoundError: There is none.
            ObjectStoreUnavailableError: S3 is away.
        """

        def read() -> bytes:
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            body: bytes = answer["Body"].read()
            return body

        data: bytes = await self._call(key, read)
        return data

    async def exists(self, key: str) -> bool:
        """Tell whether there is an object under ``key``.

        Raises:
            ObjectStoreUnavailableError: S3 is away.
        """
        try:
            await self._call(key, self._client.head_object, Bucket=self.bucket, Key=key)
        except ObjectNotFoundError:
            return False
        return True

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error.

        Raises:
            ObjectStoreUnavailableError: S3 is away.
        """
        await self._call(key, self._client.delete_object, Bucket=self.bucket, Key=key)

    async def list(self, prefix: str, *, before: datetime) -> list[str]:
        """Return the keys that begin with ``prefix`` and were last written before a time.

        Raises:
            ObjectStoreUnavailableError: S3 is away.
        """

        def read() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [
                entry["Key"]
                for page in pages
                for entry in page.get("Contents", ())
                if entry["LastModified"] < before
            ]

        keys: list[str] = await self._call(prefix, read)
        return keys

    async def reachable(self) -> bool:
        """Tell whether S3 answers and the bucket exists."""
        try:
            await self._call(self.bucket, self._client.head_bucket, Bucket=self.bucket)
        except (ObjectNotFoundError, ObjectStoreUnavailableError):
            return False
        return True

    async def _call(self, key: str, call: Any, **arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(call, **arguments)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {
                "NoSuchKey",
                "NoSuchBucket",
                "404",
                "NotFound",
            }:
                raise ObjectNotFoundError(key) from None
            raise ObjectStoreUnavailableError(key, error) from error
        except (BotoCoreError, OSError) as error:
            raise ObjectStoreUnavailableError(key, error) from error
