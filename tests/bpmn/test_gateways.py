from datetime import timedelta

from tests.bpmn.builders import HOLD, bpmn, flows, orphans, run, tasks, variables
from workflows.bpmn import inputs


def _split(kind: str, *conditions: str, default: str = "") -> bytes:
    names = "abc"[: len(conditions)]
    return bpmn(
        f'<{kind} id="g"{default}/><{kind} id="j"/>',
        tasks(*names),
        flows(
            "s>g",
            *(f"g>{n}: {c}" if c else f"g>{n}" for n, c in zip(names, conditions, strict=True)),
            *(f"{n}>j" for n in names),
            "j>e",
        ),
    )


def test_an_exclusive_gateway_takes_the_first_flow_that_holds():
    assert run(_split("exclusiveGateway", "x = 1", "x >= 1"), {"x": 1}).log == ["a"]
    assert run(_split("exclusiveGateway", "x = 1", "x >= 1"), {"x": 2}).log == ["b"]


def test_an_exclusive_gateway_without_a_flow_that_holds_is_an_incident_that_can_be_retried():
    ran = run(_split("exclusiveGateway", "x = 1", "x = 2"), {"x": 3})
    assert ran.incidents == ["NO_FLOW"]
    key = next(iter(ran.state.incidents))
    ran.go_on(inputs.ResolveIncident(ran.simulation.now, key, "retry", {"x": 2}))
    assert ran.log == ["b"]
    assert ran.completed


def test_an_incident_at_a_gateway_can_be_skipped_over_a_chosen_flow():
    ran = run(_split("exclusiveGateway", "x = 1", "x = 2"), {"x": 3})
    key = next(iter(ran.state.incidents))
    ran.go_on(inputs.ResolveIncident(ran.simulation.now, key, "skip", flow="g_b"))
    assert (ran.log, ran.completed, ran.incidents) == (["b"], True, [])


def test_a_condition_that_is_neither_true_nor_false_is_an_incident_and_null_is_false():
    assert run(_split("exclusiveGateway", "x", "true"), {"x": "text"}).incidents == ["CONDITION"]
    assert run(_split("exclusiveGateway", "x", "true"), {"x": None}).log == ["b"]


def test_an_inclusive_gateway_takes_all_flows_that_hold_and_joins_them():
    ran = run(_split("inclusiveGateway", "x > 0", "x > 1", "x > 2"), {"x": 2})
    assert (sorted(ran.log), ran.completed) == (["a", "b"], True)


def test_an_inclusive_gateway_falls_back_to_its_default_flow():
    data = bpmn(
        '<inclusiveGateway id="g" default="g_b"/>',
        tasks("a", "b"),
        flows("s>g", "g>a: x", "g>b", "a>e", "b>e"),
    )
    assert run(data, {"x": False}).log == ["b"]
    assert run(data, {"x": True}).log == ["a"]


def test_a_parallel_join_consumes_one_token_per_flow_and_may_fire_again():
    data = bpmn(
        '<parallelGateway id="g"/><exclusiveGateway id="m"/><parallelGateway id="j"/>',
        tasks("a", "b", "c", "d", "z"),
        flows("s>g", "g>a", "g>b", "g>c", "g>d", "a>m", "b>m", "m>j", "c>k", "d>k", "k>j", "j>z>e"),
        '<exclusiveGateway id="k"/>',
    )
    ran = run(data)
    assert ran.log.count("z") == 2
    assert ran.completed


def test_tokens_that_wait_for_ever_at_a_parallel_join_are_reported():
    data = bpmn(
        '<exclusiveGateway id="g"/><parallelGateway id="j"/>',
        tasks("a", "b"),
        flows("s>g", "g>a: true", "g>b: true", "a>j", "b>j", "j>e"),
    )
    assert run(data).incidents == ["DEADLOCK"]


