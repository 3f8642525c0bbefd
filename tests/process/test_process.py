"""Processes from deployment to their end, on the real servers."""

from tests.bpmn.builders import bpmn, flows
from tests.process.world import ProcessWorld


def works(*names: str) -> str:
    return "".join(f'<serviceTask id="{name}" sy:taskType="connector:work"/>' for name in names)


async def test_a_sequence_of_services_runs_to_its_end(processes: ProcessWorld) -> None:
    instance = await processes.start(bpmn(works("a", "b"), flows("s>a>b>e")), {"amount": 3})
    shown = await processes.ended(instance)
    assert shown["variables"] == {"amount": 3, "done_a": True, "done_b": True}
    assert await processes.event_types(instance) == [
        "flow.started",
        "element.completed",
        "task.started",
        "task.completed",
        "task.started",
        "task.completed",
        "element.completed",
        "flow.completed",
        "run.succeeded",
    ]


async def test_a_person_completes_a_waiting_task(processes: ProcessWorld) -> None:
    file = bpmn('<userTask id="approve" name="Approve"/>', works("pay"), flows("s>approve>pay>e"))
    instance = await processes.start(file)
    shown = await processes.waiting(instance, "approve")
    assert shown["status"] == "running"
    answer = await processes.call(
        "POST", f"/instances/{instance}/signal", {"taskId": "approve", "payload": {"approved": True}}
    )
    assert answer == {"status": "resumed"}
    shown = await processes.ended(instance)
    assert shown["variables"] == {"approved": True, "done_pay": True}


async def test_a_timer_fires(processes: ProcessWorld) -> None:
    timer = (
        '<intermediateCatchEvent id="wait"><timerEventDefinition><timeDuration>PT0.2S</timeDuration>'
        "</timerEventDefinition></intermediateCatchEvent>"
    )
    instance = await processes.start(bpmn(timer, flows("s>wait>e")))
    await processes.ended(instance)


async def test_a_cancelled_instance_stops_what_is_under_way(processes: ProcessWorld) -> None:
    instance = await processes.start(bpmn('<userTask id="approve"/>', flows("s>approve>e")))
    answer = await processes.call("POST", f"/instances/{instance}/cancel", {"reason": "not needed"})
    assert answer == {"status": "cancelled"}
    shown = await processes.ended(instance, "cancelled")
    assert shown["errorMessage"] == "not needed"
    assert shown["currentTasks"] == []
    refused = await processes.refusal("POST", f"/instances/{instance}/cancel", {})
    assert refused == (409, "PROCESS_ENDED")
