import json
from datetime import timedelta

import pytest

from tests.bpmn.builders import HOLD, Ran, bpmn, flows, orphans, run, tasks, through_json
from workflows.bpmn import commands as out
from workflows.bpmn import inputs
from workflows.bpmn.deployment import deploy, load
from workflows.bpmn.graph import Graph
from workflows.bpmn.inputs import Modification, Modify
from workflows.bpmn.migration import MigrationRefusedError, Plan, check_plan, migrate
from workflows.bpmn.refusals import StepRefusedError
from workflows.bpmn.simulate import EPOCH, Outcome, simulate
from workflows.bpmn.state import State
from workflows.bpmn.step import DefinitionMismatchError, new_state, step

TIMER = "<timerEventDefinition><timeDuration>PT1H</timeDuration></timerEventDefinition>"

SIMPLE = bpmn(
    tasks("a", "b"),
    f'<boundaryEvent id="bo" attachedToRef="a" cancelActivity="false">{TIMER}</boundaryEvent>',
    f'<subProcess id="sub"><startEvent id="is"/>{tasks("i", "j")}{flows("is>i>j")}</subProcess>',
    tasks("x"),
    flows("s>a>sub>b>e", "bo>x"),
)


def _modify(ran: Ran, *changes: Modification) -> Ran:
    return ran.go_on(Modify(ran.simulation.now, changes))


def test_cancelling_an_instance_leaves_nothing_behind():
    ran = run(SIMPLE, outcomes={"a": HOLD}, until=timedelta(0))
    ran.go_on(inputs.Cancel(ran.simulation.now, "not needed"))
    assert ran.state.status == "terminated"
    assert (ran.state.instances, ran.state.subs, orphans(ran)) == ({}, {}, [])


def test_a_suspended_instance_keeps_what_happens_and_handles_it_on_resume():
    ran = run(SIMPLE, outcomes={"a": HOLD}, until=timedelta(0))
    key = ran.key_of("a")
    ran.go_on(inputs.Suspend(ran.simulation.now))
    ran.go_on(inputs.JobCompleted(ran.simulation.now, key, {"v": 1}))
    ran.go_on(after=timedelta(hours=2))
    assert ran.log == ["a"]
    ran.go_on(inputs.Resume(ran.simulation.now))
    assert ran.completed
    assert ran.log[1:] == ["i", "j", "b"]
    assert ran.variables == {"v": 1}


def test_tokens_can_be_placed_in_scopes_that_are_opened_for_them():
    ran = run(SIMPLE, outcomes={"a": HOLD}, until=timedelta(0))
    key = ran.key_of("a")
    _modify(ran, Modification("start_before", "j"), Modification("cancel", key=key))
    assert (ran.log, ran.completed) == (["a", "j", "b"], True)
    assert orphans(ran) == []


def test_a_token_can_be_moved_and_a_retry_from_an_element_is_a_move():
    ran = run(SIMPLE, outcomes={"a": HOLD}, until=timedelta(0))
    _modify(ran, Modification("move", "b", ran.key_of("a")))
    assert (ran.log, ran.completed) == (["a", "b"], True)


@pytest.mark.parametrize(
    "change",
    [
        Modification("start_before", "nowhere"),
        Modification("start_before", "bo"),
        Modification("cancel", key=99),
        Modification("cancel", key=1),
        Modification("move", "b", 1),
        Modification("fly", "b"),
        Modification("start_before", "i", scope=1),
    ],
)
def test_an_impossible_modification_is_refused_and_changes_nothing(change: Modification):
    graph = deploy(SIMPLE).graphs["p"]
    state, _ = step(graph, new_state(graph), inputs.Start(EPOCH))
    before = json.dumps(state.to_json())
    with pytest.raises(StepRefusedError):
        step(graph, state, Modify(EPOCH, (Modification("start_before", "b"), change)))
    assert json.dumps(state.to_json()) == before


@pytest.mark.parametrize(
    "event",
    [
        inputs.Start(EPOCH),
        inputs.Resume(EPOCH),
        inputs.ResolveIncident(EPOCH, 1),
        inputs.ActivateElements(EPOCH, 1, ("a",)),
        inputs.CompleteAdHoc(EPOCH, 77),
        inputs.VariablesChanged(EPOCH, {}, 77),
    ],
)
def test_an_operation_that_does_not_fit_is_refused(event: inputs.Input):
    graph = deploy(SIMPLE).graphs["p"]
    state, _ = step(graph, new_state(graph), inputs.Start(EPOCH))
    with pytest.raises(StepRefusedError):
        step(graph, state, event)