INCLUSIVE_LATE = bpmn(
    '<parallelGateway id="g"/><exclusiveGateway id="x"/><inclusiveGateway id="j"/><endEvent id="e2"/>',
    tasks("a", "b", "z"),
    flows("s>g", "g>a>j", "g>b>x", "x>j: go", "x>e2", "j>z>e").replace('id="x_e2"', 'id="x_e2" name="away"'),
)


def test_an_inclusive_join_waits_for_a_token_that_can_still_come():
    ran = run(INCLUSIVE_LATE, {"go": True}, outcomes={"b": variables()})
    assert ran.log.count("z") == 1
    assert ran.completed


def test_an_inclusive_join_fires_when_the_awaited_token_turns_away():
    data = INCLUSIVE_LATE.replace(b'<exclusiveGateway id="x"/>', b'<exclusiveGateway id="x" default="x_e2"/>')
    ran = run(data, {"go": False})
    assert ran.log == ["a", "b", "z"]
    assert ran.completed


def test_an_inclusive_join_fires_when_the_awaited_token_dies_by_an_interrupting_boundary_event():
    # The shape of the fault that other engines have: the branch dies by an error and the join hangs.
    data = bpmn(
        '<inclusiveGateway id="g"/><inclusiveGateway id="j"/><endEvent id="dead"/>',
        '<boundaryEvent id="bo" attachedToRef="b"><errorEventDefinition errorRef="err"/></boundaryEvent>',
        tasks("a", "b", "z"),
        flows("s>g", "g>a>j", "g>b>j", "bo>dead", "j>z>e"),
    )
    from workflows.bpmn.simulate import Outcome

    ran = run(data, outcomes={"b": Outcome(error="E1")})
    assert ran.log == ["a", "b", "z"]
    assert ran.completed
    late = run(data, outcomes={"b": Outcome(error="E1", delay=timedelta(hours=1))})
    assert (late.log, late.completed) == (["a", "b", "z"], True)


def test_an_inclusive_join_fires_when_the_awaited_token_is_cancelled_by_an_operator():
    ran = run(INCLUSIVE_LATE, {"go": True}, outcomes={"b": HOLD})
    assert ran.log == ["a", "b"]
    change = inputs.Modification("cancel", key=ran.key_of("b"))
    ran.go_on(inputs.Modify(ran.simulation.now, (change,)))
    assert ran.log == ["a", "b", "z"]


def test_an_inclusive_join_does_not_wait_for_a_token_that_can_reach_a_filled_flow_too():
    # Clause 13.4.3: the token at x could reach the empty flow b_j, but also the filled flow k_j.
    data = bpmn(
        '<parallelGateway id="g"/><exclusiveGateway id="x" default="x_k"/><exclusiveGateway id="k"/>'
        '<inclusiveGateway id="j"/>',
        tasks("a", "w", "z"),
        flows("s>g", "g>a>k>j", "g>w>x", "x>k", "x>j: false", "j>z>e"),
    )
    ran = run(data, outcomes={"w": HOLD})
    assert ran.log == ["w", "a", "z"] or ran.log == ["a", "w", "z"]


def test_two_inclusive_joins_that_wait_for_each_other_are_an_incident_and_not_silence():
    data = bpmn(
        '<parallelGateway id="g"/><inclusiveGateway id="j"/><inclusiveGateway id="k"/>'
        '<exclusiveGateway id="x" default="x_k"/><exclusiveGateway id="y" default="y_j"/><endEvent id="e2"/>',
        flows("s>g", "g>j", "g>k", "j>x", "x>k", "x>e: false", "k>y", "y>j", "y>e2: false"),
    )
    assert run(data).incidents == ["DEADLOCK"]


