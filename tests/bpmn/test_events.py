from datetime import timedelta

import pytest

from tests.bpmn.builders import HOLD, Ran, bpmn, flows, orphans, run, tasks, variables
from workflows.bpmn import inputs
from workflows.bpmn.simulate import EPOCH, Outcome

TIMER = "<timerEventDefinition><timeDuration>PT1H</timeDuration></timerEventDefinition>"
MESSAGE = '<messageEventDefinition messageRef="msg"/>'
SIGNAL = '<signalEventDefinition signalRef="sig"/>'
CONDITION = "<conditionalEventDefinition><condition>x > 10</condition></conditionalEventDefinition>"
ERROR = '<errorEventDefinition errorRef="err"/>'
ESCALATION = '<escalationEventDefinition escalationRef="esc"/>'
TRIGGERS = {"timer": TIMER, "message": MESSAGE, "signal": SIGNAL, "conditional": CONDITION}


def _trigger(ran: Ran, kind: str) -> Ran:
    if kind == "message":
        ran.simulation.publish("order", variables={"got": 1})
        return ran.go_on()
    if kind == "signal":
        ran.simulation.broadcast("alarm", {"got": 1})
        return ran.go_on()
    if kind == "conditional":
        return ran.go_on(inputs.VariablesChanged(ran.simulation.now, {"x": 11}))
    return ran.go_on(after=timedelta(hours=2))


@pytest.mark.parametrize("kind", TRIGGERS)
def test_an_intermediate_catch_event_waits_for_its_trigger(kind: str):
    data = bpmn(
        f'<intermediateCatchEvent id="c">{TRIGGERS[kind]}</intermediateCatchEvent>',
        tasks("a"),
        flows("s>c>a>e"),
    )
    ran = run(data, {"x": 1}, until=timedelta(0))
    assert ran.log == []
    _trigger(ran, kind)
    assert (ran.log, ran.completed) == (["a"], True)
    assert orphans(ran) == []


@pytest.mark.parametrize("kind", TRIGGERS)
@pytest.mark.parametrize("interrupting", [True, False])
@pytest.mark.parametrize("inner", ["task", "subProcess"])
def test_a_boundary_event_fires_and_cancels_only_if_it_interrupts(kind: str, interrupting: bool, inner: str):
    activity = tasks("a")
    if inner == "subProcess":
        activity = f'<subProcess id="a">{tasks("i")}</subProcess>'
    data = bpmn(
        activity,
        f'<boundaryEvent id="bo" attachedToRef="a" cancelActivity="{str(interrupting).lower()}">'
        f"{TRIGGERS[kind]}</boundaryEvent>",
        '<endEvent id="e2"/>',
        tasks("n", "x1"),
        flows("s>a>n>e", "bo>x1>e2"),
    )
    working = "i" if inner == "subProcess" else "a"
    ran = run(data, {"x": 1}, outcomes={working: HOLD}, until=timedelta(0))
    key = ran.key_of(working)
    _trigger(ran, kind)
    assert ran.log == [working, "x1"]
    assert ran.completed is interrupting
    if not interrupting:
        ran.go_on(inputs.JobCompleted(ran.simulation.now, key))
        assert ran.log == [working, "x1", "n"]
        assert ran.completed
    assert orphans(ran) == []


@pytest.mark.parametrize("kind", TRIGGERS)
@pytest.mark.parametrize("interrupting", [True, False])
def test_an_event_sub_process_starts_and_cancels_only_if_it_interrupts(kind: str, interrupting: bool):
    data = bpmn(
        tasks("a", "n"),
        '<subProcess id="h" triggeredByEvent="true">'
        f'<startEvent id="hs" isInterrupting="{str(interrupting).lower()}">{TRIGGERS[kind]}</startEvent>',
        tasks("x1"),
        flows("hs>x1"),
        "</subProcess>",
        flows("s>a>n>e"),
    )
    ran = run(data, {"x": 1}, outcomes={"a": HOLD}, until=timedelta(0))
    key = ran.key_of("a")
    _trigger(ran, kind)
    assert ran.log == ["a", "x1"]
    assert ran.completed is interrupting
    if not interrupting:
        ran.go_on(inputs.JobCompleted(ran.simulation.now, key))
        assert ran.log == ["a", "x1", "n"]
    assert orphans(ran) == []


