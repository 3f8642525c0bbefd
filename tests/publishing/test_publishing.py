"""From the upload to the marketplace, on the real servers."""

import asyncio
import base64
import hashlib
import uuid
from typing import Any

import pytest

from tests.builders import archive, manifest, unique
from tests.eventually import eventually
from tests.publishing_world import World

CLEAN = {"main.py": "import json, sys\nprint(json.dumps({'echo': json.load(sys.stdin)}))\n"}
UNDECLARED = {"main.py": "import socket\nsocket.create_connection(('example.com', 80))\n"}
HIDING = {"main.py": "import base64\neval(base64.b64decode('cHJpbnQoMSk='))\n"}


async def submitted(world: World, files: Any = CLEAN, **changes: Any) -> dict[str, Any]:
    answer = await world.market.submit(world.developer, files, manifest(unique("agent"), **changes))
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


async def version_of(world: World, version_id: str) -> dict[str, Any]:
    return await world.reviewer.done("GET", f"/agent-versions/{version_id}")


async def decide(world: World, registered: dict[str, Any], verb: str, **body: Any) -> Any:
    path = f"/agent-versions/{registered['version_id']}/{verb}"
    return await world.reviewer.call("POST", path, {"code_hash": registered["code_hash"], **body})


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def stored(world: World, version_id: str) -> dict[str, Any]:
    async with world.services.database.platform() as connection:
        row = await (
            await connection.execute("SELECT * FROM agent_versions WHERE id = %s", [version_id])
        ).fetchone()
    assert row is not None
    return row


async def events_of(world: World, run_id: str) -> list[str]:
    async with world.services.database.platform() as connection:
        cursor = await connection.execute(
            "SELECT type FROM run_events WHERE run_id = %s ORDER BY seq", [run_id]
        )
        return [row["type"] for row in await cursor.fetchall()]


async def test_a_clean_version_is_scanned_approved_and_in_the_marketplace_at_once(world: World) -> None:
    registered = await submitted(world)
    assert registered["status"] == "pending"
    assert registered["scan_passed"] is True
    row = await stored(world, registered["version_id"])
    agent_id = registered["agent_id"]
    assert row["code_s3_key"] == f"agents/{agent_id}/v1.0.0.tar.gz"
    code = await world.services.objects.get(row["code_s3_key"])
    assert hashlib.sha256(code).hexdigest() == row["code_hash"] == registered["code_hash"]
    assert len(code) == row["code_size"]
    assert not await world.services.objects.exists(f"quarantine/{registered['version_id']}")
    slug = row["manifest"]["slug"]
    hidden = await world.reviewer.call("GET", f"/agents/{slug}")
    assert code_of(hidden) == (404, "AGENT_NOT_FOUND")

    answer = await decide(world, registered, "approve", reason="Well done.")
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["status"] == "published"
    shown = await world.reviewer.done("GET", f"/agents/{slug}")
    assert (shown["agent_id"], shown["version"]) == (agent_id, "1.0.0")
    assert await events_of(world, registered["version_id"]) == [
        "agent.submitted",
        "run.queued",
        "run.dispatched",
        "agent.scanned",
        "run.started",
        "agent.approved",
        "agent.published",
        "run.succeeded",
    ]


async def test_the_stored_object_carries_the_documented_metadata(world: World) -> None:
    registered = await submitted(world)
    key = (await stored(world, registered["version_id"]))["code_s3_key"]
    client = world.services.objects._client
    head = await asyncio.to_thread(client.head_object, Bucket=world.services.objects.bucket, Key=key)
    assert head["Metadata"]["agent_id"] == registered["agent_id"]
    assert head["Metadata"]["version"] == "1.0.0"
    assert "uploaded_at" in head["Metadata"]


async def test_a_blocked_version_leaves_its_report_and_hash_only(world: World) -> None:
    declared = manifest(unique("hiding"))
    answer = await world.market.submit(world.developer, HIDING, declared)
    assert code_of(answer) == (400, "SCAN_FAILED")
    violation = answer.json()["error"]["details"]["violations"][0]
    assert violation["file"].startswith("main.py")
    assert violation["remedy"]
    listed = await world.developer.done("GET", f"/agent-versions?agent={declared['slug']}")
    (item,) = listed["items"]
    assert item["status"] == "scan_failed"
    row = await stored(world, item["version_id"])
    assert row["code_s3_key"] is None
    assert row["code_hash"]
    assert row["scan_report"]["verdict"] == "BLOCK"
    assert not await world.services.objects.exists(f"quarantine/{row['id']}")
    file = await world.developer.call("GET", f"/agent-versions/{row['id']}/files/main.py")
    assert code_of(file) == (404, "CODE_NOT_KEPT")


