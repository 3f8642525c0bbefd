"""Instances outlive their workers and the length of a history; nothing of theirs stays behind."""

import asyncio
import random
from typing import Any

from activities.definition_sources import DefinitionSources
from tests.bpmn.builders import bpmn, flows
from tests.eventually import eventually
from tests.histories.definitions import keep_definition
from tests.histories.record import check_history
from tests.process.test_endings import orphans
from tests.process.world import API, ProcessWorld

ITEMS = 70
MANY = (
    '<serviceTask id="each" sy:taskType="connector:nothing"><multiInstanceLoopCharacteristics '
    'isSequential="true"><loopCardinality>= n</loopCardinality></multiInstanceLoopCharacteristics>'
    "</serviceTask>"
)
BUSY = bpmn(
    '<parallelGateway id="g"/><parallelGateway id="j"/><userTask id="u"/>'
    '<serviceTask id="a" sy:taskType="connector:work"/><serviceTask id="b" sy:taskType="connector:work"/>'
    '<serviceTask id="w" sy:taskType="job:busy"/>'
    '<intermediateCatchEvent id="t"><timerEventDefinition><timeDuration>PT0.3S</timeDuration>'
    "</timerEventDefinition></intermediateCatchEvent>"
    '<intermediateCatchEvent id="m"><messageEventDefinition messageRef="msg"/></intermediateCatchEvent>'
    '<boundaryEvent id="late" attachedToRef="u"><timerEventDefinition><timeDuration>PT1S</timeDuration>'
    "</timerEventDefinition></boundaryEvent>",
    flows("s>g", "g>a>t>b>j", "g>u>j", "late>j", "g>w>j", "g>m>j", "j>e"),
    name="busy",
)


async def test_a_long_instance_continues_as_new_and_loses_nothing(processes: ProcessWorld) -> None:
    file = bpmn(
        '<parallelGateway id="g"/><parallelGateway id="j"/><userTask id="u"/>',
        MANY,
        flows("s>g", "g>each>j", "g>u>j", "j>e"),
        name="long",
    )
    instance = await processes.start(file, {"n": ITEMS})
    first = (await processes.handle(instance).describe()).run_id

    async def all_done() -> bool:
        rows = await processes.rows(
            "SELECT count(*) AS done FROM task_executions WHERE instance_id = %s AND task_id = 'each' "
            "AND status = 'completed'",
            instance,
        )
        return rows[0]["done"] == ITEMS

    await eventually(all_done, timeout=60)
    await processes.call("POST", f"/instances/{instance}/signal", {"taskId": "u", "payload": {"ok": True}})
    shown = await processes.ended(instance)
    assert shown["variables"] == {"n": ITEMS, "ok": True}
    handle = processes.handle(instance)
    assert (await handle.describe()).run_id != first
    types = await processes.event_types(instance)
    assert types.count("task.completed") == ITEMS + 2
    rows = await processes.rows(
        "SELECT d.content_hash FROM process_definitions d JOIN process_instances i ON i.definition_id = d.id "
        "WHERE i.id = %s",
        instance,
    )
    await keep_definition("process_instance", rows[0]["content_hash"])
    await check_history(handle, "process_instance/continued", processes.services.settings)


async def test_random_cancels_and_lost_workers_leave_no_orphan(processes: ProcessWorld) -> None:
    chance = random.Random(20_26)
    definition = await processes.deploy(BUSY)
    instances = [await processes.begin(definition) for _ in range(5)]
    doomed = set(chance.sample(instances, 3))
    await processes.worker.stop()

    async def insist(path: str, body: dict[str, Any]) -> int:
        """Ask until the worker is back and has answered."""

        async def ask() -> int | None:
            answer = await processes.user.call("POST", API + path, body)
            return None if answer.status_code == 503 else answer.status_code

        return await eventually(ask, timeout=60)

    async def disturb(instance: str) -> None:
        await asyncio.sleep(chance.random())
        if instance in doomed:
            assert await insist(f"/instances/{instance}/cancel", {"reason": "chance"}) in (200, 409)
            return
        await processes.call("POST", "/messages", {"name": "order", "ttlSeconds": 60})
        wanted = {"type": "busy", "worker": instance, "waitSeconds": 8}
        for job in (await processes.call("POST", "/jobs/activate", wanted))["jobs"]:
            # It may be the job of an instance that is cancelled meanwhile.
            assert await insist(f"/jobs/{job['id']}/complete", {"worker": instance}) in (200, 404, 409)

    disturbing = [asyncio.create_task(disturb(instance)) for instance in instances]
    await asyncio.sleep(0.2)
    await processes.worker.start()
    await asyncio.gather(*disturbing)
    for instance in instances:
        if instance not in doomed:
            shown = await processes.show(instance)
            if shown["status"] == "running":
                assert await insist(f"/instances/{instance}/cancel", {"reason": "end"}) in (200, 409)
    for instance in instances:
        await processes.handle(instance).result()
        assert await orphans(processes, instance) == []
        description = (await processes.handle(instance).describe()).raw_description
        assert list(description.pending_activities) == []
        await processes.event_types(instance)


async def test_a_worker_that_never_saw_a_definition_reads_it_from_the_store(processes: ProcessWorld) -> None:
    await processes.deploy(bpmn('<userTask id="u"/>', flows("s>u>e"), name="unseen"))
    rows = await processes.rows(
        "SELECT content_hash, parsed_model FROM process_definitions WHERE process_key = 'unseen'"
    )
    sources = DefinitionSources()
    async with sources.reading(processes.services.database):
        found = await asyncio.to_thread(sources.get, rows[0]["content_hash"])
    assert b'"unseen"' in found.canonical
    assert sources.has(rows[0]["content_hash"])
