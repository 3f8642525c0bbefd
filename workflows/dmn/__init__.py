"""DMN decision models, executable and pure: parse at deployment, evaluate inside a workflow.

`parse_decision_model` compiles a file, `DecisionModel.evaluate` runs one of its decisions; both rest
on `workflows.feel`, share its budgets, and know no I/O and no clock. `docs/feel.md` tells more.
"""

from workflows.dmn.errors import DecisionModelError
from workflows.dmn.model import DecisionModel
from workflows.dmn.parser import parse_decision_model

__all__ = ["DecisionModel", "DecisionModelError", "parse_decision_model"]
