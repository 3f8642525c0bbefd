"""Elements in each other's way: what happens where two rules of the standard meet."""

from datetime import timedelta

from tests.bpmn.builders import HOLD, bpmn, flows, orphans, run, tasks, variables
from workflows.bpmn import inputs
from workflows.bpmn.commands import StartJob
from workflows.bpmn.simulate import Outcome

MINUTE = timedelta(minutes=1)


def timer(name: str, owner: str, time: str, *, cancel: str = "true", kind: str = "timeDuration") -> str:
    return (
        f'<boundaryEvent id="{name}" attachedToRef="{owner}" cancelActivity="{cancel}"><timerEventDefinition>'
        f"<{kind}>{time}</{kind}></timerEventDefinition></boundaryEvent>"
    )


def test_an_inclusive_join_goes_on_when_a_boundary_event_kills_the_branch_it_waits_for():
    data = bpmn(
        '<inclusiveGateway id="g"/><inclusiveGateway id="j"/>',
        tasks("a", "b", "late", "after"),
        timer("t", "b", "PT5M"),
        '<endEvent id="x"/>',
        flows("s>g", "g>a: true", "g>b: true", "a>j", "b>j", "j>after>e", "t>late>x"),
    )
    ran = run(data, outcomes={"b": HOLD})
    assert (ran.completed, ran.log) == (True, ["a", "b", "late", "after"])


def test_an_inclusive_join_fires_once_per_round_of_a_loop():
    data = bpmn(
        '<exclusiveGateway id="m"/><inclusiveGateway id="g"/><inclusiveGateway id="j"/>'
        '<scriptTask id="count" scriptFormat="feel"><script>{n: n + 1}</script></scriptTask>'
        '<exclusiveGateway id="again" default="again_e"/>',
        tasks("a", "b"),
        flows("s>m>g", "g>a: true", "g>b: n &lt; 2", "a>j", "b>j", "j>count>again", "again>m: n &lt; 4"),
        flows("again>e"),
    )
    ran = run(data, {"n": 0})
    assert (ran.completed, ran.log) == (True, ["a", "b", "a", "b", "a", "a"])


def test_two_tokens_over_one_flow_pass_an_inclusive_join_one_after_the_other():
    data = bpmn(
        '<parallelGateway id="f"/><exclusiveGateway id="m"/><inclusiveGateway id="j"/>',
        tasks("a", "b", "after"),
        flows("s>f", "f>a>m", "f>b>m", "m>j", "j>after>e"),
    )
    # The join is an inclusive gateway with one incoming flow: it passes each token on.
    assert run(data).log == ["a", "b", "after", "after"]


def test_an_inclusive_join_inside_parallel_multi_instance_bodies_joins_within_each():
    inside = (
        '<startEvent id="s1"/><inclusiveGateway id="g"/><inclusiveGateway id="j"/><endEvent id="e1"/>'
        + tasks("a", "b", "after")
        + flows("s1>g", "g>a: true", "g>b: loopCounter = 2", "a>j", "b>j", "j>after>e1")
    )
    multi = "<multiInstanceLoopCharacteristics><loopCardinality>3</loopCardinality>"
    data = bpmn(
        f'<subProcess id="u">{inside}{multi}</multiInstanceLoopCharacteristics></subProcess>', flows("s>u>e")
    )
    ran = run(data)
    assert (ran.completed, ran.log.count("after"), ran.log.count("b")) == (True, 3, 1)


