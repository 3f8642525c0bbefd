"""Checkpoints prove one receipt, growth, and that nothing was cut."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from activities.checkpoint import (
    checkpoint_key,
    keep_checkpoints,
    prove_consistency,
    prove_inclusion,
    state_checkpoint,
    verify_checkpoint,
)
from activities.rails.registry import open_rails
from activities.receipts import verify_export
from activities.records.database import Database
from activities.records.receipts import find_receipt, read_entries, signed_head
from activities.signing import Signer, generate_key
from activities.storage import ObjectStore
from activities.storage.locked import LockedObjects
from models.checkpoint import SignedCheckpoint, TreeSizeError
from models.merkle import verify_consistency, verify_inclusion
from models.receipt import ReceiptChainBrokenError
from models.settings import Settings
from models.table import utc_now
from tests.payment.shop import Shop


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory: Path = tmp_path_factory.mktemp("checkpoint-keys")
    generate_key(directory, "key-1")
    return Signer.from_directory(directory)


@pytest.fixture
def shop(store: Database, signer: Signer) -> Shop:
    return Shop(store, signer, open_rails(store))


async def _pay(shop: Shop, times: int) -> list[str]:
    receipts: list[str] = []
    for _ in range(times):
        await shop.fund(50)
        outcome = await shop.settle(await shop.executed(50))
        assert outcome.receipt_id is not None
        receipts.append(outcome.receipt_id)
    return receipts


async def test_a_receipt_is_proved_alone_and_growth_is_proved(shop: Shop) -> None:
    receipts = await _pay(shop, 3)
    async with shop.store.tenant(shop.tenant_id) as connection:
        kept, _ = await state_checkpoint(connection, shop.signer, shop.tenant_id)
        proof = await prove_inclusion(connection, shop.signer, await find_receipt(connection, receipts[1]))
    stated = proof.checkpoint.checkpoint
    path = [bytes.fromhex(each) for each in proof.path]
    leaf, root = bytes.fromhex(proof.leaf), bytes.fromhex(stated.root)
    assert verify_inclusion(leaf, proof.index, stated.size, path, root)
    await _pay(shop, 2)
    async with shop.store.tenant(shop.tenant_id) as connection:
        grown = await prove_consistency(connection, shop.signer, shop.tenant_id, 3)
        with pytest.raises(TreeSizeError):
            await prove_consistency(connection, shop.signer, shop.tenant_id, 6)
    assert grown.from_root == kept.checkpoint.root
    later = grown.checkpoint.checkpoint
    assert verify_consistency(
        3,
        later.size,
        [bytes.fromhex(each) for each in grown.path],
        bytes.fromhex(grown.from_root),
        bytes.fromhex(later.root),
    )


async def test_a_checkpoint_convicts_an_export_with_less_in_it(shop: Shop) -> None:
    await _pay(shop, 2)
    async with shop.store.tenant(shop.tenant_id) as connection:
        header = await signed_head(connection, shop.signer, shop.tenant_id)
        entries = await read_entries(connection, from_index=1, to_index=2, readable_by=None)
        signed, leaves = await state_checkpoint(connection, shop.signer, shop.tenant_id)
    export = verify_export([header.line(), *(entry.line() for entry in entries)], shop.signer)
    verify_checkpoint(signed, leaves, export, shop.signer)
    with pytest.raises(ReceiptChainBrokenError, match="states 2 receipts"):
        verify_checkpoint(signed, leaves[:1], export, shop.signer)
    with pytest.raises(ReceiptChainBrokenError, match="changed since"):
        verify_checkpoint(signed, leaves[::-1], export, shop.signer)
    forged = signed.model_copy(update={"checkpoint": signed.checkpoint.model_copy(update={"size": 1})})
    with pytest.raises(ReceiptChainBrokenError, match="signature"):
        verify_checkpoint(forged, leaves, export, shop.signer)


async def test_checkpoints_are_kept_outside_the_database_once(shop: Shop, object_store: Settings) -> None:
    await _pay(shop, 1)
    objects = ObjectStore(object_store)
    await keep_checkpoints(shop.store, objects, shop.signer)
    locked = await LockedObjects.open(objects)
    assert locked is not None, "the embedded server has S3 Object Lock"
    kept = await locked.get(checkpoint_key(shop.tenant_id, 1))
    assert SignedCheckpoint.model_validate_json(kept).checkpoint.tenant_id == shop.tenant_id
    assert await keep_checkpoints(shop.store, objects, shop.signer) == 0
    assert await locked.get(checkpoint_key(shop.tenant_id, 1)) == kept


async def test_a_kept_checkpoint_cannot_be_deleted(object_store: Settings) -> None:
    locked = await LockedObjects.open(ObjectStore(object_store))
    assert locked is not None
    until = utc_now() + timedelta(days=1)
    await locked.put_locked("checkpoints/locked.json", b"{}", until=until, content_type="application/json")
    client: Any = boto3.client(
        "s3",
        endpoint_url=object_store.s3_endpoint_url,
        region_name=object_store.s3_region,
        aws_access_key_id=object_store.s3_access_key_id,
        aws_secret_access_key=object_store.s3_secret_access_key.get_secret_value(),
    )
    [version] = client.list_object_versions(Bucket=locked.bucket, Prefix="checkpoints/locked")["Versions"]
    with pytest.raises(ClientError, match="Denied"):
        client.delete_object(
            Bucket=locked.bucket, Key="checkpoints/locked.json", VersionId=version["VersionId"]
        )
    assert await locked.get("checkpoints/locked.json") == b"{}"
