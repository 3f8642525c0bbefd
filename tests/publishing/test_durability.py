"""A review outlives its worker, and its history replays."""

import asyncio
import uuid
from typing import Any

from activities.publishing import upload_key
from api.publishing import start_publish_review
from models.identifiers import new_identifier
from models.publishing import PublishRequest
from tests.builders import archive, manifest, unique
from tests.eventually import eventually
from tests.histories.record import check_history
from tests.publishing.test_publishing import CLEAN, HIDING, decide, submitted, version_of
from tests.publishing_world import World


async def review_of(world: World, version_id: str) -> Any:
    return world.temporal.get_workflow_handle(f"publish-review/{version_id}")


async def test_a_decision_arrives_after_the_worker_was_restarted(world: World) -> None:
    registered = await submitted(world)
    await world.worker.stop()
    waiting = asyncio.create_task(decide(world, registered, "approve"))
    await asyncio.sleep(0)
    await world.worker.start()
    answer = await waiting
    assert answer.status_code == 200, answer.text
    assert (await version_of(world, registered["version_id"]))["status"] == "published"


async def test_a_submission_waits_for_a_worker(world: World) -> None:
    await world.worker.stop()
    waiting = asyncio.create_task(submitted(world))
    await asyncio.sleep(0)
    await world.worker.start()
    assert (await waiting)["status"] == "pending"


async def test_an_approved_review_replays(world: World) -> None:
    registered = await submitted(world)
    await decide(world, registered, "approve", reason="Fine.")
    handle = await review_of(world, registered["version_id"])
    assert await handle.result() == "published"
    await check_history(handle, "publish_review/approved", world.settings)


async def test_a_rejected_review_replays(world: World) -> None:
    registered = await submitted(world)
    await decide(world, registered, "reject", reason="Not yet.")
    handle = await review_of(world, registered["version_id"])
    assert await handle.result() == "rejected"
    await check_history(handle, "publish_review/rejected", world.settings)


async def test_a_blocked_review_replays(world: World) -> None:
    declared = manifest(unique("blocked"))
    assert (await world.market.submit(world.developer, HIDING, declared)).status_code == 400
    (item,) = (await world.developer.done("GET", f"/agent-versions?agent={declared['slug']}"))["items"]
    handle = await review_of(world, item["version_id"])
    assert await handle.result() == "scan_failed"
    await check_history(handle, "publish_review/scan_failed", world.settings)


async def test_a_review_refused_at_the_door_replays_and_leaves_no_upload(world: World) -> None:
    declared = manifest(unique("taken"))
    await world.market.submit(world.developer, CLEAN, declared)
    request = PublishRequest(
        version_id=new_identifier("agent_version"),
        agent_id=new_identifier("agent"),
        tenant_id=f"tenant-{uuid.uuid4().hex[:8]}",
        developer_id="usr_stranger",
        manifest=declared,
        upload_key="",
        upload_hash="0" * 64,
        upload_size=1,
        correlation_id="test",
    )
    request = request.model_copy(update={"upload_key": upload_key(request.version_id)})
    await world.services.objects.put(request.upload_key, archive(CLEAN))
    refused = await asyncio.gather(start_publish_review(world.temporal, request), return_exceptions=True)
    assert isinstance(refused[0], Exception)
    handle = await review_of(world, request.version_id)
    assert await handle.result() is None
    assert not await world.services.objects.exists(request.upload_key)
    await check_history(handle, "publish_review/slug_taken", world.settings)


async def test_rules_that_changed_quarantine_what_they_block(world: World) -> None:
    registered = await submitted(world)
    await decide(world, registered, "approve")
    other = await submitted(world)
    await decide(world, other, "approve")
    version_id = registered["version_id"]
    deployer = await world.market.person("una", "user")
    deployment = await world.market.deploy(deployer, registered["agent_id"])
    # As if an earlier rule set had let through what the present one blocks: other code, same record.
    await _as_if_scanned_before(world, version_id, archive(HIDING))
    await _as_if_scanned_before(world, other["version_id"], None)
    started = await world.reviewer.done("POST", "/rescans")
    await world.temporal.get_workflow_handle(started["workflow_id"]).result()

    shown = await version_of(world, version_id)
    assert shown["status"] == "quarantined"
    assert shown["scan_report"]["verdict"] == "BLOCK"
    assert started["rule_set_version"] in shown["review_reason"]
    untouched = await version_of(world, other["version_id"])
    assert (untouched["status"], untouched["rule_set_version"]) == ("published", started["rule_set_version"])
    gone = await deployer.call("GET", f"/agents/{registered['agent_id']}")
    assert gone.status_code == 404
    again = await deployer.call("POST", f"/agents/{registered['agent_id']}/deploy", {})
    assert again.json()["error"]["code"] == "VERSION_NOT_PUBLISHED"
    kept = await deployer.done("GET", f"/deployments/{deployment}")
    assert kept["version_status"] == "quarantined"

    async def letter() -> bool:
        return any("taken out" in str(each["Subject"]) for each in world.letters("dora@example.com"))

    await eventually(letter)


async def test_stored_code_that_is_lost_or_changed_is_quarantined(world: World) -> None:
    registered = await submitted(world)
    await decide(world, registered, "approve")
    async with world.services.database.platform() as connection:
        cursor = await connection.execute(
            "UPDATE agent_versions SET rule_set_version = 'older' WHERE id = %s RETURNING code_s3_key",
            [registered["version_id"]],
        )
        row = await cursor.fetchone()
    assert row is not None
    await world.services.objects.put(row["code_s3_key"], archive({"main.py": "print(2)"}))
    started = await world.reviewer.done("POST", "/rescans")
    await world.temporal.get_workflow_handle(started["workflow_id"]).result()
    shown = await version_of(world, registered["version_id"])
    assert shown["status"] == "quarantined"
    tampered = await world.reviewer.call("GET", f"/agent-versions/{registered['version_id']}/files/main.py")
    assert tampered.json()["error"]["code"] == "CODE_TAMPERED"


async def _as_if_scanned_before(world: World, version_id: str, code: bytes | None) -> None:
    from activities.scanning.archive import unpack

    async with world.services.database.platform() as connection:
        cursor = await connection.execute(
            "UPDATE agent_versions SET rule_set_version = 'older' WHERE id = %s RETURNING code_s3_key",
            [version_id],
        )
        row = await cursor.fetchone()
        assert row is not None
        if code is not None:
            submission = unpack(code)
            await world.services.objects.put(row["code_s3_key"], submission.canonical_bytes)
            await connection.execute(
                "UPDATE agent_versions SET code_hash = %s WHERE id = %s", [submission.sha256, version_id]
            )