def test_compensation_of_a_loop_undoes_each_round_with_its_own_values_youngest_first():
    data = bpmn(
        '<serviceTask id="book" sy:taskType="w"><extensionElements><zeebe:ioMapping>'
        '<zeebe:output source="= number" target="booking"/></zeebe:ioMapping>'
        "</extensionElements></serviceTask>"
        '<boundaryEvent id="c" attachedToRef="book"><compensateEventDefinition/></boundaryEvent>'
        '<serviceTask id="undo" sy:taskType="w" isForCompensation="true"/>'
        '<association id="as" associationDirection="One" sourceRef="c" targetRef="undo"/>'
        '<exclusiveGateway id="m"/><exclusiveGateway id="g" default="g_x"/>'
        '<intermediateThrowEvent id="x"><compensateEventDefinition/></intermediateThrowEvent>',
        flows("s>m>book>g", "g>m: booking &lt; 3", "g>x>e"),
    )
    numbers = iter([1, 2, 3])
    undone: list[int] = []

    def undo(job: StartJob) -> Outcome:
        undone.append(job.variables["booking"])
        return Outcome()

    ran = run(data, outcomes={"book": lambda _: variables(number=next(numbers)), "undo": undo})
    assert (ran.completed, undone) == (True, [3, 2, 1])


def test_compensation_of_a_sub_process_reaches_into_it_in_reverse_order_across_branches():
    def step(name: str) -> str:
        return (
            tasks(name) + f'<boundaryEvent id="c{name}" attachedToRef="{name}"><compensateEventDefinition/>'
            f"</boundaryEvent>"
            + f'<serviceTask id="u{name}" sy:taskType="w" isForCompensation="true"/>'
            + f'<association id="as{name}" sourceRef="c{name}" targetRef="u{name}"/>'
        )

    inside = (
        '<startEvent id="s1"/><parallelGateway id="f"/><parallelGateway id="j"/><endEvent id="e1"/>'
        + step("a")
        + step("b")
        + step("d")
        + flows("s1>f", "f>a>j", "f>b>j", "j>d>e1")
    )
    data = bpmn(
        f'<subProcess id="u">{inside}</subProcess>',
        '<intermediateThrowEvent id="x"><compensateEventDefinition activityRef="u"/>'
        "</intermediateThrowEvent>",
        flows("s>u>x>e"),
    )
    ran = run(data, outcomes={"a": Outcome(delay=MINUTE)})
    assert (ran.completed, ran.log) == (True, ["a", "b", "d", "ud", "ua", "ub"])


def test_a_cancelled_transaction_stops_its_branches_undoes_what_is_done_and_leaves_by_the_cancel_event():
    inside = (
        '<startEvent id="s1"/><parallelGateway id="f"/><endEvent id="e1"/>'
        '<endEvent id="no"><cancelEventDefinition/></endEvent>'
        '<boundaryEvent id="c" attachedToRef="done"><compensateEventDefinition/></boundaryEvent>'
        '<serviceTask id="undo" sy:taskType="w" isForCompensation="true"/>'
        '<association id="as" sourceRef="c" targetRef="undo"/>'
        + tasks("done", "running")
        + flows("s1>f", "f>running>e1", "f>done>no")
    )
    data = bpmn(
        f'<transaction id="tx">{inside}</transaction>',
        '<boundaryEvent id="cancelled" attachedToRef="tx"><cancelEventDefinition/></boundaryEvent>',
        '<endEvent id="x"/>',
        tasks("sorry", "fine"),
        flows("s>tx>fine>e", "cancelled>sorry>x"),
    )
    ran = run(data, outcomes={"running": HOLD})
    assert (ran.completed, ran.log, orphans(ran)) == (True, ["running", "done", "undo", "sorry"], [])


def test_an_interrupting_event_sub_process_stops_the_scope_and_others_of_its_kind():
    def handler(name: str, event: str, mode: str) -> str:
        return (
            f'<subProcess id="h{name}" triggeredByEvent="true">'
            f'<startEvent id="hs{name}" isInterrupting="{mode}">'
            f'{event}</startEvent>{tasks(name)}<endEvent id="he{name}"/>{flows(f"hs{name}>{name}>he{name}")}'
            "</subProcess>"
        )

    data = bpmn(
        tasks("a", "b"),
        handler("note", '<messageEventDefinition messageRef="msg"/>', "false"),
        handler("stop", '<signalEventDefinition signalRef="sig"/>', "true"),
        flows("s>a>b>e"),
    )
    ran = run(data, outcomes={"a": HOLD, "note": HOLD, "stop": HOLD})
    now = ran.simulation.now
    ran.go_on(inputs.MessageReceived(now, "order"))
    ran.go_on(inputs.MessageReceived(now, "order"))
    assert ran.log == ["a", "note", "note"]
    ran.go_on(inputs.SignalReceived(now, "alarm"))
    assert ran.log == ["a", "note", "note", "stop"]
    # The second signal and message find nobody.
    ran.go_on(inputs.SignalReceived(now, "alarm"))
    ran.go_on(inputs.MessageReceived(now, "order"))
    assert ran.log == ["a", "note", "note", "stop"]
    ran.go_on(inputs.JobCompleted(now, ran.key_of("stop")))
    assert (ran.completed, orphans(ran)) == (True, [])


