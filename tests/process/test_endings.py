"""Each way an instance can end, with its history kept: it must replay under all later code."""

from typing import Any

from models.run import RunStatus
from models.search_attributes import RUN_STATUS
from tests.bpmn.builders import bpmn, flows
from tests.eventually import eventually
from tests.histories.definitions import keep_definition
from tests.histories.record import check_history
from tests.process.world import ProcessWorld

TIMER = (
    '<intermediateCatchEvent id="pause"><timerEventDefinition><timeDuration>PT0.1S</timeDuration>'
    "</timerEventDefinition></intermediateCatchEvent>"
)
FAILING = '<endEvent id="bad"><errorEventDefinition errorRef="err"/></endEvent>'


def works(*names: str) -> str:
    return "".join(
        f'<serviceTask id="{name}" sy:taskType="connector:work" sy:retries="1"/>' for name in names
    )


async def kept(processes: ProcessWorld, instance: str, name: str, status: RunStatus) -> None:
    handle = processes.handle(instance)
    await handle.result()
    described = await handle.describe()
    assert described.typed_search_attributes[RUN_STATUS] == status
    rows = await processes.rows(
        "SELECT d.content_hash FROM process_definitions d JOIN process_instances i ON i.definition_id = d.id "
        "WHERE i.id = %s",
        instance,
    )
    await keep_definition("process_instance", rows[0]["content_hash"])
    await check_history(handle, f"process_instance/{name}", processes.services.settings)


async def orphans(processes: ProcessWorld, instance: str) -> list[dict[str, Any]]:
    """Whatever of an ended instance is still open in the store."""
    return await processes.rows(
        """
        SELECT 'job' AS what, id FROM process_jobs
            WHERE instance_id = %s AND status IN ('available', 'locked')
        UNION ALL SELECT 'task', id FROM task_executions
            WHERE instance_id = %s AND status NOT IN ('completed', 'failed', 'cancelled')
        UNION ALL SELECT 'subscription', name FROM process_subscriptions WHERE instance_id = %s
        UNION ALL SELECT 'incident', id FROM process_incidents WHERE instance_id = %s AND status = 'open'
        """,
        *[instance] * 4,
    )


async def test_a_completed_instance(processes: ProcessWorld) -> None:
    file = bpmn(works("a"), TIMER, '<userTask id="u"/>', flows("s>a>pause>u>e"), name="completing")
    instance = await processes.start(file)
    await processes.waiting(instance, "u")
    await processes.call("POST", f"/instances/{instance}/signal", {"taskId": "u", "payload": {"y": 1}})
    await processes.ended(instance)
    assert await orphans(processes, instance) == []
    await kept(processes, instance, "completed", RunStatus.SUCCEEDED)


async def test_a_failed_instance(processes: ProcessWorld) -> None:
    file = bpmn(
        works("a"), '<parallelGateway id="g"/><userTask id="u"/>', FAILING, flows("s>g", "g>u", "g>a>bad")
    )
    instance = await processes.start(file)
    shown = await processes.ended(instance, "failed")
    assert "E1" in shown["errorMessage"]
    assert await orphans(processes, instance) == []
    await kept(processes, instance, "failed", RunStatus.FAILED)


async def test_a_cancelled_instance(processes: ProcessWorld) -> None:
    file = bpmn(
        '<parallelGateway id="g"/><userTask id="u"/><serviceTask id="j" sy:taskType="job:idle"/>',
        TIMER.replace("PT0.1S", "PT1H"),
        flows("s>g", "g>u>e", "g>j>e", "g>pause>e"),
    )
    instance = await processes.start(file)
    await processes.waiting(instance, "u", "j", "pause")
    await processes.call("POST", f"/instances/{instance}/cancel", {"reason": "no"})
    assert await orphans(processes, instance) == []
    await kept(processes, instance, "cancelled", RunStatus.CANCELED)


async def test_an_incident_that_is_retried(processes: ProcessWorld) -> None:
    processes.works.broken.add("a")
    instance = await processes.start(bpmn(works("a"), flows("s>a>e"), name="mended"))

    async def opened() -> list[dict[str, Any]]:
        return (await processes.call("GET", f"/incidents?instanceId={instance}&status=open"))["incidents"]

    (incident,) = await eventually(opened)
    processes.works.broken.clear()
    await processes.call("POST", f"/incidents/{incident['id']}/resolve", {})
    await processes.ended(instance)
    await kept(processes, instance, "mended", RunStatus.SUCCEEDED)


async def test_temporals_own_cancellation_ends_an_instance(processes: ProcessWorld) -> None:
    instance = await processes.start(bpmn('<userTask id="u"/>', flows("s>u>e")))
    await processes.handle(instance).cancel()
    await processes.ended(instance, "cancelled")
    await kept(processes, instance, "cancelled_in_temporal", RunStatus.CANCELED)


async def test_a_called_instance(processes: ProcessWorld) -> None:
    await processes.deploy(bpmn(works("inner"), flows("s>inner>e"), name="kept-callee"))
    call = '<callActivity id="c" calledElement="kept-callee"/>'
    instance = await processes.start(bpmn(call, flows("s>c>e"), name="kept-caller"))
    await processes.ended(instance)
    await kept(processes, instance, "calling", RunStatus.SUCCEEDED)
    (child,) = (await processes.call("GET", f"/instances?parentInstanceId={instance}"))["instances"]
    await kept(processes, child["instanceId"], "called", RunStatus.SUCCEEDED)