def _in_scope(*inside: str, catch: str = "", outer: str = "") -> bytes:
    return bpmn(
        f'<subProcess id="sub"><startEvent id="is"/>{"".join(inside)}</subProcess>',
        f'<boundaryEvent id="bo" attachedToRef="sub">{catch}</boundaryEvent>' if catch else "",
        outer,
        '<endEvent id="e2"/>',
        tasks("n", "caught"),
        flows("s>sub>n>e"),
        flows("bo>caught>e2") if catch else flows("caught>e2"),
    )


def test_an_error_end_event_is_caught_on_the_boundary_and_stops_its_siblings():
    data = _in_scope(
        '<parallelGateway id="g"/>',
        tasks("a", "b"),
        f'<endEvent id="ie">{ERROR}</endEvent>',
        flows("is>g", "g>a>ie", "g>b"),
        catch=ERROR,
    )
    ran = run(data, outcomes={"b": HOLD})
    assert (ran.log, ran.completed) == (["a", "b", "caught"], True)
    assert orphans(ran) == []


def test_an_error_is_caught_by_its_code_before_any_and_passes_by_other_codes():
    boundary = (
        '<boundaryEvent id="other" attachedToRef="sub"><errorEventDefinition errorRef="err2"/>'
        "</boundaryEvent>"
        '<boundaryEvent id="any" attachedToRef="sub"><errorEventDefinition/></boundaryEvent>'
    )
    data = _in_scope(
        tasks("a"), flows("is>a"), catch=ERROR, outer=boundary + tasks("o", "y") + flows("other>o", "any>y")
    )
    assert run(data, outcomes={"a": Outcome(error="E1")}).log == ["a", "caught"]
    assert run(data, outcomes={"a": Outcome(error="E2")}).log == ["a", "o"]
    assert run(data, outcomes={"a": Outcome(error="E3")}).log == ["a", "y"]


def test_a_catcher_whose_error_has_no_code_catches_any():
    data = bpmn(
        tasks("a", "f"),
        '<boundaryEvent id="bo" attachedToRef="a"><errorEventDefinition errorRef="vague"/></boundaryEvent>',
        flows("s>a>e", "bo>f"),
        root='<error id="vague" name="Something"/>',
    )
    assert run(data, outcomes={"a": Outcome(error="WHATEVER")}).log == ["a", "f"]


def test_an_error_nobody_catches_ends_the_instance_and_one_of_a_job_is_an_incident():
    data = bpmn(tasks("a"), f'<endEvent id="e">{ERROR}</endEvent>', flows("s>a>e"))
    ran = run(data)
    assert (ran.failed, ran.state.status) == ("E1", "failed")
    assert run(data, outcomes={"a": Outcome(error="E1")}).incidents == ["UNCAUGHT_ERROR"]


def test_an_event_sub_process_catches_an_error_and_the_scope_ends_normally():
    handler = (
        f'<subProcess id="h" triggeredByEvent="true"><startEvent id="hs">{ERROR}</startEvent>'
        f"{tasks('fix')}{flows('hs>fix')}</subProcess>"
    )
    data = _in_scope(
        tasks("a"), handler, f'<endEvent id="ie">{ERROR}</endEvent>', flows("is>a>ie"), catch=ERROR
    )
    ran = run(data)
    assert (ran.log, ran.completed) == (["a", "fix", "n"], True)


def test_an_error_thrown_by_a_handler_is_not_caught_by_the_handler_itself():
    handler = (
        f'<subProcess id="h" triggeredByEvent="true"><startEvent id="hs">{ERROR}</startEvent>'
        f'{tasks("fix")}<endEvent id="he">{ERROR}</endEvent>{flows("hs>fix>he")}</subProcess>'
    )
    data = _in_scope(
        tasks("a"), handler, f'<endEvent id="ie">{ERROR}</endEvent>', flows("is>a>ie"), catch=ERROR
    )
    assert run(data).log == ["a", "fix", "caught"]


def test_the_error_code_and_the_workers_variables_reach_the_catcher():
    catch = '<errorEventDefinition errorRef="err" camunda:errorCodeVariable="code"/>'
    data = _in_scope(tasks("a"), flows("is>a"), catch=catch)
    ran = run(data, outcomes={"a": Outcome({"why": "empty"}, error="E1")})
    assert ran.variables == {"why": "empty", "code": "E1"}


