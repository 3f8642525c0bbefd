"""DMN XML to executable decision models: everything is compiled once, at deployment."""

from collections.abc import Iterator, Mapping

from workflows.dmn.boxed import boxed_child, read_boxed, read_function, typed
from workflows.dmn.errors import DecisionModelError
from workflows.dmn.model import (
    Decision,
    DecisionModel,
    DecisionService,
    Element,
    InputData,
    KnowledgeModel,
)
from workflows.dmn.scope import Names, read_types
from workflows.dmn.source import XmlElement, child, children, label_of, line_of, local_name, read_document

MAX_REQUIREMENT_DEPTH = 30
_KINDS = ("inputData", "decision", "businessKnowledgeModel", "decisionService")
_REQUIRED = ("requiredInput", "requiredDecision", "requiredKnowledge")


def parse_decision_model(data: bytes) -> DecisionModel:
    """Parse a DMN file (1.1 to 1.6).

    Args:
        data: The file; its encoding is that of the XML declaration.

    Returns:
        The executable model.

    Raises:
        DecisionModelError: The file is not readable, refers to what is not there, requires itself,
            imports other models, or holds text that is not FEEL.
    """
    root = read_document(data)
    for imported in children(root, "import"):
        raise DecisionModelError(
            "import", "imports are not supported: put the elements into one file", line=line_of(imported)
        )
    return _ModelReader(root).read()


class _ModelReader:
    """Reads one file."""

    def __init__(self, root: XmlElement) -> None:
        self.root = root
        self.types, self.members = read_types(root)
        self.sources: dict[str, XmlElement] = {}
        for element in children(root, *_KINDS):
            identifier = element.get("id") or element.get("name") or ""
            if not identifier or identifier in self.sources:
                problem = "its id is not unique" if identifier else "it has neither id nor name"
                raise _refused("identifier", problem, element)
            self.sources[identifier] = element

    def read(self) -> DecisionModel:
        """Read all elements and check the graph they form."""
        elements = {identifier: self._element(identifier) for identifier in self.sources}
        self._check_requirements(elements)
        return DecisionModel(self.root.get("name", ""), elements)

    def _element(self, identifier: str) -> Element:
        element = self.sources[identifier]
        name = self._name(identifier)
        match local_name(element):
            case "inputData":
                return InputData(identifier, name, self._names(()).type(child(element, "variable")))
            case "decisionService":
                return DecisionService(
                    identifier,
                    name,
                    tuple(self._references(element, "inputData", "inputDecision")),
                    tuple(self._references(element, "outputDecision")),
                )
            case "decision":
                return self._decision(identifier, name, element)
            case _:
                return self._knowledge(identifier, name, element)

    def _decision(self, identifier: str, name: str, element: XmlElement) -> Decision:
        requires = tuple(self._requirements(element))
        names = self._names(requires)
        logic = boxed_child(element)
        program = None if logic is None else read_boxed(logic, names)
        if program is not None:
            program = typed(program, names.type(child(element, "variable")))
        return Decision(identifier, name, requires, program)

    def _knowledge(self, identifier: str, name: str, element: XmlElement) -> KnowledgeModel:
        requires = tuple(self._requirements(element))
        logic = child(element, "encapsulatedLogic")
        # Its own name is in scope of its parsing, so that a mention of it is read as one name.
        function = None if logic is None else read_function(logic, self._names((*requires, identifier)))
        return KnowledgeModel(identifier, name, requires, function)

    def _name(self, identifier: str) -> str:
        """The name under which others see an element: that of its variable, else its own."""
        element = self.sources[identifier]
        variable = child(element, "variable")
        name = None if variable is None else variable.get("name")
        return name or element.get("name") or identifier

    def _names(self, requires: tuple[str, ...]) -> Names:
        variables = tuple(self._name(identifier) for identifier in requires)
        return Names(variables, self.members, self.types)

    def _requirements(self, element: XmlElement) -> Iterator[str]:
        for requirement in children(element, "informationRequirement", "knowledgeRequirement"):
            yield from self._references(requirement, *_REQUIRED)

    def _references(self, element: XmlElement, *names: str) -> Iterator[str]:
        for reference in children(element, *names):
            href = reference.get("href") or ""
            identifier = href.rpartition("#")[2]
            if identifier not in self.sources:
                raise _refused("reference", f"it refers to {href[:200]!r}, which is not in the file", element)
            yield identifier

    def _check_requirements(self, elements: Mapping[str, Element]) -> None:
        """Refuse cycles and chains of requirements too long to evaluate.

        Each round settles the elements whose requirements are settled.
        """
        open_elements = {i: set(_required_by(element)) for i, element in elements.items()}
        for _ in range(MAX_REQUIREMENT_DEPTH):
            settled = {i for i, required in open_elements.items() if not required & open_elements.keys()}
            if not settled:
                break
            for identifier in settled:
                del open_elements[identifier]
        if open_elements:
            element = self.sources[min(open_elements)]
            raise _refused(
                "cycle", f"it requires itself, or through more than {MAX_REQUIREMENT_DEPTH} others", element
            )


def _required_by(element: Element) -> tuple[str, ...]:
    match element:
        case Decision(requires=requires) | KnowledgeModel(requires=requires):
            return requires
        case DecisionService(outputs=outputs):
            return outputs
        case InputData():
            return ()


def _refused(rule: str, problem: str, element: XmlElement) -> DecisionModelError:
    return DecisionModelError(rule, problem, element=label_of(element), line=line_of(element))