async def test_a_version_that_failed_the_scan_may_be_uploaded_again(world: World) -> None:
    declared = manifest(unique("again"))
    assert (await world.market.submit(world.developer, HIDING, declared)).status_code == 400
    assert (await world.market.submit(world.developer, CLEAN, declared)).status_code == 201


async def test_undeclared_capabilities_go_to_review_with_warnings(world: World) -> None:
    registered = await submitted(world, UNDECLARED)
    assert registered["status"] == "pending_review"
    assert registered["scan_passed"] is False
    assert registered["warnings"] >= 1
    file = await world.reviewer.done("GET", f"/agent-versions/{registered['version_id']}/files/main.py")
    assert file["content"] == UNDECLARED["main.py"]
    assert any(finding["line"] >= 1 for finding in file["findings"])


async def test_the_declared_capability_needs_no_warning(world: World) -> None:
    hosts = [{"host": "example.com", "port": 80}]
    registered = await submitted(world, UNDECLARED, capabilities=["network"], network=hosts)
    assert registered["status"] in {"pending", "pending_review"}


async def test_a_rejection_needs_a_reason_and_reaches_the_developer(world: World) -> None:
    registered = await submitted(world)
    assert code_of(await decide(world, registered, "reject")) == (400, "REASON_REQUIRED")
    assert code_of(await decide(world, registered, "reject", reason="  ")) == (400, "REASON_REQUIRED")
    reason = f"The README is missing <b>{uuid.uuid4().hex}</b>"
    answer = await decide(world, registered, "reject", reason=reason)
    assert answer.json()["data"]["status"] == "rejected"

    async def letter() -> Any:
        letters = world.letters("dora@example.com")
        return next((each for each in letters if reason in str(each.get_body(("plain",)))), None)

    found = await eventually(letter)
    assert found["Subject"].endswith("1.0.0 was rejected")
    body = found.get_body(("html",)).get_content()
    assert "<b>" not in body, "a reason is text, not markup"
    shown = await version_of(world, registered["version_id"])
    assert (shown["status"], shown["review_reason"]) == ("rejected", reason)


async def test_a_rejected_version_is_immutable(world: World) -> None:
    declared = manifest(unique("rejected"))
    registered = (await world.market.submit(world.developer, CLEAN, declared)).json()["data"]
    await decide(world, registered, "reject", reason="No.")
    again = await world.market.submit(world.developer, CLEAN, declared)
    assert code_of(again) == (409, "VERSION_EXISTS")


async def test_nobody_reviews_their_own_agent(world: World) -> None:
    both = await world.market.person("bo", "developer", "reviewer")
    answer = await world.market.submit(both, CLEAN, manifest(unique("own")))
    registered = answer.json()["data"]
    body = {"code_hash": registered["code_hash"], "reason": "It is mine."}
    for verb in ("approve", "reject"):
        refused = await both.call("POST", f"/agent-versions/{registered['version_id']}/{verb}", body)
        assert code_of(refused) == (403, "FOUR_EYES")
    refused = await both.call("POST", f"/agent-versions/{registered['version_id']}/test-runs", {})
    assert code_of(refused) == (403, "FOUR_EYES")


async def test_a_decision_counts_for_the_code_that_was_seen(world: World) -> None:
    registered = await submitted(world)
    other = {"version_id": registered["version_id"], "code_hash": "0" * 64}
    assert code_of(await decide(world, other, "approve")) == (409, "CODE_HASH_MISMATCH")


