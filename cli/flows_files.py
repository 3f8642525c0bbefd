"""``switchyard flows validate | simulate``: what needs a file and nothing else, no server, no login."""

import json as json_module
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exit import ExitStatus
from cli.output import JsonOption, clean, note, print_json
from models.errors import InvalidRequestError

if TYPE_CHECKING:
    from workflows.bpmn.deployment import Deployment
    from workflows.bpmn.diagnostics import Diagnostic
    from workflows.bpmn.expression import Languages

Files = Annotated[
    list[Path], typer.Argument(help="BPMN and DMN files.", exists=True, dir_okay=False, readable=True)
]
Variables = Annotated[
    str | None, typer.Option(help="Variables as a JSON object, or @file.", metavar="JSON|@FILE")
]


_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]


class FlowFileError(InvalidRequestError):
    """A file or value named on the command line cannot be used."""

    code = "FLOW_FILE_UNUSABLE"


def validate(files: Files, json: JsonOption = False) -> None:
    """Check BPMN and DMN files. The status is 1 where one of them would be refused."""
    languages, findings = _languages(files)
    reports = [_report(file, languages, findings.get(file)) for file in files]
    if json:
        print_json(reports)
    else:
        for report in reports:
            _print_report(report)
    if not all(report["accepted"] for report in reports):
        raise typer.Exit(ExitStatus.FAILURE)


def simulate(
    files: Files,
    variables: Variables = None,
    process: Annotated[str | None, typer.Option(help="Process to start; default: the first.")] = None,
    start: Annotated[str | None, typer.Option(help="Start event to enter by.")] = None,
    scenario: Annotated[
        Path | None,
        typer.Option(help="What jobs answer and which messages arrive (JSON).", exists=True, dir_okay=False),
    ] = None,
    clock: Annotated[
        datetime | None, typer.Option(help="The virtual clock's first value, UTC.", formats=_FORMATS)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop after so much virtual time, such as P3D.")] = None,
    json: JsonOption = False,
) -> None:
    """Run a process on a virtual clock and print its trace: days of timers in milliseconds.

    Jobs complete at once without results unless the scenario says otherwise. The status is 0 only
    where the instance completed.
    """
    from cli.flows_simulation import Scenario, run_scenario

    deployment = _deploy(files)
    name = process or next(iter(deployment.graphs))
    if name not in deployment.graphs:
        raise FlowFileError(
            f"There is no executable process {name!r}. Choose of: {', '.join(deployment.graphs)}."
        )
    plan = Scenario.read(scenario.read_bytes()) if scenario else Scenario()
    result = run_scenario(
        deployment.graphs, name, read_variables(variables), plan, start=start, clock=clock, until=span(until)
    )
    if json:
        print_json(result.to_json())
    else:
        for line in result.lines():
            typer.echo(clean(line))
    if result.status != "completed":
        raise typer.Exit(ExitStatus.FAILURE)


def read_variables(text: str | None) -> dict[str, Any]:
    """Return the variables that an option gives as JSON or as ``@file``.

    Raises:
        FlowFileError: It is no JSON object.
    """
    if text is None:
        return {}
    try:
        source = Path(text[1:]).read_text("utf-8") if text.startswith("@") else text
        value: Any = json_module.loads(source)
    except (OSError, ValueError) as error:
        raise FlowFileError(f"The variables are not readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise FlowFileError('The variables must be a JSON object such as {"amount": 120}.')
    return {str(name): item for name, item in value.items()}


def span(text: str | None) -> timedelta | None:
    """Return an ISO 8601 duration as a time span, months counted as 30 days.

    Raises:
        FlowFileError: It is no duration.
    """
    from workflows.bpmn.timing import TimerValueError, parse_duration

    if text is None:
        return None
    try:
        duration = parse_duration(text)
    except TimerValueError as error:
        raise FlowFileError(f"{error}.") from None
    return duration.exact + timedelta(days=30 * duration.months)


# --- reading ------------------------------------------------------------------------------------------


def is_decision_model(data: bytes) -> bool:
    """Tell DMN from BPMN without reading the file: by the namespace that its root must name."""
    return b"/spec/DMN/" in data[:4096]


def _languages(files: list[Path]) -> tuple["Languages", dict[Path, list[dict[str, Any]]]]:
    """Compile the decision models among the files; return what they mean and what is wrong with them."""
    from workflows.bpmn.decisions import Decisions
    from workflows.bpmn.languages import standard_languages
    from workflows.dmn import DecisionModel, DecisionModelError, parse_decision_model

    models: list[DecisionModel] = []
    findings: dict[Path, list[dict[str, Any]]] = {}
    for file in files:
        data = file.read_bytes()
        if not is_decision_model(data):
            continue
        findings[file] = []
        try:
            models.append(parse_decision_model(data))
        except DecisionModelError as error:
            findings[file].append(
                {
                    "rule": error.rule,
                    "severity": "error",
                    "element": error.element,
                    "line": error.line,
                    "message": error.message,
                    "remedy": "",
                }
            )
    return standard_languages(Decisions(models) if models else None), findings


def _report(
    file: Path, languages: "Languages", decision_findings: list[dict[str, Any]] | None
) -> dict[str, Any]:
    from workflows.bpmn.deployment import deploy
    from workflows.bpmn.diagnostics import DefinitionRefusedError

    if decision_findings is not None:
        return {
            "file": str(file),
            "accepted": not decision_findings,
            "processes": [],
            "diagnostics": decision_findings,
        }
    processes: list[dict[str, Any]] = []
    found: tuple[Diagnostic, ...]
    accepted = True
    try:
        deployment = deploy(file.read_bytes(), languages)
        found = deployment.diagnostics
        processes = [
            {"id": graph.id, "name": graph.definition.name, "sha256": graph.sha256}
            for graph in deployment.graphs.values()
        ]
    except DefinitionRefusedError as error:
        found, accepted = error.diagnostics, False
    return {
        "file": str(file),
        "accepted": accepted,
        "processes": processes,
        "diagnostics": [item.to_json() for item in found],
    }


def _print_report(report: dict[str, Any]) -> None:
    for item in report["diagnostics"]:
        place = f"{report['file']}:{item['line']}" if item["line"] else report["file"]
        remedy = f" {item['remedy']}" if item["remedy"] else ""
        typer.echo(clean(f"{place}: {item['severity']} {item['rule']}: {item['message']}{remedy}"))
    if report["accepted"]:
        names = ", ".join(process["id"] for process in report["processes"])
        note(f"{report['file']}: accepted{f' ({names})' if names else ''}")
    else:
        note(f"{report['file']}: refused")


def _deploy(files: list[Path]) -> "Deployment":
    """Compile all files as one deployment: processes call and message each other across files.

    Raises:
        DefinitionRefusedError: A BPMN file breaks a rule.
        FlowFileError: A decision model is refused, or there is no process.
    """
    from workflows.bpmn.deployment import Deployment, deploy

    languages, findings = _languages(files)
    for file, found in findings.items():
        if found:
            raise FlowFileError(f"{file}, line {found[0]['line']}: {found[0]['message']}")
    deployments = [deploy(file.read_bytes(), languages) for file in files if file not in findings]
    graphs = {name: graph for item in deployments for name, graph in item.graphs.items()}
    if not graphs:
        raise FlowFileError("No BPMN file was named.")
    return Deployment(graphs, tuple(finding for item in deployments for finding in item.diagnostics))
