"""Boxed expressions to programs (DMN 1.5 §7.2, §10.2.1): what stands in the boxes is FEEL.

Programs are those of `workflows.feel`: functions of a scope, so that boxes and text nest freely.
"""

from collections.abc import Callable
from typing import Any

from workflows.dmn.decision_table import read_decision_table
from workflows.dmn.errors import DecisionModelError
from workflows.dmn.scope import Names
from workflows.dmn.source import XmlElement, child, children, label_of, line_of, local_name, text_of
from workflows.feel.invocation import invoke
from workflows.feel.iteration import bindings, elements
from workflows.feel.program import Program
from workflows.feel.runtime import Scope
from workflows.feel.selection import select_items
from workflows.feel.semantics import both, either
from workflows.feel.types import FeelType, coerce
from workflows.feel.values import Closure, Parameter, Value

MAX_NESTING = 40
_FUNCTION_SIZE = 20
_FUNCTION_DEPTH = 15

Reader = Callable[[XmlElement, Names, int], Program]


def read_boxed(element: XmlElement, names: Names, depth: int = 0) -> Program:
    """Compile the boxed expression an element is.

    Raises:
        DecisionModelError: It is malformed, nested too deeply, or of an unknown kind.
    """
    reader = _READERS.get(local_name(element))
    if reader is None or depth > MAX_NESTING:
        raise _malformed(
            element, "it is no boxed expression" if reader is None else "it is nested too deeply"
        )
    return reader(element, names, depth + 1)


def boxed_child(element: XmlElement) -> XmlElement | None:
    """The boxed expression inside an element, None where there is none."""
    found = [inner for inner in element if local_name(inner) in _READERS]
    return found[0] if found else None


def read_function(element: XmlElement, names: Names, depth: int = 0) -> Callable[[Scope], Closure]:
    """Compile a function definition (``encapsulatedLogic`` or a boxed function).

    Raises:
        DecisionModelError: It is malformed.
    """
    parameters = tuple(
        Parameter(parameter.get("name", ""), names.type(parameter))
        for parameter in children(element, "formalParameter")
    )
    body = boxed_child(element)
    external = (element.get("kind") or "FEEL").upper() != "FEEL"
    program: Program | None = None
    if body is not None and not external:
        program = read_boxed(body, names.plus(*(p.name for p in parameters)), depth)
    return lambda scope: Closure(parameters, program, scope, size=_FUNCTION_SIZE, depth=_FUNCTION_DEPTH)


def typed(program: Program, feel_type: FeelType | None) -> Program:
    """Bind what a program gives to a variable of a type (§10.3.2.9.4)."""
    if feel_type is None:
        return program

    def bind(scope: Scope) -> Value:
        conforms, value = coerce(program(scope), feel_type)
        return value if conforms else scope.run.note("type", "a value does not conform to its declared type")

    return bind


def _malformed(element: XmlElement, problem: str) -> DecisionModelError:
    return DecisionModelError("boxed-expression", problem, element=label_of(element), line=line_of(element))


def _required(element: XmlElement, names: Names, depth: int) -> Program:
    inner = boxed_child(element)
    if inner is None:
        raise _malformed(element, "it holds no expression")
    return read_boxed(inner, names, depth)


def _literal(element: XmlElement, names: Names, depth: int) -> Program:
    text = text_of(element)
    if not text:
        raise _malformed(element, "the literal expression is empty")
    return names.expression(text, element)


def _table(element: XmlElement, names: Names, depth: int) -> Program:
    return read_decision_table(element, names).evaluate


def _context(element: XmlElement, names: Names, depth: int) -> Program:
    """Entries in order; the entry without a variable is the result."""
    entries: list[tuple[str | None, Program]] = []
    for entry in children(element, "contextEntry"):
        variable = child(entry, "variable")
        key = None if variable is None else variable.get("name", "")
        program = typed(_required(entry, names, depth), names.type(variable))
        entries.append((key, program))
        if key is not None:
            names = names.plus(key)

    def build(scope: Scope) -> Value:
        result: dict[str, Any] = {}
        inner = Scope(result, scope, scope.run)
        for key, program in entries:
            if key is None:
                return program(inner)
            result[key] = program(inner)
        return result

    return build