async def test_of_two_reviewers_at_once_one_decides(world: World) -> None:
    registered = await submitted(world)
    second = await world.market.person("rolf", "reviewer")
    path = f"/agent-versions/{registered['version_id']}"
    body = {"code_hash": registered["code_hash"], "reason": "At the same time."}
    answers = await asyncio.gather(
        world.reviewer.call("POST", f"{path}/approve", body), second.call("POST", f"{path}/reject", body)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["error"]["code"] == "VERSION_NOT_PENDING"
    won = next(answer for answer in answers if answer.status_code == 200).json()["data"]
    shown = await version_of(world, registered["version_id"])
    assert (shown["status"], shown["reviewed_by"]) == (won["status"], won["reviewed_by"])


async def test_the_same_decision_twice_gets_the_same_answer(world: World) -> None:
    registered = await submitted(world)
    first = await decide(world, registered, "approve")
    again = await decide(world, registered, "approve")
    assert first.json() == again.json()
    late = await decide(world, registered, "reject", reason="Too late.")
    assert code_of(late) == (409, "VERSION_NOT_PENDING")


async def test_registering_again_with_the_same_key_answers_the_same(world: World) -> None:
    declared = manifest(unique("twice"))
    key = str(uuid.uuid4())
    body = {
        **{name: declared[name] for name in ("name", "slug", "version")},
        "manifest": declared,
        "code_base64": base64.b64encode(archive(CLEAN)).decode(),
    }
    answers = await asyncio.gather(
        *(world.developer.call("POST", "/agents/register", body, key=key) for _ in range(3))
    )
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.text for answer in answers}) == 1
    other = await world.developer.call("POST", "/agents/register", {**body, "name": "Other"}, key=key)
    assert other.status_code in {400, 409}


async def test_a_key_is_required(world: World) -> None:
    answer = await world.developer.call("POST", "/agents/register", {})
    assert code_of(answer) == (400, "INVALID_REQUEST")


async def test_slugs_belong_to_their_first_developer(world: World) -> None:
    declared = manifest(unique("mine"))
    assert (await world.market.submit(world.developer, CLEAN, declared)).status_code == 201
    stranger = await world.market.person("sam", "developer")
    taken = await world.market.submit(stranger, CLEAN, {**declared, "version": "2.0.0"})
    assert code_of(taken) == (409, "SLUG_TAKEN")
    colleague = await world.market.person("col", "developer", tenant=world.developer.tenant_id)
    taken = await world.market.submit(colleague, CLEAN, {**declared, "version": "2.0.0"})
    assert code_of(taken) == (409, "SLUG_TAKEN")
    newer = await world.market.submit(world.developer, CLEAN, {**declared, "version": "2.0.0"})
    assert newer.status_code == 201
    exists = await world.market.submit(world.developer, CLEAN, declared)
    assert code_of(exists) == (409, "VERSION_EXISTS")


async def test_a_new_version_never_ships_unreviewed_and_old_ones_stay_deployable(world: World) -> None:
    declared = manifest(unique("versions"))
    first = (await world.market.submit(world.developer, CLEAN, declared)).json()["data"]
    await decide(world, first, "approve")
    second = (
        await world.market.submit(
            world.developer, CLEAN, {**declared, "version": "1.1.0", "description": "Much better."}
        )
    ).json()["data"]
    shown = await world.reviewer.done("GET", f"/agents/{declared['slug']}")
    assert (shown["version"], shown["description"]) == ("1.0.0", declared["description"])
    await decide(world, second, "approve")
    shown = await world.reviewer.done("GET", f"/agents/{declared['slug']}")
    assert (shown["version"], shown["description"]) == ("1.1.0", "Much better.")
    assert [each["version"] for each in shown["versions"]] == ["1.1.0", "1.0.0"]
    late = (await world.market.submit(world.developer, CLEAN, {**declared, "version": "1.0.1"})).json()[
        "data"
    ]
    await decide(world, late, "approve")
    shown = await world.reviewer.done("GET", f"/agents/{declared['slug']}")
    assert shown["version"] == "1.1.0", "an older version approved later does not become the newest"


async def test_a_review_shows_the_difference_to_the_last_approved_version(world: World) -> None:
    declared = manifest(unique("diff"))
    files = {**CLEAN, "old.txt": "gone\n", "same.txt": "same\n", "logo.bin": b"\x00\x01"}
    first = (await world.market.submit(world.developer, files, declared)).json()["data"]
    whole = await world.reviewer.done("GET", f"/agent-versions/{first['version_id']}/diff")
    assert whole["against_version"] is None
    assert {each["change"] for each in whole["files"]} == {"added"}
    await decide(world, first, "approve")
    changed = {"main.py": CLEAN["main.py"] + "# more\n", "new.txt": "new\n", "same.txt": "same\n"}
    newer = {**declared, "version": "1.1.0", "capabilities": ["filesystem"]}
    second = (await world.market.submit(world.developer, changed, newer)).json()["data"]
    found = await world.reviewer.done("GET", f"/agent-versions/{second['version_id']}/diff")
    assert found["against_version"] == "1.0.0"
    assert {(each["path"], each["change"]) for each in found["files"]} == {
        ("main.py", "modified"),
        ("new.txt", "added"),
        ("old.txt", "removed"),
        ("logo.bin", "removed"),
    }
    assert found["unchanged"] == 1
    by_path = {each["path"]: each["diff"] for each in found["files"]}
    assert "+# more" in by_path["main.py"]
    assert by_path["logo.bin"] is None
    assert {each["field"] for each in found["manifest"]} == {"version", "capabilities"}


