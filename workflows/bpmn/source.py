"""BPMN files as untrusted input: bytes in, an element tree or a typed refusal out."""

from lxml import etree

from workflows.bpmn.diagnostics import DefinitionRefusedError, Diagnostic, Rule, Severity

MAX_BYTES = 5 * 1024 * 1024
MAX_MARKUP = 250_000
"""Tags in a file, closing ones included: keeps the tree of a hostile file under 100 MB."""

BPMN = "http://www.omg.org/spec/BPMN/20100524/MODEL"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

XmlElement = etree._Element


def _refuse(rule: Rule, line: int, message: str, remedy: str) -> DefinitionRefusedError:
    return DefinitionRefusedError([Diagnostic(rule, Severity.ERROR, "", line, message, remedy)])


def read_document(data: bytes) -> XmlElement:
    """Return the root element of a BPMN file.

    Entities are not expanded, nothing is fetched, nesting ends at 256 levels and any DOCTYPE is refused;
    the encoding is the XML declaration's.

    Raises:
        DefinitionRefusedError: The file is too large, not XML, has a DOCTYPE, or is not BPMN.
    """
    if len(data) > MAX_BYTES:
        raise _refuse(
            Rule.TOO_LARGE,
            0,
            f"The file has {len(data)} bytes, more than {MAX_BYTES}.",
            "Split the model into processes that call each other.",
        )
    if data.count(b"<") > MAX_MARKUP or data.count(b"=") > MAX_MARKUP * 2:
        raise _refuse(
            Rule.TOO_LARGE,
            0,
            f"The file has more than {MAX_MARKUP} tags.",
            "Split the model into processes that call each other.",
        )
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        line = getattr(error, "lineno", None) or 0
        deep = "depth" in str(error)
        raise _refuse(
            Rule.TOO_DEEP if deep else Rule.NOT_XML,
            line,
            f"The file is not readable XML: {str(error)[:300]}.",
            "Export it again from the modeller and check the encoding in the XML declaration.",
        ) from None
    docinfo = root.getroottree().docinfo
    if docinfo.internalDTD is not None or docinfo.externalDTD is not None:
        raise _refuse(
            Rule.DOCTYPE, 1, "The file has a DOCTYPE.", "Remove it: BPMN needs none and it can hide entities."
        )
    if root.tag != f"{{{BPMN}}}definitions":
        raise _refuse(
            Rule.NOT_BPMN,
            root.sourceline or 0,
            f"The root element is {str(root.tag)[:200]}, not BPMN 2.0 definitions.",
            f"Export as BPMN 2.0 (namespace {BPMN}).",
        )
    return root


def local_name(element: XmlElement) -> str:
    """Return the tag without its namespace, empty for nodes that are no elements."""
    tag = element.tag
    if not isinstance(tag, str):
        return ""
    return tag.rpartition("}")[2]


def is_bpmn(element: XmlElement) -> bool:
    """Tell whether the element belongs to the BPMN 2.0 model namespace."""
    tag = element.tag
    return isinstance(tag, str) and tag.startswith(f"{{{BPMN}}}")


def children(element: XmlElement, name: str) -> list[XmlElement]:
    """Return the BPMN children with that local name."""
    return element.findall(f"{{{BPMN}}}{name}")


def child(element: XmlElement, name: str) -> XmlElement | None:
    """Return the first BPMN child with that local name."""
    return element.find(f"{{{BPMN}}}{name}")


def text_of(element: XmlElement | None) -> str | None:
    """Return the trimmed text of an element, None where there is none."""
    if element is None:
        return None
    text = "".join(part for part in element.itertext() if isinstance(part, str)).strip()
    return text or None


def line_of(element: XmlElement) -> int:
    """Return the line of the element in its file."""
    line = element.sourceline
    return line if isinstance(line, int) else 0
