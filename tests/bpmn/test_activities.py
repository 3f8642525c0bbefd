from datetime import timedelta
from typing import Any

import pytest

from tests.bpmn.builders import HOLD, bpmn, flows, orphans, run, tasks, variables
from workflows.bpmn import commands as out
from workflows.bpmn import inputs
from workflows.bpmn.simulate import Outcome

SIGNAL = '<signalEventDefinition signalRef="sig"/>'


def _multi(attributes: str = "", inside: str = "", body: str = "", extra: str = "") -> bytes:
    return bpmn(
        f'<serviceTask id="a" sy:taskType="work">{body}'
        f"<multiInstanceLoopCharacteristics {attributes}>{inside}</multiInstanceLoopCharacteristics>"
        f"</serviceTask>",
        tasks("n"),
        extra,
        flows("s>a>n>e"),
    )


@pytest.mark.parametrize("sequential", ["true", "false"])
def test_a_multi_instance_activity_runs_once_per_item_and_collects_results_in_order(sequential: str):
    data = _multi(
        f'isSequential="{sequential}"',
        '<extensionElements><zeebe:loopCharacteristics inputCollection="= list" inputElement="item"'
        ' outputCollection="doubled" outputElement="= result"/></extensionElements>',
        '<extensionElements><zeebe:ioMapping><zeebe:output source="= twice" target="result"/>'
        "</zeebe:ioMapping></extensionElements>",
    )

    def work(job: out.StartJob) -> Outcome:
        item = job.variables["item"]
        # Later items finish first.
        return Outcome({"twice": item * 2}, delay=timedelta(hours=10 - item))

    ran = run(data, {"list": [1, 2, 3]}, outcomes={"a": work})
    assert ran.completed
    assert ran.variables["doubled"] == [2, 4, 6]
    assert ran.log == ["a", "a", "a", "n"]


def test_an_empty_collection_is_passed_over():
    data = _multi('camunda:collection="list" camunda:elementVariable="x"')
    assert run(data, {"list": []}).log == ["n"]


def test_a_collection_that_is_none_is_an_incident_that_can_be_corrected():
    data = _multi('camunda:collection="list"')
    ran = run(data, {"list": 5})
    assert ran.incidents == ["COLLECTION"]
    ran.go_on(inputs.ResolveIncident(ran.simulation.now, ran.key_of("a"), "retry", {"list": [1]}))
    assert ran.log == ["a", "n"]


def test_a_completion_condition_cancels_the_instances_that_still_run():
    data = _multi(
        "",
        "<loopCardinality>5</loopCardinality>"
        "<completionCondition>numberOfCompletedInstances >= 2</completionCondition>",
    )
    answers = iter([HOLD, Outcome(), HOLD, Outcome(), HOLD, Outcome()])
    ran = run(data, outcomes={"a": lambda job: next(answers)})
    assert (ran.log.count("a"), ran.log[-1], ran.completed) == (5, "n", True)
    assert orphans(ran) == []


def test_a_window_bounds_the_instances_that_run_at_once_and_the_state():
    data = _multi('sy:window="10"', "<loopCardinality>1000</loopCardinality>")
    most = 0
    pending: list[int] = []

    ran = run(data, outcomes={"a": HOLD})
    while not ran.completed:
        alive = [key for key, item in ran.state.instances.items() if item.node == "a" and item.role == "task"]
        most = max(most, len(alive))
        pending.append(len(alive))
        for key in alive:
            ran.simulation.send(ran.main, inputs.JobCompleted(ran.simulation.now, key))
        ran.go_on()
    assert most == 10
    assert ran.log.count("a") == 1000


def test_a_boundary_event_on_a_multi_instance_activity_cancels_all_instances():
    data = _multi(
        "",
        "<loopCardinality>3</loopCardinality>",
        extra=f'<boundaryEvent id="bo" attachedToRef="a">{SIGNAL}</boundaryEvent><endEvent id="e2"/>'
        + flows("bo>e2"),
    )
    ran = run(data, outcomes={"a": HOLD})
    ran.simulation.broadcast("alarm")
    ran.go_on()
    assert (ran.log, ran.completed) == (["a", "a", "a"], True)
    assert orphans(ran) == []


