"""From uploaded files to checked definitions: what a deployment stores."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import InvalidRequestError
from workflows.bpmn.definition import ProcessDefinition
from workflows.bpmn.deployment import deploy
from workflows.bpmn.graph import StartTrigger
from workflows.bpmn.languages import standard_languages
from workflows.process_graphs import DecisionModels

_DECLARATION = re.compile(r"^\ufeff?\s*<\?xml[^>]*\?>")
_ENCODING = re.compile(rb"^[^>]{0,200}encoding\s*=\s*[\"']([A-Za-z0-9._\-]{1,40})[\"']")


class InvalidUploadError(InvalidRequestError):
    """A deployment or start lacks something."""

    code = "INVALID_DEPLOYMENT"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(
            f"{field}: {problem}.",
            details={"fields": [{"field": f"body.{field}", "rule": "required", "message": problem}]},
        )


@dataclass(frozen=True)
class CheckedProcess:
    """A process that may be deployed.

    Attributes:
        definition: Its typed model.
        content_hash: SHA-256 of the model and the decision models.
        diagnostics: Warnings.
        starts: What may start it from outside.
    """

    definition: ProcessDefinition
    content_hash: str
    diagnostics: list[dict[str, Any]]
    starts: tuple[StartTrigger, ...]


def check_deployment(bpmn_xml: str, dmn_xml: Sequence[str]) -> list[CheckedProcess]:
    """Compile a deployment's files.

    Raises:
        DefinitionRefusedError: The BPMN file breaks a rule; all diagnostics are listed.
        DecisionModelError: A DMN file is not executable.
    """
    decisions = [as_utf8(text) for text in dmn_xml]
    found = deploy(as_utf8(bpmn_xml), standard_languages(DecisionModels(decisions)))
    diagnostics = [
        {
            "rule": item.rule.value,
            "severity": item.severity.value,
            "element": item.element,
            "line": item.line,
            "message": item.message,
            "remedy": item.remedy,
        }
        for item in found.diagnostics
    ]
    return [
        CheckedProcess(
            graph.definition, content_hash(graph.definition, decisions), diagnostics, graph.start_triggers
        )
        for graph in found.graphs.values()
    ]


def content_hash(definition: ProcessDefinition, decisions: Sequence[bytes]) -> str:
    """Return the identity of a definition with its decision models, hexadecimal."""
    if not decisions:
        return definition.sha256
    digests = [definition.sha256, *(hashlib.sha256(data).hexdigest() for data in decisions)]
    return hashlib.sha256("/".join(digests).encode()).hexdigest()


def as_utf8(text: str) -> bytes:
    """Return XML text as bytes; a declaration that names another encoding would lie."""
    return _DECLARATION.sub("", text, count=1).encode()


def text_of_file(data: bytes, field: str) -> str:
    """Decode an uploaded XML file by its byte order mark or declaration, UTF-8 where it has none.

    Raises:
        InvalidUploadError: Its bytes are not of that encoding.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        declared = _ENCODING.match(data)
        encoding = declared[1].decode() if declared else "utf-8-sig"
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise InvalidUploadError(field, f"the file is not {encoding}") from None
