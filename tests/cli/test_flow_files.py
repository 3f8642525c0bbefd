"""``flows validate`` and ``flows simulate``: from a file to findings, or to a trace on a virtual clock."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.exit import ExitStatus
from cli.main import run
from tests.bpmn.builders import bpmn, flows, tasks

APPROVAL = bpmn(
    '<userTask id="approve"/><boundaryEvent id="late" attachedToRef="approve" cancelActivity="false">'
    "<timerEventDefinition><timeDuration>P2D</timeDuration></timerEventDefinition></boundaryEvent>",
    tasks("remind", "pay"),
    '<exclusiveGateway id="g" default="g_e"/><businessRuleTask id="level" sy:decisionRef="Level"'
    ' sy:resultVariable="level"/>',
    flows("s>level>approve>g", "g>pay: approved", "g>e", "pay>e", "late>remind"),
)
LEVEL = b"""<definitions xmlns="https://www.omg.org/spec/DMN/20191111/MODEL/" name="m" namespace="m">
<decision id="Level" name="Level"><literalExpression><text>if amount > 100 then "high" else "low"</text>
</literalExpression></decision></definitions>"""


@pytest.fixture
def approval(tmp_path: Path) -> list[str]:
    (tmp_path / "approval.bpmn").write_bytes(APPROVAL)
    (tmp_path / "level.dmn").write_bytes(LEVEL)
    return [str(tmp_path / "approval.bpmn"), str(tmp_path / "level.dmn")]


def output(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_file_that_would_run_is_accepted(approval: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["flows", "validate", *approval, "--json"]) == ExitStatus.OK
    first, second = output(capsys)
    assert first["accepted"]
    assert [process["id"] for process in first["processes"]] == ["p"]
    assert second["accepted"]
    assert second["diagnostics"] == []


def test_a_refused_file_names_rule_element_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.bpmn"
    bad.write_bytes(bpmn('\n<userTask id="a" default="nowhere"/>', flows("s>a>e")))
    assert run(["flows", "validate", str(bad), "--json"]) == ExitStatus.FAILURE
    finding = output(capsys)[0]["diagnostics"][0]
    line = next(n for n, text in enumerate(bad.read_text().splitlines(), 1) if 'id="a"' in text)
    assert (finding["rule"], finding["element"], finding["line"]) == ("BPMN-032", "a", line)
    assert run(["flows", "validate", str(bad)]) == ExitStatus.FAILURE
    assert f"bad.bpmn:{line}: error BPMN-032" in capsys.readouterr().out


def test_what_is_no_model_at_all_is_refused_with_a_diagnostic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.dmn").write_bytes(LEVEL.replace(b"amount >", b"amount > >"))
    (tmp_path / "b.bpmn").write_bytes(b"\x00")
    names = [str(tmp_path / "a.dmn"), str(tmp_path / "b.bpmn")]
    assert run(["flows", "validate", *names, "--json"]) == ExitStatus.FAILURE
    assert [report["accepted"] for report in output(capsys)] == [False, False]


def test_days_of_waiting_are_simulated_at_once(
    approval: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"jobs": {"approve": {"delay": "P3D", "variables": {"approved": true}}}}')
    arguments = ["--variables", '{"amount": 500}', "--scenario", str(scenario), "--json"]
    assert run(["flows", "simulate", *approval, *arguments]) == ExitStatus.OK
    result = output(capsys)
    assert result["status"] == "completed"
    assert result["variables"] == {"amount": 500, "level": "high", "approved": True}
    jobs = [(line["at"][:10], line["element"]) for line in result["trace"] if line["command"] == "StartJob"]
    assert jobs == [("2026-01-01", "approve"), ("2026-01-03", "remind"), ("2026-01-04", "pay")]


def test_a_simulation_that_waits_or_fails_says_so(
    approval: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"jobs": {"approve": {"hold": true}}}')
    assert run(["flows", "simulate", *approval, "--scenario", str(scenario)]) == ExitStatus.FAILURE
    assert "waiting at approve" in capsys.readouterr().out
    scenario.write_text('{"jobs": {"approve": {"failure": "down"}}}')
    assert run(["flows", "simulate", *approval, "--scenario", str(scenario)]) == ExitStatus.FAILURE
    assert "incident JOB at approve: down" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--variables", "[1]"],
        ["--variables", "{"],
        ["--variables", "@/nowhere.json"],
        ["--until", "soon"],
        ["--process", "other"],
    ],
)
def test_unusable_options_are_refused(approval: list[str], arguments: list[str]) -> None:
    assert run(["flows", "simulate", *approval, *arguments]) == ExitStatus.REFUSED


@pytest.mark.parametrize("text", ["[]", '{"jobs": {"nobody": {}}}', '{"jobs": {"approve": {"later": 1}}}'])
def test_an_unusable_scenario_is_refused(approval: list[str], tmp_path: Path, text: str) -> None:
    scenario = tmp_path / "scenario.json"
    scenario.write_text(text)
    assert run(["flows", "simulate", *approval, "--scenario", str(scenario)]) == ExitStatus.REFUSED


def test_messages_of_a_scenario_arrive_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "order.bpmn"
    file.write_bytes(
        bpmn(
            '<intermediateCatchEvent id="paid"><messageEventDefinition messageRef="msg"/>'
            "</intermediateCatchEvent>",
            flows("s>paid>e"),
        )
    )
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"messages": [{"after": "PT5M", "name": "order", "variables": {"paid": 1}}]}')
    assert run(["flows", "simulate", str(file), "--scenario", str(scenario)]) == ExitStatus.OK
    shown = capsys.readouterr().out
    assert "p completed after +00:05:00" in shown
    assert 'variables {"paid": 1}' in shown