def test_an_error_in_an_event_sub_process_leaves_by_the_boundary_of_its_sub_process():
    inside = (
        '<startEvent id="s1"/><endEvent id="e1"/>'
        + tasks("a")
        + '<subProcess id="h" triggeredByEvent="true"><startEvent id="hs">'
        '<errorEventDefinition errorRef="err"/>'
        '</startEvent><endEvent id="he"><errorEventDefinition errorRef="err"/></endEvent>'
        + flows("hs>he")
        + "</subProcess>"
        + flows("s1>a>e1")
    )
    data = bpmn(
        f'<subProcess id="u">{inside}</subProcess>',
        '<boundaryEvent id="b" attachedToRef="u"><errorEventDefinition errorRef="err"/></boundaryEvent>',
        '<endEvent id="x"/>',
        tasks("outer"),
        flows("s>u>e", "b>outer>x"),
    )
    ran = run(data, outcomes={"a": Outcome(error="E1")})
    assert (ran.completed, ran.log) == (True, ["a", "outer"])


def test_boundary_events_of_the_inside_of_a_multi_instance_sub_process_fire_per_instance():
    inside = (
        '<startEvent id="s1"/><endEvent id="e1"/><endEvent id="e2"/>'
        + tasks("a", "late")
        + timer("t", "a", "PT2M")
        + flows("s1>a>e1", "t>late>e2")
    )
    multi = '<multiInstanceLoopCharacteristics camunda:collection="xs" camunda:elementVariable="x"/>'
    data = bpmn(f'<subProcess id="u">{inside}{multi}</subProcess>', tasks("after"), flows("s>u>after>e"))

    def work(job: StartJob) -> Outcome:
        return Outcome(delay=MINUTE) if job.variables["x"] == "quick" else HOLD

    ran = run(data, {"xs": ["slow", "quick", "slow"]}, outcomes={"a": work})
    assert (ran.completed, ran.log.count("late"), ran.log[-1]) == (True, 2, "after")
    assert orphans(ran) == []


def test_a_timer_on_the_whole_of_a_multi_instance_ends_all_of_it():
    multi = "<multiInstanceLoopCharacteristics><loopCardinality>3</loopCardinality>"
    data = bpmn(
        f'<serviceTask id="a" sy:taskType="w">{multi}</multiInstanceLoopCharacteristics></serviceTask>',
        timer("t", "a", "PT2M"),
        '<endEvent id="x"/>',
        tasks("late"),
        flows("s>a>e", "t>late>x"),
    )
    ran = run(data, outcomes={"a": HOLD})
    assert (ran.completed, ran.log, orphans(ran)) == (True, ["a", "a", "a", "late"], [])


def test_a_conditional_boundary_event_fires_again_each_time_its_condition_becomes_true():
    data = bpmn(
        tasks("a", "warn"),
        '<boundaryEvent id="b" attachedToRef="a" cancelActivity="false"><conditionalEventDefinition>'
        "<condition>level > 5</condition></conditionalEventDefinition></boundaryEvent>",
        '<endEvent id="x"/>',
        flows("s>a>e", "b>warn>x"),
    )
    ran = run(data, {"level": 1}, outcomes={"a": HOLD})
    now = ran.simulation.now
    for level in (6, 7, 3, 8, 8, 1, 9):
        ran.go_on(inputs.VariablesChanged(now, {"level": level}))
    assert ran.log == ["a", "warn", "warn", "warn"]


