"""Typed refusals of operations on an instance."""

from models.errors import ConflictError


class StepRefusedError(ConflictError):
    """An operation cannot happen to the instance as it is; nothing has changed."""

    code = "BPMN_OPERATION_REFUSED"

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