def test_a_step_does_not_change_the_state_it_was_given():
    graph = deploy(SIMPLE).graphs["p"]
    state, _ = step(graph, new_state(graph), inputs.Start(EPOCH, {"list": [1]}))
    before = json.dumps(state.to_json())
    key = next(key for key, item in state.instances.items() if item.node == "a")
    after, _ = step(graph, state, inputs.JobCompleted(EPOCH, key, {"list": [2]}))
    assert json.dumps(state.to_json()) == before
    assert json.dumps(after.to_json()) != before
    assert json.dumps(through_json(after).to_json()) == json.dumps(after.to_json())


def test_the_same_event_on_the_same_state_gives_the_same_answer():
    graph = deploy(SIMPLE).graphs["p"]
    first = step(graph, new_state(graph), inputs.Start(EPOCH, {"x": 1}))
    again = step(load(graph.definition.canonical), new_state(graph), inputs.Start(EPOCH, {"x": 1}))
    assert first[0].to_json() == again[0].to_json()
    assert [out.to_json(c) for c in first[1]] == [out.to_json(c) for c in again[1]]


def test_events_survive_json():
    for event in (
        inputs.Start(EPOCH, {"a": 1}, "s", "k"),
        inputs.Modify(EPOCH, (Modification("move", "b", 3),), {"x": 1}),
        inputs.ActivateElements(EPOCH, 3, ("a", "b")),
        inputs.MessageReceived(EPOCH, "m", "k", {"x": [1]}, 4),
    ):
        assert inputs.from_json(json.loads(json.dumps(inputs.to_json(event)))) == event


def test_a_state_of_another_definition_is_refused():
    graph = deploy(SIMPLE).graphs["p"]
    other = deploy(bpmn(tasks("a"), flows("s>a>e"))).graphs["p"]
    with pytest.raises(DefinitionMismatchError):
        step(other, new_state(graph), inputs.Start(EPOCH))


def test_the_identity_of_a_definition_ignores_layout_and_changes_with_meaning():
    spaced = SIMPLE.replace(b"<serviceTask", b"\n\n   <serviceTask")
    changed = SIMPLE.replace(b"PT1H", b"PT2H")
    first, second, third = (deploy(data).graphs["p"].sha256 for data in (SIMPLE, spaced, changed))
    assert first == second != third


# --- migration ----------------------------------------------------------------------------------------


JOIN = bpmn(
    '<parallelGateway id="g"/><parallelGateway id="j"/>',
    tasks("a", "b", "n"),
    flows("s>g", "g>a>j", "g>b>j", "j>n>e"),
)


def _graph(data: bytes) -> Graph:
    return deploy(data).graphs["p"]


def test_an_instance_with_a_token_before_a_join_migrates():
    # The case that other engines refuse: a token waits at a parallel join.
    old = _graph(JOIN)
    new = _graph(JOIN.replace(b'id="n"', b'id="n2"').replace(b'"n"', b'"n2"').replace(b"a_j", b"flow9"))
    ran = run(JOIN, outcomes={"b": HOLD})
    state = ran.state
    with pytest.raises(MigrationRefusedError) as refused:
        migrate(state, old, new, Plan(), EPOCH)
    assert refused.value.problems == ("the token on a_j waiting before j has no counterpart",)
    moved, commands = migrate(state, old, new, Plan(flows={"a_j": "flow9"}), EPOCH)
    assert not [c for c in commands if not isinstance(c, out.Trace)]
    moved, commands = step(new, moved, inputs.JobCompleted(EPOCH, ran.key_of("b")))
    assert [c.element for c in commands if isinstance(c, out.StartJob)] == ["n2"]