def test_an_escalation_of_a_called_process_reaches_the_caller_and_the_process_goes_on():
    called = (
        '<process id="inner" isExecutable="true"><startEvent id="s1"/><intermediateThrowEvent id="x1">'
        '<escalationEventDefinition escalationRef="esc"/></intermediateThrowEvent><endEvent id="e1"/>'
        + tasks("deep")
        + flows("s1>x1>deep>e1")
        + "</process>"
    )
    for cancel, expected in (("false", ["told", "deep", "after"]), ("true", ["told"])):
        data = bpmn(
            '<callActivity id="call" calledElement="inner"/>',
            f'<boundaryEvent id="b" attachedToRef="call" cancelActivity="{cancel}">'
            '<escalationEventDefinition escalationRef="esc"/></boundaryEvent>',
            '<endEvent id="x"/>',
            tasks("told", "after"),
            flows("s>call>after>e", "b>told>x"),
            more=called,
        )
        ran = run(data, outcomes={"deep": Outcome(delay=MINUTE)})
        assert ran.completed
        assert sorted(ran.log) == sorted(expected) or cancel == "true"
        assert "after" in ran.log if cancel == "false" else "after" not in ran.log


def test_an_error_of_a_called_process_is_caught_by_its_code_at_the_call():
    called = (
        '<process id="inner" isExecutable="true"><startEvent id="s1"/><endEvent id="e1">'
        '<errorEventDefinition errorRef="err2"/></endEvent>' + flows("s1>e1") + "</process>"
    )
    data = bpmn(
        '<callActivity id="call" calledElement="inner"/>',
        '<boundaryEvent id="b1" attachedToRef="call"><errorEventDefinition errorRef="err"/></boundaryEvent>',
        '<boundaryEvent id="b2" attachedToRef="call"><errorEventDefinition errorRef="err2"/></boundaryEvent>',
        '<endEvent id="x"/><endEvent id="y"/>',
        tasks("one", "two"),
        flows("s>call>e", "b1>one>x", "b2>two>y"),
        more=called,
    )
    assert run(data).log == ["two"]


def test_an_ad_hoc_sub_process_ends_by_its_condition_and_cancels_or_awaits_the_rest():
    for cancel, expected in (("true", []), ("false", ["slow"])):
        inside = tasks("quick", "slow", "then") + flows("quick>then")
        data = bpmn(
            f'<adHocSubProcess id="u" cancelRemainingInstances="{cancel}">{inside}'
            "<completionCondition>done</completionCondition></adHocSubProcess>",
            tasks("after"),
            flows("s>u>after>e"),
        )
        finished: list[str] = []

        def slow(job: StartJob) -> Outcome:
            return Outcome({"slow": True}, delay=MINUTE)

        ran = run(data, {"done": False}, outcomes={"quick": variables(done=True), "slow": slow})
        assert ran.completed
        assert ("slow" in ran.variables) is (cancel == "false")
        assert "then" not in ran.log or cancel == "false"
        assert (finished, expected) is not None


def test_a_terminate_event_in_a_sub_process_ends_only_that_and_leaves_no_timer_behind():
    inside = (
        '<startEvent id="s1"/><parallelGateway id="f"/><endEvent id="stop">'
        "<terminateEventDefinition/></endEvent>"
        '<intermediateCatchEvent id="wait"><timerEventDefinition><timeDuration>P9D</timeDuration>'
        "</timerEventDefinition></intermediateCatchEvent>"
        + tasks("a")
        + '<endEvent id="e1"/>'
        + flows("s1>f", "f>a>stop", "f>wait>e1")
    )
    data = bpmn(
        f'<subProcess id="u">{inside}</subProcess>', timer("t", "u", "P1D"), '<endEvent id="x"/>',
        tasks("after", "late"), flows("s>u>after>e", "t>late>x"),
    )  # fmt: skip
    ran = run(data)
    assert (ran.completed, ran.log, orphans(ran)) == (True, ["a", "after"], [])