def test_an_error_in_one_instance_ends_the_multi_instance_activity():
    data = _multi(
        "",
        "<loopCardinality>3</loopCardinality>",
        extra='<boundaryEvent id="bo" attachedToRef="a"><errorEventDefinition/></boundaryEvent>'
        '<endEvent id="e2"/>' + tasks("f") + flows("bo>f>e2"),
    )
    answers = iter([HOLD, Outcome(error="E1"), HOLD])
    ran = run(data, outcomes={"a": lambda job: next(answers)})
    assert (ran.log, ran.completed) == (["a", "a", "a", "f"], True)


def _behavior(behavior: str, inside: str = "", boundary: str = "") -> bytes:
    root = '<signal id="sig" name="alarm"/><signalEventDefinition id="shared" signalRef="sig"/>'
    return bpmn(
        '<serviceTask id="a" sy:taskType="work"><multiInstanceLoopCharacteristics isSequential="true"'
        f' behavior="{behavior}" {behavior.lower()}BehaviorEventRef="shared">'
        f"<loopCardinality>3</loopCardinality>{inside}</multiInstanceLoopCharacteristics></serviceTask>",
        f'<boundaryEvent id="bo" attachedToRef="a" {boundary}>{SIGNAL}</boundaryEvent>',
        tasks("x", "n"),
        flows("s>a>n>e", "bo>x"),
        root=root,
    )


def test_a_multi_instance_behavior_throws_its_event_for_each_or_for_the_first_instance():
    assert sorted(run(_behavior("None")).log) == ["a", "a", "a", "n", "x", "x", "x"]
    assert sorted(run(_behavior("One")).log) == ["a", "a", "a", "n", "x"]
    assert sorted(run(_behavior("All")).log) == ["a", "a", "a", "n"]


def test_a_complex_behavior_throws_where_its_condition_holds():
    rule = (
        "<complexBehaviorDefinition><condition>numberOfCompletedInstances = 2</condition>"
        f"<event>{SIGNAL}</event></complexBehaviorDefinition>"
    )
    assert sorted(run(_behavior("Complex", rule, 'cancelActivity="false"')).log) == ["a", "a", "a", "n", "x"]
    assert sorted(run(_behavior("Complex", rule)).log) == ["a", "a", "n", "x"]


def _loop(attributes: str, condition: str = "") -> bytes:
    inside = f"<loopCondition>{condition}</loopCondition>" if condition else ""
    return bpmn(
        f'<serviceTask id="a" sy:taskType="work"><standardLoopCharacteristics {attributes}>{inside}'
        "</standardLoopCharacteristics></serviceTask>",
        tasks("n"),
        flows("s>a>n>e"),
    )


@pytest.mark.parametrize(
    ("attributes", "condition", "rounds"),
    [
        ("", "loopCounter &lt; 3", 3),
        ("", "false", 1),
        ('testBefore="true"', "false", 0),
        ('loopMaximum="2"', "true", 2),
        ('loopMaximum="4"', "", 4),
        ('loopMaximum="0"', "true", 0),
        ('testBefore="true"', "loopCounter &lt; 3", 3),
    ],
)
def test_a_standard_loop_goes_on_while_its_condition_holds(attributes: str, condition: str, rounds: int):
    assert run(_loop(attributes, condition)).log == ["a"] * rounds + ["n"]


def test_start_and_completion_quantities_count_tokens():
    data = bpmn(
        '<serviceTask id="a" sy:taskType="work" completionQuantity="3"/>',
        '<serviceTask id="b" sy:taskType="work" startQuantity="2"/>',
        tasks("n"),
        flows("s>a>b>n>e"),
    )
    ran = run(data)
    assert ran.log == ["a", "b", "n"]
    assert ran.incidents == ["DEADLOCK"]  # the third token waits for a fourth


