from tests.bpmn.builders import HOLD, bpmn, flows, orphans, run, tasks, variables
from workflows.bpmn import commands as out
from workflows.bpmn.simulate import Outcome

COMPENSATE = "<compensateEventDefinition/>"


def undoable(*names: str) -> str:
    """Tasks ``x`` with a compensation handler ``undo_x``."""
    return tasks(*names) + "".join(
        f'<boundaryEvent id="c_{n}" attachedToRef="{n}">{COMPENSATE}</boundaryEvent>'
        f'<serviceTask id="undo_{n}" isForCompensation="true" sy:taskType="work"/>'
        f'<association id="as_{n}" sourceRef="c_{n}" targetRef="undo_{n}"/>'
        for n in names
    )


def _throw(definition: str = COMPENSATE) -> str:
    return f'<intermediateThrowEvent id="th">{definition}</intermediateThrowEvent>'


def test_handlers_run_in_reverse_order_of_completion_and_the_thrower_waits():
    data = bpmn(undoable("a", "b", "c"), _throw(), tasks("n"), flows("s>a>b>c>th>n>e"))
    ran = run(data)
    assert ran.log == ["a", "b", "c", "undo_c", "undo_b", "undo_a", "n"]
    assert ran.completed
    assert orphans(ran) == []


def test_the_order_is_that_of_completion_and_not_of_the_start():
    data = bpmn(
        '<parallelGateway id="g"/><parallelGateway id="j"/>',
        undoable("a", "b"),
        _throw(),
        flows("s>g", "g>a>j", "g>b>j", "j>th>e"),
    )
    from datetime import timedelta

    ran = run(data, outcomes={"a": Outcome(delay=timedelta(hours=1))})
    assert ran.log == ["a", "b", "undo_a", "undo_b"]


def test_only_the_named_activity_is_compensated_and_each_completion_once():
    data = bpmn(
        undoable("a", "b"),
        _throw('<compensateEventDefinition activityRef="a"/>'),
        '<intermediateThrowEvent id="again"><compensateEventDefinition activityRef="a"/>'
        "</intermediateThrowEvent>",
        flows("s>a>b>th>again>e"),
    )
    assert run(data).log == ["a", "b", "undo_a"]


def test_nothing_to_compensate_is_passed_over():
    data = bpmn('<exclusiveGateway id="g"/>', undoable("a"), _throw(), flows("s>g", "g>th>e", "g>a: false"))
    assert run(data).completed


def test_a_thrower_that_does_not_wait_goes_on_at_once():
    data = bpmn(
        undoable("a"),
        _throw('<compensateEventDefinition waitForCompletion="false"/>'),
        tasks("n"),
        flows("s>a>th>n>e"),
    )
    ran = run(data, outcomes={"undo_a": HOLD})
    assert ran.log == ["a", "undo_a", "n"] or ran.log == ["a", "n", "undo_a"]
    assert not ran.completed


def test_a_handler_sees_the_variables_as_they_were_on_completion():
    data = bpmn(
        undoable("a"),
        '<exclusiveGateway id="m"/><exclusiveGateway id="g" default="g_th"/>',
        _throw(),
        flows("s>m>a>g", "g>m: n &lt; 3", "g>th>e"),
    )
    booked = iter([1, 2, 3])
    undone: list[int] = []

    def undo(job: out.StartJob) -> Outcome:
        undone.append(job.variables["booking"])
        return Outcome()

    def book(job: out.StartJob) -> Outcome:
        number = next(booked)
        return Outcome({"booking": number, "n": number})

    ran = run(data, {"n": 0}, outcomes={"a": book, "undo_a": undo})
    assert ran.completed
    assert undone == [3, 2, 1]


def test_a_completed_sub_process_is_compensated_from_inside_in_reverse():
    data = bpmn(
        f'<subProcess id="sub"><startEvent id="is"/>{undoable("a", "b")}{flows("is>a>b")}</subProcess>',
        undoable("c"),
        _throw(),
        flows("s>sub>c>th>e"),
    )
    assert run(data).log == ["a", "b", "c", "undo_c", "undo_b", "undo_a"]


