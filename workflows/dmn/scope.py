"""What a boxed expression may refer to while it is read: names, types, and how FEEL text is compiled."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workflows.dmn.errors import DecisionModelError
from workflows.dmn.source import XmlElement, children, label_of, line_of
from workflows.feel import FeelSyntaxError, parse_expression, parse_unary_tests
from workflows.feel.program import Program
from workflows.feel.types import ContextType, FeelType, ListType, named, resolve


@dataclass(frozen=True, slots=True)
class Names:
    """Names in scope of an expression.

    Attributes:
        variables: Variables, innermost last.
        members: Entries of contexts that item definitions know.
        types: Item definitions by name.
    """

    variables: tuple[str, ...]
    members: frozenset[str]
    types: Mapping[str, FeelType]

    def plus(self, *names: str) -> "Names":
        """The scope with more variables."""
        return Names((*self.variables, *names), self.members, self.types)

    def expression(self, text: str, element: XmlElement) -> Program:
        """Compile a FEEL expression that stands in an element.

        Raises:
            DecisionModelError: It is no FEEL.
        """
        language = element.get("expressionLanguage") or ""
        if language and "feel" not in language.lower():
            raise DecisionModelError(
                "language",
                f"{language[:100]!r} is not FEEL",
                element=label_of(element),
                line=line_of(element),
            )
        try:
            return parse_expression(
                text, names=self.variables, members=self.members, types=self.types
            ).program
        except FeelSyntaxError as error:
            raise DecisionModelError(
                "feel", error.message, element=label_of(element), line=line_of(element)
            ) from None

    def unary_tests(self, text: str, element: XmlElement) -> Program:
        """Compile the unary tests of a cell; an empty cell is ``-``.

        Raises:
            DecisionModelError: They are no FEEL.
        """
        try:
            return parse_unary_tests(
                text or "-", names=self.variables, members=self.members, types=self.types
            ).program
        except FeelSyntaxError as error:
            raise DecisionModelError(
                "feel", error.message, element=label_of(element), line=line_of(element)
            ) from None

    def type(self, element: XmlElement | None) -> FeelType | None:
        """The type that an element's ``typeRef`` names; None for Any and unknown types."""
        reference = None if element is None else element.get("typeRef")
        return None if not reference else resolve(type_reference(reference), self.types)


def type_reference(reference: str) -> FeelType:
    """The type of a ``typeRef``, with or without the prefix of older versions (``feel:number``)."""
    return named(reference.rpartition(":")[2].strip())


def read_types(root: XmlElement) -> tuple[dict[str, FeelType], frozenset[str]]:
    """Read the item definitions: types by name, and all names of their components."""
    members: set[str] = set()
    definitions = {
        element.get("name", ""): _item_type(element, members, 0)
        for element in children(root, "itemDefinition")
    }
    return definitions, frozenset(members)


def _item_type(element: XmlElement, members: set[str], depth: int) -> FeelType:
    if depth > 40:
        raise DecisionModelError("too-deep", "item definitions are nested too deeply", line=line_of(element))
    components = children(element, "itemComponent")
    members.update(name for component in components if (name := component.get("name")))
    if components:
        entries = tuple((c.get("name", ""), _item_type(c, members, depth + 1)) for c in components)
        kind: FeelType = ContextType(entries)
    else:
        references = children(element, "typeRef")
        reference = "".join(references[0].itertext()) if references else "Any"  # type: ignore[arg-type]
        kind = type_reference(reference.strip())
    return ListType(kind) if element.get("isCollection") == "true" else kind


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """Names without repetition, in order."""
    return tuple(dict.fromkeys(names))
