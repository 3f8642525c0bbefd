"""What may be done to a running instance: the arguments of the workflow's updates."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Wish(BaseModel):
    """Who wants it, and why."""

    requested_by: str
    reason: str = Field(default="", max_length=500)


class CompleteTask(Wish):
    """Complete what waits: by key of its element instance, or by its BPMN identifier."""

    task_id: str
    key: int | None = None
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    error_code: str | None = None


class SetVariables(Wish):
    """Set variables at the top or in the scope of an element instance."""

    variables: dict[str, Any]
    scope: int | None = None
    expected_version: int | None = None


class TokenChange(BaseModel):
    """One change of the token distribution (see `workflows.bpmn.inputs.Modification`)."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["start_before", "cancel", "move"]
    element: str | None = None
    key: int | None = None
    scope: int | None = None


class ModifyTokens(Wish):
    """Place, cancel and move tokens; all changes or none."""

    changes: list[TokenChange] = Field(max_length=100)
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])


class RestartFrom(Wish):
    """Cancel everything that is active and put one token before an element."""

    element: str
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])


class ResolveProblem(Wish):
    """Deal with an incident."""

    key: int
    action: Literal["retry", "skip"] = "retry"
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    flow: str | None = None


class MigrateInstance(Wish):
    """Move the instance to another version of its definition."""

    definition_id: str
    content_hash: str
    elements: dict[str, str] = Field(default_factory=dict[str, str])
    flows: dict[str, str] = Field(default_factory=dict[str, str])
    drop: list[str] = Field(default_factory=list[str])


class ActivateTools(Wish):
    """Activate inner elements of an ad-hoc sub-process, or end it."""

    key: int
    elements: list[str] = Field(default_factory=list[str], max_length=100)
    complete: bool = False
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])


Operation = (
    CompleteTask
    | SetVariables
    | ModifyTokens
    | RestartFrom
    | ResolveProblem
    | MigrateInstance
    | ActivateTools
)

OPERATIONS: dict[str, type[Operation]] = {
    "complete_task": CompleteTask,
    "set_variables": SetVariables,
    "modify": ModifyTokens,
    "restart_from": RestartFrom,
    "resolve_incident": ResolveProblem,
    "migrate": MigrateInstance,
    "activate_elements": ActivateTools,
}
"""Operations by the name of their update; these can also be tried without being done."""


class DryRun(BaseModel):
    """An operation that is only tried."""

    name: str
    arguments: dict[str, Any]


class Refusal(BaseModel):
    """Why an operation that was tried would be refused."""

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict[str, Any])


class OperationOutcome(BaseModel):
    """What an operation did, or in a dry run would do."""

    status: str
    refused: Refusal | None = None
    trace: list[str] = Field(default_factory=list[str])
    """What happened, in order: ``completed approve``, ``started pay``, ….."""
    state_version: int = 0


class ElementView(BaseModel):
    """A living element instance."""

    key: int
    element: str
    parent: int
    role: str
    variables: dict[str, Any] | None = None
    waiting: list[str] = Field(default_factory=list[str])
    incident: str | None = None


class InstanceView(BaseModel):
    """The living state of an instance."""

    status: str
    variables: dict[str, Any]
    state_version: int
    elements: list[ElementView]
    joins: dict[str, dict[str, int]] = Field(default_factory=dict[str, dict[str, int]])
    """Tokens that wait before joins, per flow."""