def test_a_compensation_event_sub_process_replaces_the_default_and_sees_the_snapshot():
    data = bpmn(
        '<subProcess id="sub"><extensionElements><zeebe:ioMapping><zeebe:input source="= 1" target="x"/>'
        "</zeebe:ioMapping></extensionElements>"
        f'<startEvent id="is"/>{undoable("a", "b")}{flows("is>a>b")}'
        f'<subProcess id="h" triggeredByEvent="true"><startEvent id="hs">{COMPENSATE}</startEvent>'
        '<intermediateThrowEvent id="inner"><compensateEventDefinition activityRef="a"/>'
        f"</intermediateThrowEvent>{tasks('h1')}{flows('hs>h1>inner')}</subProcess></subProcess>",
        _throw('<compensateEventDefinition activityRef="sub"/>'),
        flows("s>sub>th>e"),
    )
    seen: list[object] = []

    def look(job: out.StartJob) -> Outcome:
        seen.append(job.variables.get("x"))
        return Outcome()

    ran = run(data, outcomes={"a": variables(x=7), "h1": look})
    assert ran.log == ["a", "b", "h1", "undo_a"]
    assert seen == [7]
    assert ran.completed


def test_an_error_handler_compensates_what_its_scope_has_done():
    data = bpmn(
        undoable("a"),
        '<endEvent id="e"><errorEventDefinition errorRef="err"/></endEvent>',
        '<subProcess id="h" triggeredByEvent="true"><startEvent id="hs"><errorEventDefinition/></startEvent>'
        f'<endEvent id="he">{COMPENSATE}</endEvent>{flows("hs>he")}</subProcess>',
        flows("s>a>e"),
    )
    ran = run(data)
    assert (ran.log, ran.completed) == (["a", "undo_a"], True)


def test_each_instance_of_a_multi_instance_activity_is_compensated():
    task = (
        '<serviceTask id="a" sy:taskType="w"><multiInstanceLoopCharacteristics camunda:collection="list"'
        ' camunda:elementVariable="i"/></serviceTask>'
    )
    data = bpmn(
        task,
        undoable("a").replace(tasks("a"), ""),
        _throw(),
        flows("s>a>th>e"),
    )
    undone: list[int] = []

    def undo(job: out.StartJob) -> Outcome:
        undone.append(job.variables["i"])
        return Outcome()

    run(data, {"list": [1, 2, 3]}, outcomes={"undo_a": undo})
    assert undone == [3, 2, 1]


TRANSACTION = bpmn(
    f'<transaction id="t"><startEvent id="is"/>{undoable("a", "b")}{tasks("w")}<parallelGateway id="g"/>'
    '<endEvent id="ic"><cancelEventDefinition/></endEvent><endEvent id="ok"/>'
    '<exclusiveGateway id="x" default="x_ok"/>'
    + flows("is>g", "g>a>b>x", "x>ic: bad", "x>ok", "g>w")
    + "</transaction>",
    '<boundaryEvent id="bo" attachedToRef="t"><cancelEventDefinition/></boundaryEvent>',
    '<endEvent id="e2"/>',
    tasks("n", "f"),
    flows("s>t>n>e", "bo>f>e2"),
)


def test_a_cancelled_transaction_stops_compensates_and_leaves_by_its_cancel_event():
    ran = run(TRANSACTION, {"bad": True}, outcomes={"w": HOLD})
    assert ran.log == ["a", "w", "b", "undo_b", "undo_a", "f"]
    assert ran.completed
    assert orphans(ran) == []


def test_a_transaction_that_succeeds_goes_on_normally():
    assert run(TRANSACTION, {"bad": False}).log[-1] == "n"


def test_long_ledgers_need_no_stack():
    script = (
        '<scriptTask id="a" scriptFormat="feel" sy:resultVariable="n"><script>n + 1</script></scriptTask>'
    )
    handler = '<scriptTask id="undo_a" isForCompensation="true" scriptFormat="feel" sy:resultVariable="m">'
    handler += "<script>m + 1</script></scriptTask>"
    data = bpmn(
        script,
        undoable("a")
        .replace(tasks("a"), "")
        .replace('<serviceTask id="undo_a" isForCompensation="true" sy:taskType="work"/>', handler),
        '<exclusiveGateway id="m"/><exclusiveGateway id="g" default="g_th"/>',
        _throw(),
        flows("s>m>a>g", "g>m: n &lt; 1000", "g>th>e"),
    )
    ran = run(data, {"n": 0, "m": 0})
    assert ran.variables == {"n": 1000, "m": 1000}