def _list(element: XmlElement, names: Names, depth: int) -> Program:
    items = [read_boxed(item, names, depth) for item in element if local_name(item) in _READERS]
    return lambda scope: [item(scope) for item in items]


def _relation(element: XmlElement, names: Names, depth: int) -> Program:
    columns = [column.get("name", "") for column in children(element, "column")]
    rows: list[list[Program]] = []
    for row in children(element, "row"):
        cells = [read_boxed(cell, names, depth) for cell in row if local_name(cell) in _READERS]
        if len(cells) != len(columns):
            raise _malformed(row, f"a row needs {len(columns)} cells")
        rows.append(cells)
    return lambda scope: [
        {column: cell(scope) for column, cell in zip(columns, cells, strict=True)} for cells in rows
    ]


def _invocation(element: XmlElement, names: Names, depth: int) -> Program:
    function = _required(element, names, depth)
    arguments: list[tuple[str, Program]] = []
    for binding in children(element, "binding"):
        parameter, value = child(binding, "parameter"), boxed_child(binding)
        if parameter is not None and value is not None:
            arguments.append((parameter.get("name", ""), read_boxed(value, names, depth)))
    return lambda scope: invoke(
        function(scope), (), {name: argument(scope) for name, argument in arguments}, scope.run, None
    )


def _function(element: XmlElement, names: Names, depth: int) -> Program:
    return read_function(element, names, depth)


def _part(element: XmlElement, name: str, names: Names, depth: int) -> Program:
    part = child(element, name)
    if part is None:
        raise _malformed(element, f"the part {name!r} is missing")
    return _required(part, names, depth)


def _conditional(element: XmlElement, names: Names, depth: int) -> Program:
    condition, consequent, alternative = (
        _part(element, name, names, depth) for name in ("if", "then", "else")
    )
    return lambda scope: consequent(scope) if condition(scope) is True else alternative(scope)


def _filter(element: XmlElement, names: Names, depth: int) -> Program:
    items = _part(element, "in", names, depth)
    match = _part(element, "match", names.plus("item"), depth)
    return lambda scope: select_items(items(scope), match, _FUNCTION_SIZE, scope)


def _iterated(element: XmlElement, part: str, names: Names, depth: int) -> tuple[str, Program, Program]:
    variable = element.get("iteratorVariable") or ""
    inner = names.plus(variable, "partial")
    return variable, _part(element, "in", names, depth), _part(element, part, inner, depth)


def _for(element: XmlElement, names: Names, depth: int) -> Program:
    variable, items, result = _iterated(element, "return", names, depth)
    sources = [(variable, lambda scope: elements(items(scope)))]

    def loop(scope: Scope) -> Value:
        results: list[Value] = []
        for inner in bindings(sources, Scope({"partial": results}, scope, scope.run)):
            if inner is None:
                return scope.run.note("iteration", "what is iterated over is neither list nor range")
            scope.run.spend(_FUNCTION_SIZE)
            results.append(result(inner))
        return results

    return loop


def _quantified(element: XmlElement, names: Names, depth: int) -> Program:
    variable, items, condition = _iterated(element, "satisfies", names, depth)
    sources = [(variable, lambda scope: elements(items(scope)))]
    every = local_name(element) == "every"

    def quantify(scope: Scope) -> Value:
        outcome: bool | None = every
        for inner in bindings(sources, scope):
            if inner is None:
                return scope.run.note("iteration", "what is quantified over is neither list nor range")
            scope.run.spend(_FUNCTION_SIZE)
            outcome = both(outcome, condition(inner)) if every else either(outcome, condition(inner))
        return outcome

    return quantify


_READERS: dict[str, Reader] = {
    "literalExpression": _literal,
    "decisionTable": _table,
    "context": _context,
    "list": _list,
    "relation": _relation,
    "invocation": _invocation,
    "functionDefinition": _function,
    "conditional": _conditional,
    "filter": _filter,
    "for": _for,
    "some": _quantified,
    "every": _quantified,
}