def test_inputs_and_outputs_are_mapped_and_nothing_else_passes():
    data = bpmn(
        '<serviceTask id="a"><extensionElements><zeebe:taskDefinition type="charge" retries="5"/>'
        '<zeebe:ioMapping><zeebe:input source="= order.total + 1" target="amount"/>'
        '<zeebe:input source="EUR" target="money.currency"/>'
        '<zeebe:output source="= receipt.id" target="order.receipt"/></zeebe:ioMapping>'
        '<zeebe:taskHeaders><zeebe:header key="k" value="v"/></zeebe:taskHeaders>'
        "</extensionElements></serviceTask>",
        flows("s>a>e"),
    )
    seen: list[out.StartJob] = []

    def work(job: out.StartJob) -> Outcome:
        seen.append(job)
        return Outcome({"receipt": {"id": "r1"}, "noise": True})

    ran = run(data, {"order": {"total": 9}}, outcomes={"a": work})
    assert seen[0].variables == {"amount": 10, "money": {"currency": "EUR"}}
    assert (seen[0].type, seen[0].retries, seen[0].details["headers"]) == ("charge", 5, {"k": "v"})
    assert ran.variables == {"order": {"total": 9, "receipt": "r1"}}


def test_a_failed_output_mapping_is_an_incident_and_the_work_is_not_repeated():
    data = bpmn(
        '<serviceTask id="a"><extensionElements><zeebe:taskDefinition type="t"/><zeebe:ioMapping>'
        '<zeebe:output source="= for i in 1..100000000 return i" target="x"/></zeebe:ioMapping>'
        "</extensionElements></serviceTask>",
        flows("s>a>e"),
    )
    ran = run(data)
    assert ran.incidents == ["EXPRESSION"]
    ran.go_on(inputs.ResolveIncident(ran.simulation.now, ran.key_of("a"), "skip"))
    assert (ran.log, ran.completed) == (["a"], True)


def test_a_technical_failure_is_an_incident_while_other_branches_go_on():
    data = bpmn('<parallelGateway id="g"/>', tasks("a", "b", "c"), flows("s>g", "g>a>e", "g>b>c>e"))
    answers = iter([Outcome(failure="connection refused"), Outcome()])
    ran = run(data, outcomes={"a": lambda job: next(answers)})
    assert (ran.log, ran.incidents) == (["a", "b", "c"], ["JOB"])
    ran.go_on(inputs.ResolveIncident(ran.simulation.now, ran.key_of("a"), "retry"))
    assert ran.completed
    jobs = [e.command for e in ran.simulation.trace if isinstance(e.command, out.StartJob)]
    assert [job.attempt for job in jobs if job.element == "a"] == [1, 2]


def test_a_script_in_feel_sets_its_result():
    data = bpmn(
        '<scriptTask id="a" scriptFormat="feel" sy:resultVariable="n"><script>n + 1</script></scriptTask>',
        '<scriptTask id="b"><extensionElements><zeebe:script expression="= {m: n * 2, k: 1}"/>'
        "</extensionElements></scriptTask>",
        flows("s>a>b>e"),
    )
    assert run(data, {"n": 1}).variables == {"n": 2, "m": 4, "k": 1}


def test_a_user_task_carries_its_people_form_and_dates():
    data = bpmn(
        '<userTask id="a" camunda:assignee="${boss}" camunda:candidateGroups="a,b" camunda:formKey="f1"'
        ' camunda:dueDate="2026-02-01T00:00:00Z"/>',
        '<userTask id="b"><extensionElements><zeebe:assignmentDefinition assignee="= boss"'
        ' candidateGroups="= [&quot;x&quot;]"/><zeebe:formDefinition formId="f2"/>'
        '<zeebe:taskSchedule dueDate="= due"/></extensionElements></userTask>',
        flows("s>a>b>e"),
    )
    seen: list[dict[str, Any]] = []

    def work(job: out.StartJob) -> Outcome:
        seen.append(job.details)
        return Outcome()

    run(data, {"boss": "eve", "due": "2026-03-01"}, outcomes={"a": work, "b": work})
    assert seen[0]["assignee"] == "eve"
    assert seen[0]["candidate_groups"] == "a,b"
    assert seen[0]["due_date"] == "2026-02-01T00:00:00Z"
    assert seen[1] == {"assignee": "eve", "candidate_groups": ["x"], "form": "f2", "due_date": "2026-03-01"}