def test_an_inclusive_join_in_a_loop_takes_the_same_flow_twice():
    # camunda#19464: the second token on one flow must not strand the counter.
    data = bpmn(
        '<parallelGateway id="g"/><exclusiveGateway id="m"/><inclusiveGateway id="j"/>',
        tasks("a", "b", "c", "z"),
        flows("s>g", "g>a>m", "g>b>m", "m>j", "g>c>j", "j>z>e"),
    )
    ran = run(data)
    assert ran.completed
    assert ran.log.count("z") == 2


def test_an_inclusive_join_waits_for_a_token_behind_a_link():
    data = bpmn(
        '<parallelGateway id="g"/><inclusiveGateway id="j"/>',
        '<intermediateThrowEvent id="out"><linkEventDefinition name="L"/></intermediateThrowEvent>',
        '<intermediateCatchEvent id="in"><linkEventDefinition name="L"/></intermediateCatchEvent>',
        tasks("a", "b", "z"),
        flows("s>g", "g>a>j", "g>b>out", "in>j", "j>z>e"),
    )
    ran = run(data)
    assert (ran.log.count("z"), ran.completed) == (1, True)


def test_an_operator_gives_up_tokens_that_wait_for_ever():
    data = bpmn(
        '<exclusiveGateway id="g"/><parallelGateway id="j"/>',
        tasks("a", "b", "z"),
        flows("s>g", "g>a: true", "g>b: true", "a>j", "b>j", "j>z>e"),
    )
    ran = run(data)
    ran.go_on(inputs.ResolveIncident(ran.simulation.now, ran.key_of("p"), "skip"))
    assert (ran.log, ran.completed) == (["a"], True)
    ran = run(data)
    changes = (inputs.Modification("cancel", "j"), inputs.Modification("start_before", "z"))
    ran.go_on(inputs.Modify(ran.simulation.now, changes))
    assert (ran.log, ran.completed, ran.incidents) == (["a", "z"], True, [])


def test_a_flood_of_tokens_ends_in_an_incident():
    data = bpmn('<exclusiveGateway id="m"/><task id="t" completionQuantity="100"/>', flows("s>m>t>m"))
    ran = run(data)
    assert ran.incidents == ["ENDLESS"]
    ran.go_on(inputs.Cancel(ran.simulation.now))
    assert ran.state.status == "terminated"


def _complex(condition: str, outgoing: str = "") -> bytes:
    return bpmn(
        '<parallelGateway id="g"/>',
        f'<complexGateway id="j"><activationCondition>{condition}</activationCondition></complexGateway>',
        tasks("a", "b", "c", "z"),
        flows("s>g", "g>a>j", "g>b>j", "g>c>j", f"j>z{outgoing}", "z>e"),
    )


def test_a_complex_gateway_lets_two_of_three_pass_once_and_swallows_the_third():
    ran = run(_complex("activationCount >= 2"))
    assert ran.log.count("z") == 1
    assert ran.completed


def test_a_complex_gateway_resets_and_serves_the_next_round():
    data = bpmn(
        '<exclusiveGateway id="l"/><parallelGateway id="g"/><exclusiveGateway id="d" default="d_e"/>',
        '<complexGateway id="j"><activationCondition>activationCount = 1</activationCondition>'
        "</complexGateway>",
        tasks("a", "b"),
        '<scriptTask id="z" scriptFormat="feel" sy:resultVariable="n"><script>n + 1</script></scriptTask>',
        flows("s>l>g", "g>a>j", "g>b>j", "j>z>d", "d>l: n = 1", "d>e"),
    )
    ran = run(data, {"n": 0})
    assert ran.completed
    assert ran.variables["n"] == 2
    assert ran.log.count("a") == 2


def test_a_complex_gateway_sees_the_tokens_of_each_flow():
    ran = run(_complex("a_j &gt; 0 and c_j &gt; 0"))
    assert (ran.log.count("z"), ran.completed) == (1, True)


