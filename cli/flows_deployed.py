"""``switchyard flows deploy | definitions | start``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.flows_files import Files, Variables, read_variables
from cli.output import JsonOption, clean, note, print_facts, print_json, print_table

BASE = "/api/orchestrator"

_COLUMNS = {
    "processKey": "PROCESS",
    "version": "VERSION",
    "definitionId": "DEFINITION",
    "status": "STATUS",
    "name": "NAME",
    "deployedAt": "DEPLOYED",
}


def deploy(files: Files, json: JsonOption = False) -> None:
    """Deploy BPMN files, each with all DMN files that are named. The same content is the same version."""
    from api.process_deployment import text_of_file
    from cli.client import connect

    bpmn, dmn = split(files)
    tables = [text_of_file(file.read_bytes(), str(file)) for file in dmn]
    found: list[dict[str, Any]] = []
    with connect() as client:
        for file in bpmn:
            body = {"bpmnXml": text_of_file(file.read_bytes(), str(file)), "dmnXml": tables}
            answer = client.post(f"{BASE}/deploy", body)
            found += answer["definitions"]
    if json:
        print_json(found)
        return
    for definition in found:
        for item in definition["diagnostics"]:
            note(
                f"{item['severity']} {item['rule']}, line {item['line']}: {item['message']} {item['remedy']}"
            )
    print_table(_COLUMNS, found, empty="Nothing was deployed.")


def split(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the BPMN and the DMN files of a command line.

    Raises:
        FlowFileError: There is no BPMN file.
    """
    from cli.flows_files import FlowFileError, is_decision_model

    dmn = [file for file in files if is_decision_model(file.read_bytes())]
    bpmn = [file for file in files if file not in dmn]
    if not bpmn:
        raise FlowFileError("No BPMN file was named.")
    return bpmn, dmn


def definitions(
    process: Annotated[str | None, typer.Option(help="Only versions of this process.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All versions, not only the newest.")] = False,
    json: JsonOption = False,
) -> None:
    """List deployed processes."""
    from cli.client import connect

    with connect() as client:
        query = {"processKey": process, "latest": None if all_ else "true", "limit": 100}
        found = client.get(f"{BASE}/definitions", **query)["definitions"]
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, found, empty="Nothing is deployed: switchyard flows deploy FILE.")


def start(
    process: Annotated[str, typer.Argument(help="Process key (its newest version) or definition id.")],
    variables: Variables = None,
    business_key: Annotated[str | None, typer.Option(help="Your name of the instance.")] = None,
    start_event: Annotated[str | None, typer.Option(help="Start event to enter by.")] = None,
    wait: Annotated[
        bool, typer.Option(help="Follow it to its end; the status is 0 if it completed.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Start an instance."""
    from cli.client import connect
    from cli.flows_watch import follow

    wanted = "definitionId" if process.startswith("flow_") else "processKey"
    body = {
        wanted: process,
        "variables": read_variables(variables),
        "businessKey": business_key,
        "startEvent": start_event,
    }
    with connect() as client:
        answer = client.post(f"{BASE}/instances", {k: v for k, v in body.items() if v is not None})
        if wait:
            follow(client, answer["instanceId"], json=json)
            return
    if json:
        print_json(answer)
    else:
        print_facts({"instance": answer["instanceId"], "definition": answer["definitionId"]})
        note(clean(f"Follow it: switchyard flows watch {answer['instanceId']}"))