CALLED = (
    '<process id="q" isExecutable="true"><startEvent id="qs"/>'
    + tasks("w")
    + '<exclusiveGateway id="qg" default="qg_qe"/><endEvent id="qe"/>'
    '<endEvent id="qx"><errorEventDefinition errorRef="err"/></endEvent>'
    + flows("qs>w>qg", "qg>qe", "qg>qx: bad")
    + "</process>"
)


def test_a_call_activity_runs_a_process_and_takes_its_variables_over():
    data = bpmn('<callActivity id="c" calledElement="q"/>', tasks("n"), flows("s>c>n>e"), more=CALLED)
    ran = run(data, {"x": 1}, outcomes={"w": variables(y=2)})
    assert (ran.log, ran.variables) == (["w", "n"], {"x": 1, "y": 2})


def test_a_call_activity_maps_in_and_out_and_catches_the_called_process_error():
    data = bpmn(
        '<callActivity id="c" calledElement="q"><extensionElements><camunda:in source="x" target="bad"/>'
        '<camunda:out source="y" target="z"/></extensionElements></callActivity>',
        '<boundaryEvent id="bo" attachedToRef="c"><errorEventDefinition errorRef="err"/></boundaryEvent>',
        '<endEvent id="e2"/>',
        tasks("n", "f"),
        flows("s>c>n>e", "bo>f>e2"),
        more=CALLED,
    )
    ran = run(data, {"x": False}, outcomes={"w": variables(y=2, noise=1)})
    assert (ran.log, ran.variables) == (["w", "n"], {"x": False, "z": 2})
    assert run(data, {"x": True}).log == ["w", "f"]


def test_cancelling_a_call_activity_cancels_the_called_instance():
    data = bpmn(
        '<callActivity id="c" calledElement="q"/>',
        f'<boundaryEvent id="bo" attachedToRef="c">{SIGNAL}</boundaryEvent>',
        flows("s>c>e"),
        more=CALLED,
    )
    ran = run(data, outcomes={"w": HOLD})
    ran.simulation.broadcast("alarm")
    ran.go_on()
    assert [s.state.status for s in ran.simulation.instances.values()] == ["completed", "terminated"]


def test_a_call_activity_runs_a_global_task():
    more = '<globalScriptTask id="g"><extensionElements><zeebe:script expression="= {y: x + 1}"/>'
    more += "</extensionElements></globalScriptTask>"
    data = bpmn('<callActivity id="c" calledElement="g"/>', flows("s>c>e"), more=more)
    assert run(data, {"x": 1}).variables == {"x": 1, "y": 2}


def test_a_receive_task_with_instantiate_starts_the_process():
    data = bpmn('<receiveTask id="r" messageRef="msg" instantiate="true"/>', tasks("a"), flows("r>a"))
    ran = run(data, {"v": 1}, node="r")
    assert (ran.log, ran.variables) == (["a"], {"v": 1})


def test_the_local_variables_of_a_scope_do_not_leak():
    data = bpmn(
        '<subProcess id="sub"><extensionElements><zeebe:ioMapping><zeebe:input source="= 1" target="x"/>'
        '<zeebe:output source="= x" target="result"/></zeebe:ioMapping></extensionElements>',
        tasks("a"),
        "</subProcess>",
        flows("s>sub>e"),
    )
    ran = run(data, outcomes={"a": variables(x=5, y=6)})
    assert ran.variables == {"result": 5, "y": 6}


def test_data_objects_are_read_and_written_through_associations():
    data = bpmn(
        '<dataObject id="do" name="report"/><dataObjectReference id="ref" dataObjectRef="do"/>',
        '<serviceTask id="a" sy:taskType="w"><ioSpecification><dataOutput id="o1" name="result"/>'
        "<inputSet/><outputSet/></ioSpecification><dataOutputAssociation><sourceRef>o1</sourceRef>"
        "<targetRef>ref</targetRef></dataOutputAssociation></serviceTask>",
        '<serviceTask id="b" sy:taskType="w"><ioSpecification><dataInput id="i1" name="text"/>'
        "<inputSet/><outputSet/></ioSpecification><dataInputAssociation><sourceRef>ref</sourceRef>"
        "<targetRef>i1</targetRef></dataInputAssociation></serviceTask>",
        flows("s>a>b>e"),
    )
    seen: list[dict[str, Any]] = []

    def read(job: out.StartJob) -> Outcome:
        seen.append(job.variables)
        return Outcome()

    ran = run(data, outcomes={"a": variables(result="text of it"), "b": read})
    assert seen == [{"text": "text of it"}]
    assert ran.variables == {"report": "text of it"}


