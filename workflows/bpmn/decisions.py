"""Decision models for business rule tasks: DMN beside BPMN, evaluated in place (clause 10.3.3)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from workflows.bpmn.expression import CompiledExpression, ExpressionEvaluationError
from workflows.dmn import DecisionModel
from workflows.dmn.model import Decision, DecisionService, InputData
from workflows.feel import FeelBudgetError, from_feel, to_feel


class DecisionCall:
    """One decision of a model, asked with the variables that the task sees."""

    __slots__ = ("_decision", "_hidden", "_model")

    def __init__(self, model: DecisionModel, decision: str) -> None:
        self._model = model
        self._decision = decision
        # A process variable that is named like a decision must not replace the decision's logic.
        self._hidden = frozenset(
            element.name for element in model.elements.values() if not isinstance(element, InputData)
        )

    def evaluate(self, variables: Mapping[str, Any], now: datetime) -> Any:
        """Return the decision's value as JSON; see `CompiledExpression.evaluate`."""
        inputs = {name: to_feel(value) for name, value in variables.items() if name not in self._hidden}
        try:
            return from_feel(self._model.evaluate(self._decision, inputs, clock=now))
        except FeelBudgetError as error:
            raise ExpressionEvaluationError(error.message) from None


class Decisions:
    """The decisions of some models by id, then by name; implements `BusinessRules`."""

    def __init__(self, models: Iterable[DecisionModel]) -> None:
        self._known: dict[str, DecisionCall] = {}
        by_name: dict[str, DecisionCall] = {}
        for model in models:
            for identifier, element in model.elements.items():
                if isinstance(element, Decision | DecisionService):
                    call = DecisionCall(model, identifier)
                    self._known.setdefault(identifier, call)
                    by_name.setdefault(element.name, call)
        for name, call in by_name.items():
            self._known.setdefault(name, call)

    def resolve(self, decision: str) -> CompiledExpression | None:
        """Return the decision with that id or name, None where no model has it."""
        return self._known.get(decision)