def test_a_complex_gateway_sends_tokens_in_the_reset_phase_where_the_condition_asks_for_it():
    data = bpmn(
        '<parallelGateway id="g"/>',
        '<complexGateway id="j"><activationCondition>activationCount >= 1</activationCondition>'
        "</complexGateway>",
        tasks("a", "b", "z", "y"),
        flows("s>g", "g>a>j", "g>b>j", "j>z: waitingForStart", "j>y: not(waitingForStart)", "z>e", "y>e"),
    )
    ran = run(data)
    assert sorted(ran.log) == ["a", "b", "y", "z"]
    assert ran.completed


def test_a_complex_gateway_whose_condition_never_holds_is_reported():
    assert run(_complex("activationCount >= 4")).incidents == ["DEADLOCK"]


EVENTS = bpmn(
    '<eventBasedGateway id="g"/>',
    '<intermediateCatchEvent id="t"><timerEventDefinition><timeDuration>PT1H</timeDuration>'
    "</timerEventDefinition></intermediateCatchEvent>",
    '<receiveTask id="r" messageRef="msg"/>',
    '<intermediateCatchEvent id="g2"><signalEventDefinition signalRef="sig"/></intermediateCatchEvent>',
    tasks("a", "b", "c"),
    flows("s>g", "g>t>a>e", "g>r>b>e", "g>g2>c>e"),
)


def test_the_first_event_wins_at_an_event_based_gateway_and_closes_the_others():
    ran = run(EVENTS, until=timedelta(0))
    ran.simulation.publish("order", variables={"total": 7})
    ran.go_on()
    assert (ran.log, ran.completed, ran.variables) == (["b"], True, {"total": 7})
    assert orphans(ran) == []
    assert run(EVENTS).log == ["a"]
    ran = run(EVENTS, until=timedelta(0))
    ran.simulation.broadcast("alarm")
    assert ran.go_on().log == ["c"]


def test_an_instantiating_event_gateway_starts_by_either_message():
    data = bpmn(
        '<eventBasedGateway id="g" instantiate="true"/>',
        '<intermediateCatchEvent id="c1"><messageEventDefinition messageRef="msg"/></intermediateCatchEvent>',
        '<intermediateCatchEvent id="c2"><messageEventDefinition messageRef="msg2"/>'
        "</intermediateCatchEvent>",
        tasks("a", "b"),
        flows("g>c1>a", "g>c2>b"),
    )
    ran = run(data, node="c2")
    assert (ran.log, ran.completed) == (["b"], True)


def test_a_parallel_instantiating_event_gateway_needs_all_its_messages():
    data = bpmn(
        '<eventBasedGateway id="g" instantiate="true" eventGatewayType="Parallel"/>',
        '<intermediateCatchEvent id="c1"><messageEventDefinition messageRef="msg"/></intermediateCatchEvent>',
        '<intermediateCatchEvent id="c2"><messageEventDefinition messageRef="msg2"/>'
        "</intermediateCatchEvent>",
        tasks("a", "b"),
        flows("g>c1>a", "g>c2>b"),
    )
    ran = run(data, node="c1")
    assert (ran.log, ran.completed) == (["a"], False)
    ran.simulation.publish("other")
    ran.go_on()
    assert (ran.log, ran.completed) == (["a", "b"], True)


def test_conditional_flows_leave_a_task_like_an_inclusive_split():
    data = bpmn(
        '<serviceTask id="t" sy:taskType="work" default="t_c"/>',
        tasks("a", "b", "c"),
        flows("s>t", "t>a: x > 0", "t>b: x > 1", "t>c", "a>e", "b>e", "c>e"),
    )
    assert sorted(run(data, {"x": 2}).log) == ["a", "b", "t"]
    assert sorted(run(data, {"x": 0}).log) == ["c", "t"]


def test_an_endless_loop_of_gateways_ends_in_an_incident():
    data = bpmn('<exclusiveGateway id="g"/><exclusiveGateway id="h"/>', flows("s>g", "g>h", "h>g"))
    ran = run(data)
    assert ran.incidents == ["ENDLESS"]