@pytest.mark.parametrize("interrupting", [True, False])
def test_an_escalation_stops_its_thrower_only_if_the_catcher_interrupts(interrupting: bool):
    data = bpmn(
        '<subProcess id="sub"><startEvent id="is"/>',
        f'<intermediateThrowEvent id="th">{ESCALATION}</intermediateThrowEvent>',
        tasks("after"),
        flows("is>th>after"),
        "</subProcess>",
        f'<boundaryEvent id="bo" attachedToRef="sub" cancelActivity="{str(interrupting).lower()}">'
        f"{ESCALATION}</boundaryEvent>",
        '<endEvent id="e2"/>',
        tasks("n", "boss"),
        flows("s>sub>n>e", "bo>boss>e2"),
    )
    ran = run(data)
    assert sorted(ran.log) == (["boss"] if interrupting else ["after", "boss", "n"])
    assert ran.completed


@pytest.mark.parametrize("interrupting", [True, False])
def test_an_escalation_is_caught_by_an_event_sub_process(interrupting: bool):
    data = bpmn(
        f'<intermediateThrowEvent id="th">{ESCALATION}</intermediateThrowEvent>',
        f'<subProcess id="h" triggeredByEvent="true"><startEvent id="hs"'
        f' isInterrupting="{str(interrupting).lower()}">{ESCALATION}</startEvent>',
        tasks("boss"),
        flows("hs>boss"),
        "</subProcess>",
        tasks("after"),
        flows("s>th>after>e"),
    )
    assert sorted(run(data).log) == (["boss"] if interrupting else ["after", "boss"])


def test_an_escalation_nobody_catches_stops_nothing():
    data = bpmn(
        f'<intermediateThrowEvent id="th">{ESCALATION}</intermediateThrowEvent>',
        tasks("a"),
        flows("s>th>a>e"),
    )
    assert run(data).completed


def test_a_signal_thrown_inside_a_scope_interrupts_the_scope_and_stops_the_thrower():
    data = _in_scope(
        f'<intermediateThrowEvent id="th">{SIGNAL}</intermediateThrowEvent>',
        tasks("after"),
        flows("is>th>after"),
        catch=SIGNAL,
    )
    ran = run(data)
    assert (ran.log, ran.completed) == (["caught"], True)


def test_a_signal_reaches_branches_that_come_to_wait_in_the_same_moment():
    data = bpmn(
        '<parallelGateway id="g"/>',
        f'<intermediateThrowEvent id="th">{SIGNAL}</intermediateThrowEvent>',
        f'<intermediateCatchEvent id="c">{SIGNAL}</intermediateCatchEvent>',
        tasks("a", "b"),
        flows("s>g", "g>th>a>e", "g>c>b>e"),
    )
    ran = run(data)
    assert sorted(ran.log) == ["a", "b"]


def test_a_signal_reaches_other_instances_and_starts_processes():
    other = f'<process id="q" isExecutable="true"><startEvent id="qs">{SIGNAL}</startEvent>'
    other += tasks("started") + flows("qs>started") + "</process>"
    data = bpmn(
        f'<intermediateThrowEvent id="th">{SIGNAL}</intermediateThrowEvent>', flows("s>th>e"), more=other
    )
    assert run(data).log == ["started"]


def test_a_terminate_end_event_ends_its_scope_and_the_process_goes_on():
    data = _in_scope(
        '<parallelGateway id="g"/>',
        tasks("a", "b"),
        '<endEvent id="ie"><terminateEventDefinition/></endEvent>',
        flows("is>g", "g>a>ie", "g>b"),
    )
    ran = run(data, outcomes={"b": HOLD})
    assert (ran.log, ran.completed) == (["a", "b", "n"], True)


def test_links_jump_within_their_scope():
    data = bpmn(
        '<intermediateThrowEvent id="o1"><linkEventDefinition name="L"/></intermediateThrowEvent>',
        '<intermediateThrowEvent id="o2"><linkEventDefinition name="L"/></intermediateThrowEvent>',
        '<intermediateCatchEvent id="in"><linkEventDefinition name="L"/></intermediateCatchEvent>',
        '<parallelGateway id="g"/>',
        tasks("a"),
        flows("s>g", "g>o1", "g>o2", "in>a>e"),
    )
    assert run(data).log == ["a", "a"]


def test_a_multiple_catch_event_takes_any_trigger_and_a_parallel_one_needs_all():
    def data(parallel: str) -> bytes:
        return bpmn(
            f'<intermediateCatchEvent id="c"{parallel}>{MESSAGE}{SIGNAL}{TIMER}</intermediateCatchEvent>',
            tasks("a"),
            flows("s>c>a>e"),
        )

    ran = run(data(""), until=timedelta(0))
    assert _trigger(ran, "signal").log == ["a"]
    assert orphans(ran) == []
    ran = run(data(' parallelMultiple="true"'), until=timedelta(0))
    assert _trigger(ran, "signal").log == []
    assert _trigger(ran, "timer").log == []
    assert _trigger(ran, "message").log == ["a"]
    assert ran.completed


