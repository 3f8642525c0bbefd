"""What operators, people and outside workers do to running instances."""

from typing import Any

from tests.bpmn.builders import bpmn, flows
from tests.eventually import eventually
from tests.process.world import ProcessWorld


def works(*names: str) -> str:
    return "".join(
        f'<serviceTask id="{name}" sy:taskType="connector:work" sy:retries="1"/>' for name in names
    )


def jobs(*names: str, retries: int = 2) -> str:
    return "".join(
        f'<serviceTask id="{name}" sy:taskType="job:pack-{name}" sy:retries="{retries}"/>' for name in names
    )


CATCH = (
    '<intermediateCatchEvent id="wait"><messageEventDefinition messageRef="msg">'
    "</messageEventDefinition></intermediateCatchEvent>"
)
SIGNAL = '<intermediateCatchEvent id="wait"><signalEventDefinition signalRef="sig"/></intermediateCatchEvent>'


async def incident_of(processes: ProcessWorld, instance: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await processes.call("GET", f"/incidents?instanceId={instance}&status=open")
        return found["incidents"][0] if found["incidents"] else None

    return await eventually(look)


async def test_a_technical_failure_is_an_incident_that_stops_only_its_branch(processes: ProcessWorld) -> None:
    processes.works.broken.add("a")
    file = bpmn(
        '<parallelGateway id="g"/><parallelGateway id="j"/>',
        works("a", "b"),
        flows("s>g", "g>a>j", "g>b>j", "j>e"),
    )
    instance = await processes.start(file)
    incident = await incident_of(processes, instance)
    assert (incident["taskId"], incident["type"]) == ("a", "JOB")
    assert "it is broken" in incident["message"]

    async def other_branch_is_through() -> bool:
        return (await processes.show(instance))["variables"].get("done_b", False)

    await eventually(other_branch_is_through)
    tried = await processes.call("POST", f"/incidents/{incident['id']}/resolve", {"dryRun": True})
    assert tried["dryRun"]
    assert (await processes.show(instance))["openIncidents"] == 1
    processes.works.broken.clear()
    await processes.call("POST", f"/incidents/{incident['id']}/resolve", {"variables": {"fixed": True}})
    shown = await processes.ended(instance)
    assert shown["variables"] == {"done_a": True, "done_b": True, "fixed": True}
    assert shown["openIncidents"] == 0
    tasks = (await processes.call("GET", f"/tasks?instanceId={instance}"))["tasks"]
    assert {task["taskId"]: (task["status"], task["attemptCount"]) for task in tasks} == {
        "a": ("completed", 2),
        "b": ("completed", 1),
    }


async def test_an_incident_can_be_skipped(processes: ProcessWorld) -> None:
    processes.works.broken.add("a")
    instance = await processes.start(bpmn(works("a", "b"), flows("s>a>b>e")))
    incident = await incident_of(processes, instance)
    await processes.call("POST", f"/incidents/{incident['id']}/resolve", {"action": "skip"})
    assert (await processes.ended(instance))["variables"] == {"done_b": True}


async def test_a_bpmn_error_of_a_service_is_caught_by_its_boundary_event(processes: ProcessWorld) -> None:
    file = bpmn(
        '<serviceTask id="a" sy:taskType="connector:refuse"/>',
        '<boundaryEvent id="b" attachedToRef="a"><errorEventDefinition errorRef="err"/></boundaryEvent>',
        works("mend"),
        flows("s>a>e", "b>mend>e"),
    )
    instance = await processes.start(file)
    shown = await processes.ended(instance)
    assert shown["variables"]["done_mend"] is True


async def test_an_outside_worker_locks_fails_extends_and_completes_a_job(processes: ProcessWorld) -> None:
    instance = await processes.start(bpmn(jobs("box"), flows("s>box>e")), {"order": 7})
    wanted = {"type": "pack-box", "worker": "w1", "lockSeconds": 30, "waitSeconds": 5}
    (job,) = (await processes.call("POST", "/jobs/activate", wanted))["jobs"]
    assert (job["instanceId"], job["variables"], job["retries"]) == (instance, {"order": 7}, 2)
    nothing = await processes.call("POST", "/jobs/activate", {"type": "pack-box", "worker": "w2"})
    assert nothing["jobs"] == []
    stolen = await processes.refusal("POST", f"/jobs/{job['id']}/complete", {"worker": "w2"})
    assert stolen == (409, "JOB_NOT_LOCKED")
    longer = {"worker": "w1", "lockSeconds": 60}
    assert (await processes.call("POST", f"/jobs/{job['id']}/extend", longer))["lockedUntil"]
    failed = {"worker": "w1", "message": "out of boxes"}
    answer = await processes.call("POST", f"/jobs/{job['id']}/fail", failed)
    assert (answer["status"], answer["retries"]) == ("available", 1)
    (again,) = (await processes.call("POST", "/jobs/activate", {**wanted, "worker": "w2"}))["jobs"]
    assert again["id"] == job["id"]
    done = {"worker": "w2", "variables": {"boxes": 1}}
    await processes.call("POST", f"/jobs/{job['id']}/complete", done)
    shown = await processes.ended(instance)
    assert shown["variables"] == {"order": 7, "boxes": 1}
    assert "task.retried" in await processes.event_types(instance)
    late = await processes.refusal("POST", f"/jobs/{job['id']}/complete", done)
    assert late == (409, "JOB_NOT_LOCKED")


async def test_a_job_without_attempts_left_is_an_incident_and_offered_again_on_retry(
    processes: ProcessWorld,
) -> None:
    instance = await processes.start(bpmn(jobs("crate", retries=1), flows("s>crate>e")))
    wanted = {"type": "pack-crate", "worker": "w1", "waitSeconds": 5}
    (job,) = (await processes.call("POST", "/jobs/activate", wanted))["jobs"]
    await processes.call("POST", f"/jobs/{job['id']}/fail", {"worker": "w1", "message": "no"})
    incident = await incident_of(processes, instance)
    assert incident["message"] == "no"
    await processes.call("POST", f"/incidents/{incident['id']}/resolve", {})
    (again,) = (await processes.call("POST", "/jobs/activate", wanted))["jobs"]
    assert again["id"] != job["id"]
    caught = {"worker": "w1", "code": "E9"}
    await processes.call("POST", f"/jobs/{again['id']}/error", caught)
    assert (await incident_of(processes, instance))["type"] == "UNCAUGHT_ERROR"
    await processes.call("POST", f"/instances/{instance}/cancel", {})


async def test_two_candidates_cannot_both_complete_a_task(processes: ProcessWorld) -> None:
    file = bpmn('<userTask id="t" sy:candidateGroups="user"/>', flows("s>t>e"))
    instance = await processes.start(file)
    await processes.waiting(instance, "t")
    (task,) = (await processes.call("GET", f"/tasks?instanceId={instance}&claimable=true"))["tasks"]
    claimed = await processes.call("POST", f"/tasks/{task['id']}/claim")
    assert claimed["assignee"] == processes.user.user_id
    await processes.call("POST", f"/tasks/{task['id']}/release")
    answer = await processes.call("POST", f"/tasks/{task['id']}/complete", {"variables": {"ok": True}})
    assert answer["status"] == "completed"
    refused = await processes.refusal("POST", f"/tasks/{task['id']}/complete", {})
    assert refused == (409, "PROCESS_ENDED")
    (task,) = (await processes.call("GET", f"/tasks?instanceId={instance}"))["tasks"]
    assert (task["completedBy"], task["outputVariables"]) == (processes.user.user_id, {"ok": True})


async def test_a_message_finds_the_instance_that_waits_for_it_and_is_taken_once(
    processes: ProcessWorld,
) -> None:
    instance = await processes.start(bpmn(CATCH, flows("s>wait>e")))
    await processes.waiting(instance, "wait")
    message = {"name": "order", "variables": {"paid": 5}, "messageId": f"pay-{instance}"}
    first = await processes.call("POST", "/messages", message)
    assert (first["status"], first["instanceId"]) == ("correlated", instance)
    assert (await processes.ended(instance))["variables"] == {"paid": 5}
    again = await processes.call("POST", "/messages", message)
    assert again["status"] in ("correlated", "delivered")
    other = await processes.refusal("POST", "/messages", {**message, "name": "other"})
    assert other == (409, "MESSAGE_ID_REUSED")


async def test_a_message_waits_for_an_instance_until_its_time_is_over(processes: ProcessWorld) -> None:
    name = "order"
    early = await processes.call("POST", "/messages", {"name": name, "variables": {"early": True}})
    assert early["status"] == "buffered"
    instance = await processes.start(bpmn(CATCH, flows("s>wait>e")))
    assert (await processes.ended(instance))["variables"] == {"early": True}
    gone = await processes.call("POST", "/messages", {"name": name, "ttlSeconds": 0})
    assert gone["status"] == "buffered"
    waits = await processes.start(bpmn(CATCH, flows("s>wait>e")))
    await processes.waiting(waits, "wait")
    await processes.call("POST", f"/instances/{waits}/cancel", {})


async def test_a_signal_reaches_everybody_who_waits(processes: ProcessWorld) -> None:
    instances = [await processes.start(bpmn(SIGNAL, flows("s>wait>e"))) for _ in range(2)]
    for instance in instances:
        await processes.waiting(instance, "wait")
    answer = await processes.call("POST", "/signals", {"name": "alarm", "variables": {"loud": True}})
    assert answer["instances"] == sorted(instances)
    for instance in instances:
        assert (await processes.ended(instance))["variables"] == {"loud": True}


async def test_a_message_thrown_by_one_process_is_caught_by_another(processes: ProcessWorld) -> None:
    waits = await processes.start(bpmn(CATCH, flows("s>wait>e")))
    await processes.waiting(waits, "wait")
    throw = (
        '<intermediateThrowEvent id="t"><messageEventDefinition messageRef="msg"/></intermediateThrowEvent>'
    )
    throws = await processes.start(bpmn(throw, flows("s>t>e")))
    await processes.ended(throws)
    await processes.ended(waits)


async def test_a_held_instance_keeps_what_happens_until_it_goes_on(processes: ProcessWorld) -> None:
    instance = await processes.start(bpmn('<userTask id="t"/>', works("a"), flows("s>t>a>e")))
    await processes.waiting(instance, "t")
    assert await processes.call("POST", f"/instances/{instance}/suspend", {}) == {"status": "suspended"}
    assert (await processes.show(instance))["status"] == "suspended"
    assert (await processes.refusal("POST", f"/instances/{instance}/suspend", {}))[0] == 409
    await processes.call("POST", f"/instances/{instance}/signal", {"taskId": "t", "payload": {"x": 1}})
    assert (await processes.show(instance))["status"] == "suspended"
    assert processes.works.count("a") == 0
    resumed = await processes.user.call("POST", f"/runs/{instance}/resume", {})
    assert resumed.status_code == 200, resumed.text
    assert (await processes.ended(instance))["variables"] == {"x": 1, "done_a": True}


async def test_variables_are_changed_only_at_the_version_that_was_read(processes: ProcessWorld) -> None:
    instance = await processes.start(bpmn('<userTask id="t"/>', flows("s>t>e")), {"x": 1})
    version = (await processes.show(instance))["stateVersion"]
    path = f"/instances/{instance}/variables"
    done = await processes.call("PUT", path, {"variables": {"x": 2}, "expectedVersion": version})
    assert done["stateVersion"] == version + 1
    stale = await processes.refusal("PUT", path, {"variables": {"x": 3}, "expectedVersion": version})
    assert stale == (409, "STATE_VERSION_CONFLICT")
    history = await processes.call("GET", f"/instances/{instance}/state/history")
    assert [entry["state"] for entry in history["versions"]] == [{"x": 2}, {"x": 1}]
    assert history["versions"][0]["changedBy"] == processes.user.user_id
    await processes.call("POST", f"/instances/{instance}/cancel", {})


async def test_tokens_are_moved_cancelled_and_placed(processes: ProcessWorld) -> None:
    file = bpmn('<userTask id="t"/><userTask id="u"/>', works("a"), flows("s>t>u>a>e"))
    instance = await processes.start(file)
    await processes.waiting(instance, "t")
    (element,) = [
        item
        for item in (await processes.call("GET", f"/instances/{instance}/elements"))["elements"]
        if item["element"] == "t"
    ]
    move = {"changes": [{"action": "move", "key": element["key"], "element": "u"}]}
    tried = await processes.call("POST", f"/instances/{instance}/modify", {**move, "dryRun": True})
    assert "started u" in tried["trace"]
    await processes.waiting(instance, "t")
    await processes.call("POST", f"/instances/{instance}/modify", move)
    await processes.waiting(instance, "u")
    wrong = {"changes": [{"action": "start_before", "element": "nowhere"}], "dryRun": True}
    refused = await processes.refusal("POST", f"/instances/{instance}/modify", wrong)
    assert refused == (409, "BPMN_OPERATION_REFUSED")
    await processes.call("POST", f"/instances/{instance}/restart", {"element": "a", "variables": {"r": 1}})
    assert (await processes.ended(instance))["variables"] == {"r": 1, "done_a": True}


async def test_an_instance_moves_to_another_version(processes: ProcessWorld) -> None:
    name = "moved"
    old = await processes.deploy(bpmn('<userTask id="t"/>', flows("s>t>e"), name=name))
    new = await processes.deploy(bpmn('<userTask id="v"/>', works("a"), flows("s>v>a>e"), name=name))
    instance = await processes.begin(old)
    await processes.waiting(instance, "t")
    path = f"/instances/{instance}/migrate"
    refused = await processes.refusal("POST", path, {"definitionId": new, "dryRun": True})
    assert refused == (409, "BPMN_MIGRATION_REFUSED")
    await processes.call("POST", path, {"definitionId": new, "elements": {"t": "v"}})
    shown = await processes.waiting(instance, "v")
    assert shown["definitionId"] == new
    await processes.call("POST", f"/instances/{instance}/signal", {"taskId": "v"})
    assert (await processes.ended(instance))["variables"] == {"done_a": True}
    listed = await processes.call("GET", f"/definitions?processKey={name}")
    assert [item["version"] for item in listed["definitions"]] == [2, 1]


async def test_a_called_process_gives_its_results_and_its_errors_back(processes: ProcessWorld) -> None:
    await processes.deploy(bpmn(works("inner"), flows("s>inner>e"), name="callee"))
    call = '<callActivity id="c" calledElement="callee"/>'
    instance = await processes.start(bpmn(call, flows("s>c>e"), name="caller"), {"x": 1})
    assert (await processes.ended(instance))["variables"] == {"x": 1, "done_inner": True}
    children = await processes.call("GET", f"/instances?parentInstanceId={instance}")
    assert [child["status"] for child in children["instances"]] == ["completed"]
    failing = '<endEvent id="bad"><errorEventDefinition errorRef="err"/></endEvent>'
    await processes.deploy(bpmn(failing, flows("s>bad"), name="failing"))
    caught = bpmn(
        '<callActivity id="c" calledElement="failing"/>'
        '<boundaryEvent id="b" attachedToRef="c"><errorEventDefinition errorRef="err"/></boundaryEvent>',
        works("mend"),
        flows("s>c>e", "b>mend>e"),
        name="catcher",
    )
    instance = await processes.start(caught)
    assert (await processes.ended(instance))["variables"] == {"done_mend": True}


async def test_cancelling_a_caller_cancels_what_it_called(processes: ProcessWorld) -> None:
    await processes.deploy(bpmn('<userTask id="t"/>', flows("s>t>e"), name="waits"))
    call = '<callActivity id="c" calledElement="waits"/>'
    instance = await processes.start(bpmn(call, flows("s>c>e"), name="outer"))

    async def child() -> dict[str, Any] | None:
        found = await processes.call("GET", f"/instances?parentInstanceId={instance}")
        return found["instances"][0] if found["instances"] else None

    called = await eventually(child)
    await processes.waiting(called["instanceId"], "t")
    await processes.call("POST", f"/instances/{instance}/cancel", {})
    await processes.ended(called["instanceId"], "cancelled")


async def test_variables_and_tokens_are_shown_as_of_any_event(processes: ProcessWorld) -> None:
    file = bpmn(works("a"), '<userTask id="t"/>', flows("s>a>t>e"))
    instance = await processes.start(file, {"x": 1})
    await processes.waiting(instance, "t")
    await processes.call("POST", f"/instances/{instance}/signal", {"taskId": "t", "payload": {"x": 2}})
    await processes.ended(instance)
    types = await processes.event_types(instance)
    started = types.index("task.started") + 1
    early = await processes.call("GET", f"/instances/{instance}/state?seq={started}")
    assert early["variables"] == {"x": 1}
    assert [token["element"] for token in early["tokens"]] == ["a"]
    second = types.index("task.started", started) + 1
    middle = await processes.call("GET", f"/instances/{instance}/state?seq={second}")
    assert middle["variables"] == {"x": 1, "done_a": True}
    assert [token["element"] for token in middle["tokens"]] == ["t"]
    last = await processes.call("GET", f"/instances/{instance}/state")
    assert (last["variables"], last["tokens"]) == ({"x": 2, "done_a": True}, [])
    assert (await processes.refusal("GET", f"/instances/{instance}/state?seq=999"))[0] == 400


async def test_agents_and_tenants_keep_state_with_versions(processes: ProcessWorld) -> None:
    instance = await processes.start(bpmn('<userTask id="t"/>', flows("s>t>e")))
    for path in (f"/instances/{instance}/agents/classifier/state", f"/state/config-{instance}"):
        assert await processes.call("GET", path) == {"state": {}, "version": 0}
        first = {"state": {"seen": 1}, "expectedVersion": 0}
        assert (await processes.call("PUT", path, first))["version"] == 1
        assert await processes.refusal("PUT", path, first) == (409, "STATE_VERSION_CONFLICT")
        second = {"state": {"seen": 2}, "expectedVersion": 1}
        assert await processes.call("PUT", path, second) == {"state": {"seen": 2}, "version": 2}
    await processes.call("POST", f"/instances/{instance}/cancel", {})


async def test_an_agent_that_is_not_deployed_is_an_incident(processes: ProcessWorld) -> None:
    instance = await processes.start(
        bpmn('<serviceTask id="a" sy:taskType="agent:nobody"/>', flows("s>a>e"), name="agentless")
    )
    incident = await incident_of(processes, instance)
    assert "no deployment of an agent nobody" in incident["message"]
    await processes.call("POST", f"/instances/{instance}/cancel", {})
