"""From the bytes of a BPMN file to graphs, or to every reason why not."""

from typing import NamedTuple

from workflows.bpmn.definition import ProcessDefinition
from workflows.bpmn.diagnostics import DefinitionRefusedError, Diagnostic
from workflows.bpmn.expression import Languages
from workflows.bpmn.graph import Graph
from workflows.bpmn.languages import standard_languages
from workflows.bpmn.parser import parse
from workflows.bpmn.validation import validate


class Deployment(NamedTuple):
    """A file that may be executed.

    Attributes:
        graphs: Its executable processes by identifier, in document order.
        diagnostics: Warnings.
    """

    graphs: dict[str, Graph]
    diagnostics: tuple[Diagnostic, ...]


def deploy(data: bytes, languages: Languages | None = None) -> Deployment:
    """Parse, validate and compile a BPMN file.

    Raises:
        DefinitionRefusedError: It breaks a rule; the error carries all diagnostics.
    """
    used = languages or standard_languages()
    parsed = parse(data)
    validate(parsed, used)
    parsed.findings.raise_if_refused()
    graphs = {process.id: Graph(process, used) for process in parsed.processes}
    return Deployment(graphs, parsed.diagnostics)


def check(data: bytes, languages: Languages | None = None) -> tuple[Diagnostic, ...]:
    """Return every diagnostic of a BPMN file, errors included, without raising."""
    try:
        parsed = parse(data)
        validate(parsed, languages or standard_languages())
    except DefinitionRefusedError as refused:
        return refused.diagnostics
    return parsed.diagnostics


def load(canonical: bytes, languages: Languages | None = None) -> Graph:
    """Return the graph of a stored definition (`ProcessDefinition.canonical`)."""
    definition = ProcessDefinition.model_validate_json(canonical)
    return Graph(definition, languages or standard_languages())
