"""Finding, rating and deploying agents, on the real servers."""

import uuid
from typing import Any

import pytest

from activities.marketplace import decrypt_config, encrypt_config, reencrypt_deployments
from activities.records.executions import insert_execution
from activities.records.runs import append_events, create_run
from activities.temporal.codec import DecryptionError, KeyRing
from models.execution import ExecutionRequest
from models.identifiers import new_identifier
from models.marketplace import Sort
from models.run import Run, RunKind, RunStatus
from models.settings import EncryptionKey
from tests.builders import Person, manifest, unique
from tests.publishing_world import World

CODE = {"main.py": "print('{}')\n"}

CONFIG_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["session"],
    "properties": {
        "session": {"type": "string", "minLength": 8},
        "max_requests": {"type": "integer", "minimum": 1, "maximum": 100},
    },
}


async def published(world: World, **changes: Any) -> dict[str, Any]:
    declared = manifest(changes.pop("slug", None) or unique("shop"), **changes)
    registered = await world.market.publish(world.developer, world.reviewer, CODE, declared)
    return {**declared, **registered}


async def ended_execution(
    world: World, user: Person, agent: dict[str, Any], status: RunStatus = RunStatus.SUCCEEDED
) -> None:
    """Write an ended execution straight into the store."""
    execution_id = new_identifier("execution")
    request = ExecutionRequest(
        execution_id=execution_id,
        tenant_id=user.tenant_id,
        user_id=user.user_id,
        deployment_id=new_identifier("deployment"),
        agent_id=agent["agent_id"],
        agent_slug=agent["slug"],
        version_id=agent["version_id"],
        developer_id=world.developer.user_id,
        developer_tenant_id=world.developer.tenant_id,
        code_hash="0" * 64,
        timeout_ms=1000,
        price_amount=0,
        price_currency="INR",
        correlation_id="test",
    )
    run = Run(
        id=execution_id,
        tenant_id=user.tenant_id,
        kind=RunKind.AGENT_EXECUTION,
        subject=agent["slug"],
        correlation_id="test",
        workflow_id="none",
    )
    async with world.services.database.tenant(user.tenant_id) as connection:
        await create_run(connection, run)
        await insert_execution(connection, request, None)
        for each in (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING, status):
            await append_events(connection, execution_id, [], status=each)


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def slugs(person: Person, query: str) -> list[str]:
    return [item["slug"] for item in (await person.done("GET", f"/agents?{query}"))["items"]]


async def test_agents_are_found_by_category_and_words(world: World) -> None:
    user = await world.market.person("uma", "user")
    category, word = f"c{uuid.uuid4().hex[:8]}", f"zq{uuid.uuid4().hex[:8]}"
    first = await published(world, category=category, description=f"Reconciles invoices {word}.")
    second = await published(world, category=category, name=f"Summaries {word}x")
    other = await published(world)
    assert set(await slugs(user, f"category={category}")) == {first["slug"], second["slug"]}
    assert await slugs(user, f"category={category}&q=invoice") == [first["slug"]], "words are stemmed"
    assert await slugs(user, f"q={word}x") == [second["slug"]]
    assert other["slug"] in await slugs(user, f"q={other['slug'][:12]}")
    assert await slugs(user, f"category={category}&q=%25%5F'") == []