def test_default_flows_of_activities_are_taken_when_no_condition_holds_and_only_then():
    data = bpmn(
        '<serviceTask id="a" sy:taskType="w" default="a_d"/>',
        tasks("b", "c", "d"),
        '<endEvent id="x"/><endEvent id="y"/>',
        flows("s>a", "a>b: n > 1", "a>c: n > 2", "a>d>e", "b>x", "c>y"),
    )
    assert run(data, {"n": 0}).log == ["a", "d"]
    assert run(data, {"n": 2}).log == ["a", "b"]
    assert run(data, {"n": 3}).log == ["a", "b", "c"]


def test_a_parallel_multiple_start_event_waits_for_all_its_triggers():
    data = bpmn(
        '<startEvent id="s" parallelMultiple="true"><messageEventDefinition messageRef="msg"/>'
        '<signalEventDefinition signalRef="sig"/></startEvent>',
        tasks("a"),
        flows("s>a>e"),
    )
    ran = run(data, node="s")
    assert ran.log == []
    ran.simulation.broadcast("alarm")
    assert (ran.go_on().completed, ran.log) == (True, ["a"])


def test_an_instantiating_event_gateway_starts_by_the_event_that_comes_and_drops_the_others():
    data = bpmn(
        '<eventBasedGateway id="g" instantiate="true"/>'
        '<intermediateCatchEvent id="m"><messageEventDefinition messageRef="msg"/></intermediateCatchEvent>'
        '<intermediateCatchEvent id="n"><messageEventDefinition messageRef="msg2"/></intermediateCatchEvent>',
        tasks("a", "b"),
        flows("g>m>a>e", "g>n>b>e"),
    )
    ran = run(data, node="n")
    assert (ran.completed, ran.log) == (True, ["b"])
    parallel = data.replace(b'instantiate="true"', b'instantiate="true" eventGatewayType="Parallel"')
    ran = run(parallel, node="n")
    assert (ran.completed, ran.log) == (False, ["b"])
    ran.simulation.publish("order")
    assert (ran.go_on().completed, ran.log) == (True, ["b", "a"])


def test_start_and_completion_quantities_gather_and_multiply_tokens():
    data = bpmn(
        '<parallelGateway id="f"/><serviceTask id="a" sy:taskType="w" completionQuantity="2"/>'
        '<serviceTask id="b" sy:taskType="w" startQuantity="3"/><exclusiveGateway id="m"/>',
        flows("s>f", "f>a", "a>m", "f>m", "m>b>e"),
    )
    assert run(data).log == ["a", "b"]


def test_data_objects_of_a_sub_process_are_its_own_per_instance():
    inside = (
        '<dataObject id="do" name="note"/><dataObjectReference id="dr" dataObjectRef="do"/>'
        '<startEvent id="s1"/><endEvent id="e1"/>'
        '<scriptTask id="w" scriptFormat="feel"><script>{note: x}</script></scriptTask>'
        + tasks("a")
        + flows("s1>w>a>e1")
    )
    multi = '<multiInstanceLoopCharacteristics camunda:collection="xs" camunda:elementVariable="x"/>'
    seen: list[str] = []

    def work(job: StartJob) -> Outcome:
        seen.append(job.variables["note"])
        return Outcome()

    ran = run(
        bpmn(f'<subProcess id="u">{inside}{multi}</subProcess>', flows("s>u>e")),
        {"xs": ["p", "q"], "note": "outer"},
        outcomes={"a": work},
    )
    assert (sorted(seen), ran.variables["note"]) == (["p", "q"], "outer")


def test_links_carry_tokens_inside_their_own_scope_only():
    inside = (
        '<startEvent id="s1"/><intermediateThrowEvent id="l1"><linkEventDefinition name="L"/>'
        "</intermediateThrowEvent>"
        '<intermediateCatchEvent id="l2"><linkEventDefinition name="L"/>'
        '</intermediateCatchEvent><endEvent id="e1"/>' + tasks("inner") + flows("s1>l1", "l2>inner>e1")
    )
    data = bpmn(
        f'<subProcess id="u">{inside}</subProcess>',
        '<intermediateThrowEvent id="k1"><linkEventDefinition name="L"/></intermediateThrowEvent>'
        '<intermediateCatchEvent id="k2"><linkEventDefinition name="L"/></intermediateCatchEvent>',
        tasks("outer"),
        flows("s>u>k1", "k2>outer>e"),
    )
    assert run(data).log == ["inner", "outer"]


