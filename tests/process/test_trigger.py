"""Triggers on the real servers: calendars, start events, published events."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.streams.publisher import publishing
from activities.trigger import serving_triggers
from tests.bpmn.builders import bpmn, flows
from tests.builders import unique
from tests.eventually import eventually
from tests.process.world import ProcessWorld

WAIT = '<userTask id="wait"/>'


@pytest.fixture(scope="module")
async def world(processes: ProcessWorld) -> AsyncIterator[ProcessWorld]:
    """The world of processes, with triggers at work."""
    async with (
        serving_triggers(processes.services.database, processes.temporal),
        publishing(processes.services.database),
    ):
        yield processes


def process(start: str, body: str = WAIT, *, name: str) -> bytes:
    first = body.split('id="')[1].split('"')[0]
    return bpmn(f'<startEvent id="s">{start}</startEvent>', body, flows(f"s>{first}>e"), name=name)


async def starts(world: ProcessWorld, trigger: str, count: int) -> list[dict[str, Any]]:
    """Wait until a trigger has started so many instances."""

    async def look() -> list[dict[str, Any]] | None:
        found = (await world.call("GET", f"/triggers/{trigger}/starts"))["starts"]
        ids = [start["instanceId"] for start in found]
        begun = await world.rows("SELECT id FROM process_instances WHERE id = ANY(%s)", ids)
        return found if len(found) >= count and len(begun) == len(found) else None

    return await eventually(look, timeout=30)


async def running_of(world: ProcessWorld, key: str, count: int) -> list[dict[str, Any]]:
    """Wait until so many instances of a process are there."""

    async def look() -> list[dict[str, Any]] | None:
        found = (await world.call("GET", f"/instances?processKey={key}"))["instances"]
        return found if len(found) >= count else None

    return await eventually(look, timeout=30)


async def triggers_of(world: ProcessWorld, key: str) -> list[dict[str, Any]]:
    return (await world.call("GET", f"/triggers?processKey={key}"))["triggers"]


async def cron_trigger(world: ProcessWorld, key: str, **more: Any) -> dict[str, Any]:
    await world.deploy(process("", name=key))
    body = {"processKey": key, "cronExpression": "0 9 * * MON-FRI", "timeZone": "Europe/Berlin", **more}
    return await world.call("POST", "/triggers", body)


async def test_a_trigger_runs_its_process_by_hand_with_its_variables(world: ProcessWorld) -> None:
    key = unique("report")
    trigger = await cron_trigger(world, key, variables={"region": "emea"})
    assert (trigger["timeZone"], trigger["enabled"], trigger["origin"]) == ("Europe/Berlin", True, "user")
    await world.call("POST", f"/triggers/{trigger['triggerId']}/run", {})
    (start,) = await starts(world, trigger["triggerId"], 1)
    shown = await world.waiting(start["instanceId"], "wait")
    assert shown["variables"] == {"region": "emea"}
    after = await world.call("GET", f"/triggers/{trigger['triggerId']}")
    assert after["lastTriggeredAt"] is not None
    following = datetime.fromisoformat(after["nextTriggerAt"])
    assert following > datetime.now(UTC)
    assert following.minute == 0


async def test_a_backfill_starts_each_period_once_however_often_it_is_asked_for(world: ProcessWorld) -> None:
    key = unique("ledger")
    trigger = await cron_trigger(world, key, cronExpression="0 6 * * *", timeZone="UTC", enabled=False)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    span = {"start": (today - timedelta(days=3)).isoformat(), "end": today.isoformat()}
    for _ in range(2):
        await world.call("POST", f"/triggers/{trigger['triggerId']}/backfill", span)
    found = await starts(world, trigger["triggerId"], 3)
    periods = [(today - timedelta(days=n) + timedelta(hours=6)).isoformat() for n in (3, 2, 1)]
    assert sorted(start["period"] for start in found) == periods
    rows = await running_of(world, key, 3)
    assert {row["instanceId"] for row in rows} == {start["instanceId"] for start in found}


async def test_a_timer_start_event_starts_the_deployed_version_and_the_next_takes_its_place(
    world: ProcessWorld,
) -> None:
    key = unique("clock")
    timer = "<timerEventDefinition><timeCycle>R/PT1S</timeCycle></timerEventDefinition>"
    done = '<manualTask id="done"/>'
    await world.deploy(process(timer, done, name=key))
    (first,) = await triggers_of(world, key)
    assert (first["kind"], first["origin"], first["cronExpression"]) == ("timer", "deployment", "R/PT1S")
    assert len(await starts(world, first["triggerId"], 2)) >= 2
    later = timer.replace("R/PT1S", "0 4 * * *")
    await world.deploy(process(later, done, name=key))
    (second,) = await triggers_of(world, key)
    assert (second["kind"], second["cronExpression"]) == ("cron", "0 4 * * *")
    assert second["triggerId"] != first["triggerId"]
    status, code = await world.refusal("DELETE", f"/triggers/{second['triggerId']}")
    assert (status, code) == (409, "TRIGGER_BOUND")
    paused = await world.call("PATCH", f"/triggers/{second['triggerId']}", {"enabled": False})
    assert paused["enabled"] is False

    async def gone() -> bool | None:
        try:
            await world.temporal.get_schedule_handle(f"trigger/{first['triggerId']}").describe()
        except Exception:
            return True
        return None

    assert await eventually(gone)
    # The next version's same start event stays paused; deploying the same content changes nothing.
    await world.deploy(process(later.replace("4 *", "5 *"), done, name=key))
    (third,) = await triggers_of(world, key)
    assert third["enabled"] is False


async def test_a_message_starts_a_process_once_per_message_id(world: ProcessWorld) -> None:
    key, name = unique("order"), unique("order-placed")
    data = process('<messageEventDefinition messageRef="m"/>', name=key)
    await world.deploy(data.replace(b"<process", f'<message id="m" name="{name}"/><process'.encode(), 1))
    body = {"name": name, "correlationKey": "o-7", "variables": {"total": 12}, "messageId": unique("mid")}
    answer = await world.call("POST", "/messages", body)
    assert answer["status"] == "delivered"
    again = await world.call("POST", "/messages", body)
    assert again["instanceId"] == answer["instanceId"]
    (row,) = await running_of(world, key, 1)
    assert (row["instanceId"], row["businessKey"]) == (answer["instanceId"], "o-7")
    assert (await world.waiting(row["instanceId"], "wait"))["variables"] == {"total": 12}


async def test_a_signal_starts_every_process_that_begins_with_it(world: ProcessWorld) -> None:
    name, keys = unique("alarm"), [unique("react"), unique("note")]
    for key in keys:
        data = process('<signalEventDefinition signalRef="g"/>', name=key)
        await world.deploy(data.replace(b"<process", f'<signal id="g" name="{name}"/><process'.encode(), 1))
    await world.call("POST", "/signals", {"name": name, "variables": {"level": 3}})
    for key in keys:
        (row,) = await running_of(world, key, 1)
        assert (await world.waiting(row["instanceId"], "wait"))["variables"] == {"level": 3}


async def test_a_published_event_starts_the_processes_whose_triggers_it_fits(world: ProcessWorld) -> None:
    key, watched = unique("follow-up"), unique("watched")
    await world.deploy(process("", name=key))
    await world.deploy(bpmn('<manualTask id="m"/>', flows("s>m>e"), name=watched))
    trigger = await world.call(
        "POST",
        "/triggers",
        {"processKey": key, "kind": "event", "eventType": "flow.started", "match": {"process": watched}},
    )
    definition = (await world.call("GET", f"/definitions?processKey={watched}"))["definitions"][0]
    instance = await world.begin(definition["definitionId"])
    (start,) = await starts(world, trigger["triggerId"], 1)
    shown = await world.waiting(start["instanceId"], "wait")
    assert shown["variables"]["event"]["runId"] == instance
    assert shown["variables"]["event"]["type"] == "flow.started"
    await world.call("DELETE", f"/triggers/{trigger['triggerId']}")
    assert await world.refusal("GET", f"/triggers/{trigger['triggerId']}") == (404, "TRIGGER_NOT_FOUND")


async def test_an_overlapping_period_cancels_the_instance_before_it_where_the_policy_says_so(
    world: ProcessWorld,
) -> None:
    trigger = await cron_trigger(world, unique("poll"))
    path = f"/triggers/{trigger['triggerId']}/run"
    await world.call("POST", path, {"overlapPolicy": "cancel_other"})
    (first,) = await starts(world, trigger["triggerId"], 1)
    await world.waiting(first["instanceId"], "wait")
    await world.call("POST", path, {"overlapPolicy": "cancel_other"})
    await world.ended(first["instanceId"], "cancelled")
    found = await starts(world, trigger["triggerId"], 2)
    other = next(start for start in found if start["instanceId"] != first["instanceId"])
    await world.waiting(other["instanceId"], "wait")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"cronExpression": "0 0 9 * * *"}, "TRIGGER_INVALID"),
        ({"cronExpression": "61 * * * *"}, "TRIGGER_INVALID"),
        ({"cronExpression": "0 9 * * *", "timeZone": "Mars/Base"}, "TRIGGER_INVALID"),
        ({"kind": "event"}, "TRIGGER_INVALID"),
        ({"kind": "cron"}, "TRIGGER_INVALID"),
    ],
)
async def test_a_trigger_that_cannot_work_is_refused(
    world: ProcessWorld, body: dict[str, Any], code: str
) -> None:
    key = unique("any")
    await world.deploy(process("", name=key))
    status, found = await world.refusal("POST", "/triggers", {"processKey": key, **body})
    assert (status, found) == (400, code)


async def test_a_version_whose_timer_start_has_no_usable_time_is_not_deployed(world: ProcessWorld) -> None:
    timer = "<timerEventDefinition><timeCycle>=1 + 1</timeCycle></timerEventDefinition>"
    body = {"bpmnXml": process(timer, name=unique("bad")).decode()}
    assert await world.refusal("POST", "/deploy", body) == (400, "TRIGGER_INVALID")