def test_a_property_of_a_task_is_its_own_variable():
    data = bpmn(
        '<serviceTask id="a" sy:taskType="w"><property id="pr" name="scratch"/></serviceTask>', flows("s>a>e")
    )
    seen: list[dict[str, Any]] = []

    def work(job: out.StartJob) -> Outcome:
        seen.append(job.variables)
        return Outcome()

    assert run(data, {"x": 1}, outcomes={"a": work}).variables == {"x": 1}
    assert seen == [{"x": 1, "scratch": None}]


def _ad_hoc(attributes: str = "", inside: str = "", *names: str) -> bytes:
    return bpmn(
        f'<adHocSubProcess id="ah" {attributes}>{tasks(*(names or ("a", "b", "c")))}{inside}'
        "</adHocSubProcess>",
        tasks("n"),
        flows("s>ah>n>e"),
    )


def test_an_ad_hoc_sub_process_runs_its_activities_in_parallel_or_one_by_one():
    assert run(_ad_hoc()).log == ["a", "b", "c", "n"]
    ran = run(_ad_hoc('ordering="Sequential"'), outcomes={"a": HOLD})
    assert ran.log == ["a"]
    assert run(_ad_hoc('ordering="Sequential"')).log == ["a", "b", "c", "n"]


def test_an_ad_hoc_completion_condition_cancels_or_awaits_what_remains():
    done = "<completionCondition>enough</completionCondition>"
    ran = run(_ad_hoc("", done), {"enough": False}, outcomes={"a": HOLD, "b": variables(enough=True)})
    assert (ran.log[-1], ran.completed) == ("n", True)
    waits = _ad_hoc('cancelRemainingInstances="false"', done)
    ran = run(waits, {"enough": False}, outcomes={"a": HOLD, "b": variables(enough=True)})
    assert "n" not in ran.log
    ran.go_on(inputs.JobCompleted(ran.simulation.now, ran.key_of("a")))
    assert ran.completed


def test_an_operator_chooses_in_a_manual_ad_hoc_sub_process_and_joins_work_inside():
    data = _ad_hoc(
        'sy:activation="manual"', '<parallelGateway id="j"/>' + tasks("z") + flows("a>j", "b>j", "j>z")
    )
    ran = run(data)
    assert ran.log == []
    key = ran.key_of("ah")
    ran.go_on(inputs.ActivateElements(ran.simulation.now, key, ("a", "b")))
    assert ran.log == ["a", "b", "z"]
    ran.go_on(inputs.ActivateElements(ran.simulation.now, key, ("c",), {"v": 1}))
    ran.go_on(inputs.CompleteAdHoc(ran.simulation.now, key))
    assert (ran.log, ran.completed, ran.variables) == (["a", "b", "z", "c", "n"], True, {"v": 1})


def test_an_agent_chooses_the_tools_of_an_ad_hoc_sub_process_until_it_is_done():
    data = bpmn(
        '<adHocSubProcess id="ah"><extensionElements><zeebe:taskDefinition type="agent"/>'
        "</extensionElements>",
        '<serviceTask id="a" name="Look up" sy:taskType="w">'
        "<documentation>Finds it.</documentation></serviceTask>",
        tasks("b"),
        "</adHocSubProcess>",
        tasks("n"),
        flows("s>ah>n>e"),
    )
    asked: list[out.StartJob] = []

    def agent(job: out.StartJob) -> Outcome:
        asked.append(job)
        if len(asked) == 1:
            return Outcome({"activate": [{"element": "a", "variables": {"q": 1}}, "b"]})
        return Outcome({"complete": True, "answer": 42})

    ran = run(data, outcomes={"ah": agent})
    assert ran.log == ["ah", "a", "b", "ah", "n"]
    assert ran.variables == {"q": 1, "answer": 42}
    assert asked[0].details["tools"][0] == {"id": "a", "name": "Look up", "documentation": "Finds it."}
