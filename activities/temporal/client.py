"""Connecting to Temporal: one converter, one way, for the API, the worker, the command line and tests."""

import dataclasses

from temporalio.client import Client
from temporalio.contrib.aws.s3driver import S3StorageDriver, S3StorageDriverClient
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, ExternalStorage

from activities.storage import ObjectStore
from activities.telemetry.correlation import CorrelationInterceptor
from activities.telemetry.tracing import temporal_plugins
from activities.temporal.codec import EncryptionCodec, KeyRing
from activities.temporal.failures import PlatformFailureConverter
from models.settings import Settings

EXTERNAL_PAYLOAD_BYTES = 64 * 1024
"""Payloads above this size go to S3 and Temporal carries a reference (DESIGN §4)."""


class _ObjectStoreClient(S3StorageDriverClient):
    """Lets Temporal's S3 driver use our object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        """Store ``data``."""
        await self._store.put(key, data)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        """Tell whether the key is taken."""
        return await self._store.exists(key)

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        """Read the bytes."""
        return await self._store.get(key)


def data_converter(settings: Settings, store: ObjectStore | None) -> DataConverter:
    """Build the converter that every client and worker of Switchyard shares.

    Pydantic JSON, then AES-256-GCM, then S3 for what is larger than 64 KiB.

    Args:
        settings: Gives the encryption key ring.
        store: Where large payloads go; without one they stay inline (offline replay of small histories).
    """
    storage = None
    if store is not None:
        storage = ExternalStorage(
            drivers=[S3StorageDriver(_ObjectStoreClient(store), store.bucket)],
            payload_size_threshold=EXTERNAL_PAYLOAD_BYTES,
        )
    return dataclasses.replace(
        DataConverter.default,
        payload_converter_class=PydanticPayloadConverter,
        failure_converter_class=PlatformFailureConverter,
        payload_codec=EncryptionCodec(KeyRing(settings.encryption_key_ring())),
        external_storage=storage,
    )


async def connect(settings: Settings, store: ObjectStore, *, lazy: bool = False) -> Client:
    """Connect to the Temporal server of the settings.

    Args:
        settings: Address, namespace, keys.
        store: Where large payloads go.
        lazy: Connect at the first call instead of now; not usable for a worker.
    """
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        data_converter=data_converter(settings, store),
        interceptors=[CorrelationInterceptor()],
        plugins=temporal_plugins(settings),
        lazy=lazy,
    )