def test_a_parallel_multiple_boundary_event_gathers_all_and_starts_over():
    data = bpmn(
        tasks("a"),
        '<boundaryEvent id="bo" attachedToRef="a" cancelActivity="false" parallelMultiple="true">'
        f"{MESSAGE}{SIGNAL}</boundaryEvent>",
        tasks("x"),
        flows("s>a>e", "bo>x"),
    )
    ran = run(data, outcomes={"a": HOLD}, until=timedelta(0))
    for _ in range(2):
        _trigger(ran, "signal")
        _trigger(ran, "message")
    assert ran.log == ["a", "x", "x"]


def test_a_multiple_throw_event_throws_everything():
    other = f'<process id="q" isExecutable="true"><startEvent id="qs">{MESSAGE}</startEvent>'
    other += tasks("started") + flows("qs>started") + "</process>"
    data = bpmn(
        '<parallelGateway id="g"/>',
        f'<intermediateCatchEvent id="c">{SIGNAL}</intermediateCatchEvent>',
        f'<endEvent id="th">{MESSAGE}{SIGNAL}</endEvent>',
        tasks("a"),
        flows("s>g", "g>th", "g>c>a>e"),
        more=other,
    )
    assert sorted(run(data).log) == ["a", "started"]


def test_shared_event_definitions_are_resolved():
    root = '<signal id="sig" name="alarm"/><signalEventDefinition id="shared" signalRef="sig"/>'
    data = bpmn(
        '<intermediateCatchEvent id="c"><eventDefinitionRef>shared</eventDefinitionRef>'
        "</intermediateCatchEvent>",
        '<intermediateThrowEvent id="th"><eventDefinitionRef>shared</eventDefinitionRef>'
        "</intermediateThrowEvent>",
        '<parallelGateway id="g"/>',
        tasks("a"),
        flows("s>g", "g>c>a>e", "g>th>e"),
        root=root,
    )
    assert run(data).log == ["a"]


def test_a_timer_cycle_on_a_boundary_fires_so_many_times_from_the_scheduled_time():
    data = bpmn(
        tasks("a"),
        '<boundaryEvent id="bo" attachedToRef="a" cancelActivity="false"><timerEventDefinition>'
        "<timeCycle>R3/PT10M</timeCycle></timerEventDefinition></boundaryEvent>",
        tasks("x"),
        flows("s>a>e", "bo>x"),
    )
    ran = run(data, outcomes={"a": HOLD})
    assert ran.log == ["a", "x", "x", "x"]
    assert ran.simulation.now == EPOCH + timedelta(minutes=30)


def test_a_timer_may_be_computed_and_a_wrong_one_is_an_incident():
    timer = "<timerEventDefinition><timeDuration>= wait</timeDuration></timerEventDefinition>"
    data = bpmn(f'<intermediateCatchEvent id="c">{timer}</intermediateCatchEvent>', flows("s>c>e"))
    ran = run(data, {"wait": "P1D"})
    assert ran.simulation.now == EPOCH + timedelta(days=1)
    ran = run(data, {"wait": "soon"})
    assert ran.incidents == ["TIMER"]
    ran.go_on(inputs.ResolveIncident(ran.simulation.now, ran.key_of("c"), "retry", {"wait": "PT1S"}))
    ran.go_on(after=timedelta(seconds=2))
    assert ran.completed


def test_a_message_is_correlated_by_its_key():
    root = (
        '<message id="msg" name="order"><extensionElements><zeebe:subscription correlationKey="= id"/>'
        "</extensionElements></message>"
    )
    data = bpmn('<receiveTask id="r" messageRef="msg"/>', flows("s>r>e"), root=root)
    ran = run(data, {"id": 7}, until=timedelta(0))
    ran.simulation.publish("order", "8")
    assert not ran.go_on().completed
    ran.simulation.publish("order", "7", {"paid": True})
    assert ran.go_on().variables == {"id": 7, "paid": True}


def test_a_message_without_a_receiver_waits_for_one():
    data = bpmn(
        f'<intermediateThrowEvent id="th">{MESSAGE}</intermediateThrowEvent>',
        tasks("a"),
        '<receiveTask id="r" messageRef="msg"/>',
        flows("s>th>a>r>e"),
    )
    assert run(data).completed