async def test_the_queue_of_pending_versions_is_the_reviewers_only(world: World) -> None:
    registered = await submitted(world)
    queue = await world.reviewer.done("GET", "/agent-versions?status=pending&limit=100")
    assert registered["version_id"] in {item["version_id"] for item in queue["items"]}
    stranger = await world.market.person("sid", "developer")
    assert (await stranger.done("GET", "/agent-versions"))["items"] == []
    for path in ("", "/files/main.py", "/diff"):
        answer = await stranger.call("GET", f"/agent-versions/{registered['version_id']}{path}")
        assert code_of(answer) == (404, "VERSION_NOT_FOUND")
    user = await world.market.person("uma", "user")
    assert code_of(await user.call("GET", "/agent-versions")) == (403, "PERMISSION_DENIED")
    approve = f"/agent-versions/{registered['version_id']}/approve"
    refused = await stranger.call("POST", approve, {"code_hash": registered["code_hash"]})
    assert code_of(refused) == (403, "PERMISSION_DENIED")


async def test_code_of_published_versions_stays_with_owner_and_reviewers(world: World) -> None:
    registered = await submitted(world)
    await decide(world, registered, "approve")
    stranger = await world.market.person("sue", "developer")
    answer = await stranger.call("GET", f"/agent-versions/{registered['version_id']}/files/main.py")
    assert code_of(answer) == (404, "VERSION_NOT_FOUND")


async def test_the_queue_is_paged(world: World) -> None:
    declared = manifest(unique("paged"))
    for number in range(3):
        await world.market.submit(world.developer, CLEAN, {**declared, "version": f"1.0.{number}"})
    path = f"/agent-versions?agent={declared['slug']}&limit=2"
    first = await world.developer.done("GET", path)
    rest = await world.developer.done("GET", f"{path}&cursor={first['next_cursor']}")
    assert [item["version"] for item in first["items"] + rest["items"]] == ["1.0.2", "1.0.1", "1.0.0"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"code_base64": "%%%"}, "INVALID_BASE64"),
        ({"code_base64": base64.b64encode(b"no archive").decode()}, "INVALID_ARCHIVE"),
        ({"code_base64": base64.b64encode(archive({})).decode()}, "INVALID_ARCHIVE"),
        ({"code_base64": base64.b64encode(bytes(11_000_000)).decode()}, "ARCHIVE_TOO_LARGE"),
        ({"slug": "another"}, "INVALID_MANIFEST"),
        ({"manifest": {"name": "x"}}, "INVALID_MANIFEST"),
        ({"manifest": []}, "INVALID_REQUEST"),
        ({"more": 1}, "INVALID_REQUEST"),
        ({"code_base64": 7}, "INVALID_REQUEST"),
    ],
)
async def test_bad_submissions_are_refused_by_name(world: World, change: dict[str, Any], code: str) -> None:
    declared = manifest(unique("bad"))
    body: dict[str, Any] = {
        **{name: declared[name] for name in ("name", "slug", "version")},
        "manifest": declared,
        "code_base64": base64.b64encode(archive(CLEAN)).decode(),
        **change,
    }
    answer = await world.developer.call("POST", "/agents/register", body, key=str(uuid.uuid4()), timeout=60)
    assert code_of(answer) == (400, code)


async def test_a_schema_that_could_hang_a_check_is_refused_at_registration(world: World) -> None:
    declared = manifest(
        unique("redos"), input_schema={"type": "object", "properties": {"a": {"pattern": "(?=a)+"}}}
    )
    answer = await world.market.submit(world.developer, CLEAN, declared)
    assert code_of(answer) == (400, "INVALID_MANIFEST")
    assert answer.json()["error"]["details"]["fields"][0]["field"] == "input_schema.properties.a.pattern"


async def test_the_file_of_a_version_that_has_none_is_named(world: World) -> None:
    registered = await submitted(world)
    answer = await world.reviewer.call("GET", f"/agent-versions/{registered['version_id']}/files/no/such")
    assert code_of(answer) == (404, "VERSION_FILE_NOT_FOUND")
