"""Every way an approval says no."""

from collections.abc import Iterable

from models.approval import Action, ApprovalState, Result
from models.errors import ConflictError, InvalidRequestError, NotFoundError, PermissionDeniedError


class ApprovalNotFoundError(NotFoundError):
    """There is no such approval, or the caller may not see it."""

    code = "APPROVAL_NOT_FOUND"

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"There is no approval {approval_id}.", details={"approval_id": approval_id})


class ApprovalClosedError(ConflictError):
    """The request was closed before."""

    code = "APPROVAL_CLOSED"

    def __init__(
        self, approval_id: str, state: ApprovalState | str, result: Result | str | None, by: str | None
    ) -> None:
        whom = f" by {by}" if by else ""
        what = f"{state}" if result is None or result == state else f"{state} ({result})"
        super().__init__(
            f"Approval {approval_id} is {what}{whom}; nothing more can be decided.",
            details={"approval_id": approval_id, "state": state, "result": result, "completed_by": by},
        )


class NotAnApproverError(PermissionDeniedError):
    """The person is not among those who are asked."""

    code = "NOT_AN_APPROVER"

    def __init__(self, approval_id: str) -> None:
        super().__init__(
            f"Approval {approval_id} does not ask you. One of those it asks can delegate it to you, "
            "or it can be reassigned.",
            details={"approval_id": approval_id},
        )


class ApprovalFourEyesError(PermissionDeniedError):
    """Whoever asks, or is excluded otherwise, cannot decide."""

    code = "APPROVAL_FOUR_EYES"

    def __init__(self, approval_id: str) -> None:
        super().__init__(
            f"Approval {approval_id} needs somebody else: you asked for it, or are excluded from it.",
            details={"approval_id": approval_id},
        )


class AlreadyDecidedError(ConflictError):
    """The person, or the one they stand in for, has decided already."""

    code = "ALREADY_DECIDED"

    def __init__(self, approval_id: str) -> None:
        super().__init__(
            f"You, or the one you stand in for, have decided on approval {approval_id} already; "
            "each person counts once.",
            details={"approval_id": approval_id},
        )


class PayloadChangedError(ConflictError):
    """What the person saw is not what is asked now."""

    code = "PAYLOAD_CHANGED"

    def __init__(self, approval_id: str, seen: str, present: str) -> None:
        super().__init__(
            f"Approval {approval_id} has changed since you saw it. Read it again and decide on "
            "what it says now.",
            details={"approval_id": approval_id, "seen": seen, "present": present},
        )


class DecisionReasonRequiredError(InvalidRequestError):
    """The policy wants a reason with this decision."""

    code = "DECISION_REASON_REQUIRED"

    def __init__(self, action: Action) -> None:
        remedy = "Say why in `comment`."
        super().__init__(
            f"To {action} needs a reason. {remedy}",
            details={
                "fields": [
                    {"field": "body.comment", "rule": "required", "message": "a reason", "remedy": remedy}
                ]
            },
        )


class ActionNotPossibleError(InvalidRequestError):
    """The approval's type or standing does not know this action."""

    code = "ACTION_NOT_POSSIBLE"

    def __init__(self, approval_id: str, action: str, why: str) -> None:
        super().__init__(
            f"Approval {approval_id} cannot {action}: {why}.",
            details={"approval_id": approval_id, "action": action, "reason": why},
        )


class EditRefusedError(InvalidRequestError):
    """An edit touches what may not be edited, or leaves what the form does not allow."""

    code = "EDIT_REFUSED"

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        """Word the refusal.

        Args:
            fields: Pairs of field and what is wrong with it.
        """
        listed = [
            {
                "field": f"body.stateUpdates.{name}",
                "rule": "editable",
                "message": message,
                "remedy": "Change it.",
            }
            for name, message in fields
        ]
        shown = "; ".join(f"{entry['field']}: {entry['message']}" for entry in listed[:3])
        super().__init__(f"The edits cannot be taken: {shown}.", details={"fields": listed[:50]})


class ClaimedByOtherError(ConflictError):
    """Somebody else has claimed the request."""

    code = "CLAIMED_BY_OTHER"

    def __init__(self, approval_id: str, claimed_by: str) -> None:
        super().__init__(
            f"Approval {approval_id} is claimed by {claimed_by}. They can release it, or it can be "
            "reassigned.",
            details={"approval_id": approval_id, "claimed_by": claimed_by},
        )


class EvidenceMissingError(InvalidRequestError):
    """A manual task lacks its evidence, or names some that is not the request's."""

    code = "EVIDENCE_MISSING"

    def __init__(self, needed: int, given: int) -> None:
        remedy = "Upload it first: POST /api/approvals/{approvalId}/evidence."
        super().__init__(
            f"The task needs {needed} attachment(s) as evidence; {given} came with it. {remedy}",
            details={"needed": needed, "given": given},
        )


class UnknownAssigneeError(InvalidRequestError):
    """Nobody is behind the group or person named."""

    code = "UNKNOWN_ASSIGNEE"

    def __init__(self, name: str, field: str = "body.assignTo") -> None:
        remedy = (
            "Name a group (PUT /api/approvals/groups/{name}) with members, or a person who has signed in."
        )
        super().__init__(
            f"{name} is no group with members and nobody who has signed in. {remedy}",
            details={
                "fields": [
                    {"field": field, "rule": "known", "message": f"{name} is not known", "remedy": remedy}
                ]
            },
        )


class InvalidApprovalError(InvalidRequestError):
    """The request for an approval breaks a rule of its kind."""

    code = "INVALID_APPROVAL"

    def __init__(self, field: str, rule: str, remedy: str) -> None:
        super().__init__(
            f"The approval cannot be asked for: {field}: {rule}. {remedy}",
            details={"fields": [{"field": field, "rule": "approval", "message": rule, "remedy": remedy}]},
        )