def test_a_condition_fires_when_it_becomes_true_by_another_branch():
    data = bpmn(
        '<parallelGateway id="g"/>',
        f'<intermediateCatchEvent id="c">{CONDITION}</intermediateCatchEvent>',
        tasks("a", "b"),
        flows("s>g", "g>c>b>e", "g>a>e"),
    )
    ran = run(data, {"x": 1}, outcomes={"a": variables(x=20)})
    assert ran.log == ["a", "b"]


def test_late_answers_for_ended_work_are_ignored():
    data = bpmn(
        tasks("a"),
        f'<boundaryEvent id="bo" attachedToRef="a">{TIMER}</boundaryEvent>',
        tasks("x"),
        flows("s>a>e", "bo>x"),
    )
    ran = run(data, outcomes={"a": HOLD, "x": HOLD}, until=timedelta(0))
    key = ran.key_of("a")
    ran.go_on(after=timedelta(hours=2))
    ran.go_on(inputs.JobCompleted(ran.simulation.now, key, {"late": True}))
    assert "late" not in ran.variables
    assert not ran.completed


def test_a_start_event_with_several_triggers_all_needed_waits_for_the_rest():
    data = bpmn(
        f'<startEvent id="s" parallelMultiple="true">{MESSAGE}{SIGNAL}</startEvent>',
        tasks("a"),
        flows("s>a>e"),
    )
    ran = run(data, node="s", until=timedelta(0))
    assert ran.log == []
    assert _trigger(ran, "signal").log == ["a"]


def test_a_timer_start_event_is_offered_to_the_scheduler():
    from workflows.bpmn.deployment import deploy
    from workflows.bpmn.simulate import simulate

    start = "<timerEventDefinition><timeDate>2026-06-01T08:00:00Z</timeDate></timerEventDefinition>"
    graph = deploy(bpmn(f'<startEvent id="s">{start}</startEvent>', tasks("a"), flows("s>a>e"))).graphs["p"]
    assert [(t.node, t.kind) for t in graph.start_triggers] == [("s", "timer")]
    simulation = simulate(graph)
    assert simulation.now.isoformat() == "2026-06-01T08:00:00+00:00"
    assert simulation.instances[1].state.status == "completed"


CORRELATED = """
<message id="m1" name="reply"/>
<correlationProperty id="order"><correlationPropertyRetrievalExpression messageRef="m1">
<messagePath>id</messagePath></correlationPropertyRetrievalExpression></correlationProperty>
<correlationProperty id="line"><correlationPropertyRetrievalExpression messageRef="m1">
<messagePath>line</messagePath></correlationPropertyRetrievalExpression></correlationProperty>
<collaboration id="c"><correlationKey id="k"><correlationPropertyRef>order</correlationPropertyRef>
<correlationPropertyRef>line</correlationPropertyRef></correlationKey></collaboration>"""


def test_a_correlation_subscription_takes_the_message_whose_properties_fit():
    data = bpmn(
        '<correlationSubscription id="cs" correlationKeyRef="k">'
        '<correlationPropertyBinding correlationPropertyRef="order"><dataPath>orderId</dataPath>'
        '</correlationPropertyBinding><correlationPropertyBinding correlationPropertyRef="line">'
        "<dataPath>position</dataPath></correlationPropertyBinding></correlationSubscription>"
        '<intermediateCatchEvent id="w"><messageEventDefinition messageRef="m1"/></intermediateCatchEvent>',
        flows("s>w>e"),
        root=CORRELATED,
    )
    ran = run(data, {"orderId": 7, "position": "b"})
    ran.simulation.publish("reply", None, {"id": 7, "line": "a"})
    assert not ran.go_on().completed
    ran.simulation.publish("reply", "8|b")
    assert not ran.go_on().completed
    ran.simulation.publish("reply", None, {"id": 7, "line": "b"})
    assert ran.go_on().completed


def test_a_timer_cycle_may_be_cron():
    data = bpmn(
        tasks("a", "report").replace('"work"/>', '"work"/>', 1),
        '<boundaryEvent id="b" attachedToRef="a" cancelActivity="false"><timerEventDefinition>'
        "<timeCycle>0 9 * * MON-FRI</timeCycle></timerEventDefinition></boundaryEvent>",
        flows("s>a>e", "b>report"),
    )
    ran = run(data, outcomes={"a": HOLD}, until=timedelta(days=7))
    assert ran.log == ["a", *["report"] * 5]
