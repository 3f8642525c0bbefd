"""Executable graphs by their hash, shared by all instances in a worker process.

A graph is immutable and follows from its source alone, so it may be made anew at any time.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from activities.definition_sources import SOURCES
from workflows.bpmn.deployment import load
from workflows.bpmn.expression import CompiledExpression, ExpressionEvaluationError
from workflows.bpmn.graph import Graph
from workflows.bpmn.languages import standard_languages
from workflows.dmn import DecisionModel, DecisionModelError, parse_decision_model
from workflows.feel import FeelBudgetError, from_feel, to_feel

MAX_GRAPHS = 200

_graphs: OrderedDict[str, Graph] = OrderedDict()
_lock = threading.Lock()


class DecisionExpression:
    """A decision as an expression: the visible variables are its inputs."""

    def __init__(self, model: DecisionModel, decision: str) -> None:
        self._model = model
        self._decision = decision

    def evaluate(self, variables: Mapping[str, Any], now: datetime) -> Any:
        """Return the decision's value as JSON.

        Raises:
            ExpressionEvaluationError: It has none.
        """
        inputs = {name: to_feel(value) for name, value in variables.items()}
        try:
            return from_feel(self._model.evaluate(self._decision, inputs, clock=now))
        except (DecisionModelError, FeelBudgetError) as error:
            raise ExpressionEvaluationError(error.message) from None


class DecisionModels:
    """The decisions that a deployment brings (see `workflows.bpmn.expression.BusinessRules`)."""

    def __init__(self, files: Iterable[bytes]) -> None:
        """Parse DMN files.

        Raises:
            DecisionModelError: One of them is not executable.
        """
        self._models = [parse_decision_model(data) for data in files]

    def resolve(self, decision: str) -> CompiledExpression | None:
        """Return the decision with that id or name, from the first file that has it."""
        for model in self._models:
            try:
                model.find(decision)
            except DecisionModelError:
                continue
            return DecisionExpression(model, decision)
        return None


def graph_of(content_hash: str) -> Graph:
    """Return the graph of a deployed definition.

    Raises:
        DefinitionUnreadableError: There is none, or the store did not answer in time.
    """
    with _lock:
        found = _graphs.get(content_hash)
        if found is not None:
            _graphs.move_to_end(content_hash)
            return found
    source = SOURCES.get(content_hash)
    graph = load(source.canonical, standard_languages(DecisionModels(source.decisions)))
    keep_graph(content_hash, graph)
    return graph


def keep_graph(content_hash: str, graph: Graph) -> None:
    """Make a graph known; a conformance runner brings graphs in languages of its own."""
    with _lock:
        _graphs[content_hash] = graph
        while len(_graphs) > MAX_GRAPHS:
            _graphs.popitem(last=False)
