"""DMN files as untrusted input: bytes in, an element tree or a typed refusal out."""

from lxml import etree

from workflows.dmn.errors import DecisionModelError

MAX_BYTES = 5 * 1024 * 1024
MAX_MARKUP = 250_000
NAMESPACES = ("http://www.omg.org/spec/DMN/", "https://www.omg.org/spec/DMN/")

XmlElement = etree._Element


def read_document(data: bytes) -> XmlElement:
    """Return the root element of a DMN file (versions 1.1 to 1.6).

    Entities are not expanded, nothing is fetched, nesting ends at 256 levels, any DOCTYPE is refused.

    Raises:
        DecisionModelError: The file is too large, not XML, has a DOCTYPE, or is not DMN.
    """
    if len(data) > MAX_BYTES or data.count(b"<") > MAX_MARKUP or data.count(b"=") > 2 * MAX_MARKUP:
        raise DecisionModelError("too-large", f"split it: at most {MAX_BYTES} bytes and {MAX_MARKUP} tags")
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
        raise DecisionModelError(
            "not-xml", f"it is not readable XML: {str(error)[:300]}", line=line
        ) from None
    docinfo = root.getroottree().docinfo
    if docinfo.internalDTD is not None or docinfo.externalDTD is not None:
        raise DecisionModelError("doctype", "remove the DOCTYPE: DMN needs none and it can hide entities")
    if local_name(root) != "definitions" or not str(root.tag)[1:].startswith(NAMESPACES):
        raise DecisionModelError("not-dmn", f"the root is {str(root.tag)[:200]}, not DMN definitions")
    return root


def local_name(element: XmlElement) -> str:
    """The tag without its namespace; empty for elements that are not DMN's."""
    tag = element.tag
    if not isinstance(tag, str) or not tag[1:].startswith(NAMESPACES):
        return ""
    return tag.rpartition("}")[2]


def children(element: XmlElement, *names: str) -> list[XmlElement]:
    """The DMN children with one of the local names, in document order."""
    return [child for child in element if local_name(child) in names]


def child(element: XmlElement, name: str) -> XmlElement | None:
    """The first DMN child with that local name."""
    found = children(element, name)
    return found[0] if found else None


def text_of(element: XmlElement | None) -> str:
    """The trimmed content of the element's ``text`` child, empty where there is none."""
    inner = None if element is None else child(element, "text")
    return (
        "" if inner is None else "".join(part for part in inner.itertext() if isinstance(part, str)).strip()
    )


def line_of(element: XmlElement) -> int:
    """Line of the element in its file."""
    return element.sourceline or 0


def label_of(element: XmlElement) -> str:
    """What to call the element in messages."""
    return element.get("name") or element.get("id") or local_name(element)