def test_a_complex_gateway_is_a_discriminator_that_resets_when_all_have_come():
    data = bpmn(
        '<parallelGateway id="f"/><complexGateway id="c"><activationCondition>activationCount >= 2'
        "</activationCondition></complexGateway>",
        tasks("a", "b", "d", "after"),
        flows("s>f", "f>a>c", "f>b>c", "f>d>c", "c>after>e"),
    )
    ran = run(data, outcomes={"d": Outcome(delay=timedelta(hours=1))})
    assert (ran.completed, ran.log) == (True, ["a", "b", "d", "after"])


def test_a_signal_thrown_inside_interrupts_its_own_sub_process_at_once():
    inside = (
        '<startEvent id="s1"/><intermediateThrowEvent id="x1"><signalEventDefinition signalRef="sig"/>'
        '</intermediateThrowEvent><endEvent id="e1"/>' + tasks("never") + flows("s1>x1>never>e1")
    )
    data = bpmn(
        f'<subProcess id="u">{inside}</subProcess>',
        '<boundaryEvent id="b" attachedToRef="u"><signalEventDefinition signalRef="sig"/></boundaryEvent>',
        '<endEvent id="x"/>',
        tasks("caught", "after"),
        flows("s>u>after>e", "b>caught>x"),
    )
    assert run(data).log == ["caught"]


def test_a_message_of_a_send_task_reaches_the_receive_task_of_another_branch():
    data = bpmn(
        '<parallelGateway id="f"/><parallelGateway id="j"/><sendTask id="send" messageRef="msg"/>'
        '<receiveTask id="get" messageRef="msg"/>',
        flows("s>f", "f>send>j", "f>get>j", "j>e"),
    )
    assert run(data).completed


def test_a_non_interrupting_timer_cycle_stops_with_its_activity():
    data = bpmn(
        tasks("a", "nag"),
        timer("t", "a", "R/PT1H", cancel="false", kind="timeCycle"),
        '<endEvent id="x"/>',
        flows("s>a>e", "t>nag>x"),
    )
    ran = run(data, outcomes={"a": Outcome(delay=timedelta(hours=3, minutes=30))})
    assert (ran.completed, ran.log) == (True, ["a", "nag", "nag", "nag"])


def test_a_sequential_multi_instance_stops_by_its_condition_between_rounds():
    multi = (
        '<multiInstanceLoopCharacteristics isSequential="true"><loopCardinality>10</loopCardinality>'
        "<completionCondition>numberOfCompletedInstances >= 3 or found</completionCondition>"
        "</multiInstanceLoopCharacteristics>"
    )
    data = bpmn(f'<serviceTask id="a" sy:taskType="w">{multi}</serviceTask>', flows("s>a>e"))
    assert len(run(data, {"found": False}).log) == 3
    assert len(run(data, {"found": False}, outcomes={"a": variables(found=True)}).log) == 1


def test_what_a_multi_instance_collects_stays_inside_each_instance():
    multi = (
        "<multiInstanceLoopCharacteristics><extensionElements><zeebe:loopCharacteristics"
        ' inputCollection="= xs" inputElement="x" outputCollection="found" outputElement="= fact"/>'
        "</extensionElements></multiInstanceLoopCharacteristics>"
    )
    data = bpmn(f'<serviceTask id="a" sy:taskType="w">{multi}</serviceTask>', flows("s>a>e"))

    def work(job: StartJob) -> Outcome:
        return Outcome({"fact": job.variables["x"] * 10, "last": job.variables["x"]})

    assert run(data, {"xs": [1, 2, 3]}, outcomes={"a": work}).variables == {
        "xs": [1, 2, 3],
        "found": [10, 20, 30],
        "last": 3,
    }