@pytest.mark.parametrize("sort", list(Sort))
async def test_every_order_pages_without_gap_or_repetition(world: World, sort: Sort) -> None:
    user = await world.market.person("uma", "user")
    category = f"p{uuid.uuid4().hex[:8]}"
    made = [
        await published(world, category=category, pricing=pricing)
        for pricing in (
            {"model": "free"},
            {"model": "per_execution", "amount": 5, "currency": "INR"},
            {"model": "per_execution", "amount": 5, "currency": "INR"},
        )
    ]
    seen: list[str] = []
    cursor = ""
    while True:
        page = await user.done("GET", f"/agents?category={category}&sort={sort}&limit=1{cursor}")
        seen += [item["slug"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == sorted(agent["slug"] for agent in made)
    if sort is Sort.PRICE:
        assert seen[0] == made[0]["slug"]
    if sort is Sort.NEWEST:
        assert seen == [agent["slug"] for agent in reversed(made)]


@pytest.mark.parametrize("cursor", ["x", "W10", "WyJuYW1lIiwxLCJ4Il0", "%00", "bnVsbA"])
async def test_a_cursor_that_is_not_ours_is_refused(world: World, cursor: str) -> None:
    user = await world.market.person("uma", "user")
    answer = await user.call("GET", f"/agents?cursor={cursor}")
    assert answer.status_code == 400


async def test_an_agent_shows_what_one_must_know_before_deploying_it(world: World) -> None:
    user = await world.market.person("uma", "user")
    agent = await published(world, config_schema=CONFIG_SCHEMA)
    for name in (agent["slug"], agent["agent_id"]):
        shown = await user.done("GET", f"/agents/{name}")
        assert shown["pricing"] == {"model": "per_execution", "amount": 50, "currency": "INR"}
        assert shown["input_schema"] == agent["input_schema"]
        assert shown["config_schema"] == CONFIG_SCHEMA
        assert shown["rating"] == {"average": None, "count": 0}
        assert shown["success_rate"] is None
        assert [each["version"] for each in shown["versions"]] == ["1.0.0"]
        assert "scan_report" not in str(shown)
        assert "code_s3_key" not in str(shown)


async def test_only_users_who_ran_an_agent_rate_it_once(world: World) -> None:
    agent = await published(world)
    path = f"/agents/{agent['agent_id']}/reviews"
    users = [await world.market.person(name, "user") for name in ("ann", "ben")]
    assert code_of(await users[0].call("POST", path, {"rating": 5})) == (403, "REVIEW_NOT_ALLOWED")
    await ended_execution(world, users[0], agent)
    await ended_execution(world, users[1], agent, RunStatus.FAILED)
    await users[0].done("POST", path, {"rating": 1, "comment": "Slow."})
    await users[0].done("POST", path, {"rating": 4, "comment": "Better now."})
    await users[1].done("POST", path, {"rating": 5})
    shown = await users[1].done("GET", f"/agents/{agent['slug']}")
    assert shown["rating"] == {"average": 4.5, "count": 2}
    comments = [review["comment"] for review in (await users[1].done("GET", path))["items"]]
    assert comments == [None, "Better now."]
    developer = await world.developer.call("POST", path, {"rating": 5})
    assert code_of(developer) == (403, "REVIEW_NOT_ALLOWED")
    for rating in (0, 6, "5", 4.5, None):
        assert (await users[0].call("POST", path, {"rating": rating})).status_code == 400


async def test_a_run_that_was_cancelled_is_no_ground_for_a_rating(world: World) -> None:
    agent = await published(world)
    user = await world.market.person("cam", "user")
    await ended_execution(world, user, agent, RunStatus.CANCELED)
    answer = await user.call("POST", f"/agents/{agent['agent_id']}/reviews", {"rating": 5})
    assert code_of(answer) == (403, "REVIEW_NOT_ALLOWED")


async def test_a_configuration_never_leaves(world: World) -> None:
    agent = await published(world, config_schema=CONFIG_SCHEMA)
    user = await world.market.person("uma", "user")
    secret = f"s3cr3t-{uuid.uuid4().hex}"
    config = {"session": secret, "max_requests": 50}
    key = str(uuid.uuid4())
    path = f"/agents/{agent['agent_id']}/deploy"
    made = await user.call("POST", path, {"version": "1.0.0", "config": config}, key=key)
    assert made.status_code == 201
    deployment_id = made.json()["data"]["deployment_id"]
    assert made.json()["data"]["status"] == "configured"
    again = await user.call("POST", path, {"version": "1.0.0", "config": config}, key=key)
    assert again.json() == made.json()
    for answer in (
        made,
        await user.call("GET", f"/deployments/{deployment_id}"),
        await user.call("GET", "/deployments"),
    ):
        assert secret not in answer.text
    async with world.services.database.platform() as connection:
        row = await (
            await connection.execute("SELECT * FROM agent_deployments WHERE id = %s", [deployment_id])
        ).fetchone()
    assert row is not None
    assert secret.encode() not in row["config_ciphertext"]
    ring = world.services.key_ring
    assert decrypt_config(ring, deployment_id, row["config_ciphertext"], row["config_key_id"]) == config
    with pytest.raises(DecryptionError):
        decrypt_config(ring, "dep_other", row["config_ciphertext"], row["config_key_id"])


async def test_a_configuration_that_does_not_fit_names_every_field_and_no_value(world: World) -> None:
    agent = await published(world, config_schema=CONFIG_SCHEMA)
    user = await world.market.person("uma", "user")
    body = {"config": {"session": "short", "max_requests": 0, "more": "s3cr3t-value"}}
    answer = await user.call("POST", f"/agents/{agent['agent_id']}/deploy", body)
    assert code_of(answer) == (400, "INVALID_CONFIG")
    fields = answer.json()["error"]["details"]["fields"]
    assert {each["field"] for each in fields} == {"session", "max_requests", "more"}
    assert "s3cr3t-value" not in answer.text


async def test_what_is_not_published_cannot_be_deployed(world: World) -> None:
    agent = await published(world)
    user = await world.market.person("uma", "user")
    answer = await user.call("POST", f"/agents/{agent['agent_id']}/deploy", {"version": "9.9.9"})
    assert code_of(answer) == (409, "VERSION_NOT_PUBLISHED")
    assert answer.json()["error"]["details"]["published"] == ["1.0.0"]
    declared = manifest(unique("pending"))
    pending = (await world.market.submit(world.developer, CODE, declared)).json()["data"]
    answer = await user.call("POST", f"/agents/{pending['agent_id']}/deploy", {})
    assert code_of(answer) == (404, "AGENT_NOT_FOUND")
    assert code_of(await user.call("POST", "/agents/no-such-agent/deploy", {})) == (404, "AGENT_NOT_FOUND")


async def test_deployments_are_their_tenants_own(world: World) -> None:
    agent = await published(world)
    user, stranger = [await world.market.person(name, "user") for name in ("uma", "sid")]
    deployment_id = await world.market.deploy(user, agent["agent_id"])
    answer = await stranger.call("GET", f"/deployments/{deployment_id}")
    assert code_of(answer) == (404, "DEPLOYMENT_NOT_FOUND")
    assert (await stranger.done("GET", "/deployments"))["items"] == []
    listed = await user.done("GET", f"/deployments?agent={agent['slug']}")
    assert [item["deployment_id"] for item in listed["items"]] == [deployment_id]


async def test_configurations_move_to_the_current_key(world: World) -> None:
    agent = await published(world, config_schema=CONFIG_SCHEMA)
    user = await world.market.person("uma", "user")
    config = {"session": "to be re-encrypted"}
    deployment_id = await world.market.deploy(user, agent["agent_id"], config)
    old = world.settings.encryption_key_ring()
    new = EncryptionKey("rotated", uuid.uuid4().bytes * 2)
    database = world.services.database
    assert await reencrypt_deployments(database, KeyRing([new, *old])) >= 1
    async with database.platform() as connection:
        row = await (
            await connection.execute("SELECT * FROM agent_deployments WHERE id = %s", [deployment_id])
        ).fetchone()
    assert row is not None
    assert row["config_key_id"] == "rotated"
    alone = KeyRing([new])
    assert decrypt_config(alone, deployment_id, row["config_ciphertext"], "rotated") == config
    # Back to the world's own ring, so that others' deployments stay readable.
    await reencrypt_deployments(database, KeyRing([*old, new]))
    operator = await world.market.person("oz", "operator")
    assert await operator.done("POST", "/deployments/re-encrypt") == {"re_encrypted": 0}
    assert code_of(await user.call("POST", "/deployments/re-encrypt")) == (403, "PERMISSION_DENIED")


def test_a_ciphertext_is_bound_to_its_deployment() -> None:
    ring = KeyRing([EncryptionKey("k", bytes(32))])
    ciphertext, key_id = encrypt_config(ring, "dep_a", {"a": 1})
    assert decrypt_config(ring, "dep_a", ciphertext, key_id) == {"a": 1}
    with pytest.raises(DecryptionError):
        decrypt_config(ring, "dep_b", ciphertext, key_id)
