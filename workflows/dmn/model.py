"""Decision models: the requirements graph and its evaluation (DMN 1.5 §6.3, §10.4)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workflows.dmn.errors import DecisionModelError
from workflows.feel import DEFAULT_BUDGET, Budget, Diagnostic, FeelBudgetError
from workflows.feel.conversion import date_time
from workflows.feel.program import Program
from workflows.feel.runtime import Run, Scope
from workflows.feel.types import FeelType, coerce
from workflows.feel.values import Closure, DateTime, Parameter, Value


@dataclass(frozen=True, slots=True)
class InputData:
    """Something the caller supplies."""

    id: str
    name: str
    type: FeelType | None


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision: its logic, and the ids of the elements it requires."""

    id: str
    name: str
    requires: tuple[str, ...]
    program: Program | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class KnowledgeModel:
    """A business knowledge model: a function, and the ids of the functions it requires."""

    id: str
    name: str
    requires: tuple[str, ...]
    function: Callable[[Scope], Closure] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class DecisionService:
    """Decisions under one interface (§10.4); all lists hold ids."""

    id: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Element = InputData | Decision | KnowledgeModel | DecisionService


@dataclass(frozen=True, slots=True)
class DecisionModel:
    """A parsed DMN file; immutable, to be evaluated any number of times.

    Attributes:
        name: Name of the definitions.
        elements: Elements of the requirements graph by id.
    """

    name: str
    elements: Mapping[str, Element]

    def find(self, reference: str) -> Decision | DecisionService:
        """Find a decision or decision service by id or name.

        Raises:
            DecisionModelError: There is none.
        """
        element = self.elements.get(reference)
        if isinstance(element, Decision | DecisionService):
            return element
        for element in self.elements.values():
            if isinstance(element, Decision | DecisionService) and element.name == reference:
                return element
        raise DecisionModelError("unknown-decision", "there is no such decision", element=reference[:200])

    def evaluate(
        self,
        decision: str,
        inputs: Mapping[str, Any],
        *,
        clock: datetime | DateTime | None = None,
        budget: Budget = DEFAULT_BUDGET,
        diagnostics: list[Diagnostic] | None = None,
    ) -> Value:
        """Evaluate a decision or decision service with everything it requires.

        Args:
            decision: Its id or name.
            inputs: Input data by name, as FEEL values; missing ones are null.
            clock: The value of ``now()``.
            budget: Bounds of the whole evaluation.
            diagnostics: Receives the reasons for null values.

        Returns:
            The decision's value; of a service with several outputs, a context of them.

        Raises:
            DecisionModelError: There is no such decision.
            FeelBudgetError: The evaluation exceeds the budget.
        """
        element = self.find(decision)
        moment = date_time(clock) if isinstance(clock, datetime) else clock
        run = Run(budget, moment, diagnostics)
        evaluation = _Evaluation(self, run, {}, inputs)
        try:
            if isinstance(element, DecisionService):
                return evaluation.outputs(element)
            return evaluation.value(element.id)
        except RecursionError:
            raise FeelBudgetError("depth", budget.depth) from None


class _Evaluation:
    """One pass over the graph; every element is evaluated at most once."""

    def __init__(
        self, model: DecisionModel, run: Run, known: dict[str, Value], inputs: Mapping[str, Any]
    ) -> None:
        self.model = model
        self.run = run
        self.known = known
        self.inputs = inputs

    def value(self, identifier: str) -> Value:
        """The value of an element: supplied, decided, or a function."""
        if identifier not in self.known:
            self.run.spend(1)
            self.known[identifier] = self._evaluated(self.model.elements[identifier])
        return self.known[identifier]

    def outputs(self, service: DecisionService) -> Value:
        """What a decision service gives."""
        values = {self.model.elements[output].name: self.value(output) for output in service.outputs}
        return next(iter(values.values())) if len(values) == 1 else dict(values)

    def _evaluated(self, element: Element) -> Value:
        match element:
            case InputData(name=name, type=feel_type):
                conforms, value = coerce(self.inputs.get(name), feel_type)
                return value if conforms else self.run.note("type", f"the input {name!r} has another type")
            case Decision(name=name, program=program):
                # A value supplied under the decision's own name replaces its logic.
                if name in self.inputs or program is None:
                    return self.inputs.get(name)
                return program(self._scope(element.requires))
            case KnowledgeModel(function=function):
                return None if function is None else function(self._scope(element.requires))
            case DecisionService():
                return self._function(element)

    def _scope(self, requires: tuple[str, ...]) -> Scope:
        # Modellers of Camunda leave requirements of plain inputs out: such names are the caller's.
        names: dict[str, Any] = dict(self.inputs)
        for identifier in requires:
            names[self.model.elements[identifier].name] = self.value(identifier)
        return Scope(names, None, self.run)

    def _function(self, service: DecisionService) -> Closure:
        """A decision service as a function of its inputs (§10.4)."""
        names = [self.model.elements[identifier].name for identifier in service.inputs]

        def body(scope: Scope) -> Value:
            known = {i: scope.names[name] for i, name in zip(service.inputs, names, strict=True)}
            return _Evaluation(self.model, scope.run, known, {}).outputs(service)

        size = len(self.model.elements)
        return Closure(tuple(map(Parameter, names)), body, Scope({}, None, self.run), size=size, depth=20)