def test_a_migration_keeps_due_times_opens_what_is_new_and_closes_what_is_gone():
    old_data = SIMPLE
    new_data = SIMPLE.replace(
        b'<boundaryEvent id="bo"',
        b'<boundaryEvent id="extra" attachedToRef="a"><messageEventDefinition messageRef="msg"/>'
        b"</boundaryEvent>"
        b'<boundaryEvent id="bo"',
    )
    ran = run(old_data, outcomes={"a": HOLD}, until=timedelta(0))
    due = ran.state.next_due
    old, new = _graph(old_data), _graph(new_data)
    moved, commands = migrate(ran.state, old, new, Plan(), EPOCH + timedelta(minutes=5))
    assert moved.next_due == due
    assert [c.element for c in commands if isinstance(c, out.Subscribe)] == ["extra"]
    back, commands = migrate(moved, new, old, Plan(), EPOCH)
    assert [type(c) for c in commands if not isinstance(c, out.Trace)] == [out.Unsubscribe]
    assert back.to_json()["subs"] == ran.state.to_json()["subs"]


def test_every_problem_of_a_plan_is_listed_at_once():
    old = _graph(JOIN)
    new = _graph(bpmn(tasks("c"), flows("s>c>e")))
    ran = run(JOIN, outcomes={"b": HOLD})
    problems = list(check_plan(ran.state, old, new, Plan({"ghost": "c"})))
    assert problems == [
        "the old definition has no element ghost",
        "the join j with waiting tokens has no counterpart",
        "the active element b has no counterpart",
    ]


def test_a_job_that_runs_during_a_migration_reports_to_the_mapped_element():
    old = _graph(bpmn(tasks("a", "n"), flows("s>a>n>e")))
    new_data = bpmn(tasks("a2", "n", "m"), flows("s>a2>m>n>e"))
    new = _graph(new_data)
    state, commands = step(old, new_state(old), inputs.Start(EPOCH))
    job = next(c for c in commands if isinstance(c, out.StartJob))
    moved, _ = migrate(state, old, new, Plan({"a": "a2"}), EPOCH)
    moved, commands = step(new, moved, inputs.JobCompleted(EPOCH, job.key))
    assert [c.element for c in commands if isinstance(c, out.StartJob)] == ["m"]


# --- size ---------------------------------------------------------------------------------------------


def test_the_state_stays_flat_over_a_thousand_rounds():
    data = bpmn(
        '<exclusiveGateway id="m"/><exclusiveGateway id="g" default="g_e"/>',
        '<scriptTask id="a" scriptFormat="feel" sy:resultVariable="n"><script>n + 1</script></scriptTask>',
        tasks("t"),
        flows("s>m>a>t>g", "g>m: n &lt; 1000", "g>e"),
    )
    sizes: list[int] = []

    def work(job: out.StartJob) -> Outcome:
        return Outcome()

    ran = run(data, {"n": 0}, outcomes={"t": work}, until=timedelta(0))
    assert ran.completed
    graph = _graph(data)
    state, commands = step(graph, new_state(graph), inputs.Start(EPOCH, {"n": 0}))
    while not state.ended:
        job = next(c for c in commands if isinstance(c, out.StartJob))
        state, commands = step(graph, state, inputs.JobCompleted(EPOCH, job.key))
        sizes.append(len(json.dumps(state.to_json())))
    assert len(sizes) == 1000
    assert max(sizes) <= min(sizes[:-1]) + 12  # digits of counters only


def test_ten_thousand_instant_instances_finish_in_bounded_state():
    data = bpmn(
        '<scriptTask id="a" scriptFormat="feel"><script>1</script><multiInstanceLoopCharacteristics>'
        "<loopCardinality>10000</loopCardinality></multiInstanceLoopCharacteristics></scriptTask>",
        flows("s>a>e"),
    )
    largest = 0

    def cut(state: State) -> State:
        nonlocal largest
        text = json.dumps(state.to_json())
        largest = max(largest, len(text))
        return State.from_json(json.loads(text))

    from workflows.bpmn.simulate import Simulation

    simulation = Simulation({"p": _graph(data)}, cut=cut)
    main = simulation.start("p")
    simulation.run()
    assert main.state.status == "completed"
    assert largest < 50_000


def test_simulating_hours_of_timers_takes_no_time():
    data = bpmn(f'<intermediateCatchEvent id="c">{TIMER}</intermediateCatchEvent>', flows("s>c>e"))
    simulation = simulate(_graph(data))
    assert simulation.now == EPOCH + timedelta(hours=1)
    assert simulation.instances[1].outcome == out.Completed({})
