from typing import Any

import pytest
from pydantic import ValidationError

from models.approval import (
    Action,
    Actor,
    ApprovalState,
    ApprovalStatus,
    Cancel,
    Comment,
    Delegate,
    Evidence,
    NoticeKind,
    Order,
    Reassign,
    Result,
    Via,
)
from models.approval_errors import (
    ActionNotPossibleError,
    AlreadyDecidedError,
    ApprovalClosedError,
    ApprovalFourEyesError,
    ClaimedByOtherError,
    DecisionReasonRequiredError,
    EditRefusedError,
    EvidenceMissingError,
    NotAnApproverError,
    PayloadChangedError,
)
from models.event import EventType
from tests.approval.asking import T0, Desk, after, spec

ANN, BEN, CARA, REQUESTER = "ann", "ben", "cara", "requester"


def quorum(need: dict[str, Any], **rest: Any) -> dict[str, Any]:
    group = {"members": {"type": "group", "value": "ops"}, "need": need}
    return {"policy": {"stages": [{"groups": [group], **rest}]}}


def test_the_first_of_a_group_decides() -> None:
    desk = Desk([ANN, BEN])
    assert desk.machine.status() is ApprovalStatus.PENDING
    answer = desk.decide(BEN, via=Via.SLACK, comment=None)
    assert (answer.closed, answer.result, answer.approver) == (True, Result.APPROVED, BEN)
    outcome = desk.machine.outcome()
    assert outcome.approved
    assert outcome.completed_by == BEN
    assert desk.records[-1].facts.status is ApprovalStatus.APPROVED
    (decision,) = desk.records[-1].decisions
    assert (decision.via, decision.payload_hash) == (Via.SLACK, desk.request.spec.content_hash())
    assert [event.type for event in desk.records[-1].events][-1] is EventType.APPROVAL_COMPLETED


def test_a_repeated_click_gets_the_first_answer_and_counts_once() -> None:
    desk = Desk([ANN, BEN], **quorum({"type": "number", "value": 2}))
    first = desk.decide(ANN, key="click")
    assert desk.decide(ANN, key="click", at=after(60)) == first
    assert desk.decisions == 1


def test_nobody_counts_twice() -> None:
    desk = Desk([ANN, BEN], **quorum({"type": "all"}))
    desk.decide(ANN)
    with pytest.raises(AlreadyDecidedError):
        desk.decide(ANN)
    # Standing in for Ben does not make Ann two people.
    with pytest.raises(AlreadyDecidedError):
        desk.decide(ANN, for_=[BEN])


def test_a_substitute_decides_with_both_names_in_the_record() -> None:
    desk = Desk([ANN, BEN], **quorum({"type": "all"}))
    answer = desk.decide("sue", for_=[ANN])
    assert (answer.approver, answer.on_behalf_of) == ("sue", ANN)
    with pytest.raises(AlreadyDecidedError):
        desk.decide(ANN)
    with pytest.raises(AlreadyDecidedError):
        desk.decide("sue", for_=[BEN])
    assert desk.decide(BEN).closed


def test_a_policy_without_delegation_takes_no_substitute() -> None:
    desk = Desk([ANN], policy={"delegation": False})
    with pytest.raises(NotAnApproverError):
        desk.decide("sue", for_=[ANN])
    order = Delegate(actor=Actor(user_id=ANN), delegate="sue")
    with pytest.raises(ActionNotPossibleError):
        desk.machine.check_delegate(order)


def test_a_delegate_decides_one_item_and_the_excluded_cannot_be_one() -> None:
    desk = Desk([ANN])
    order = Delegate(actor=Actor(user_id=ANN), delegate="dan")
    desk.machine.check_delegate(order)
    desk.machine.delegate(order, T0)
    assert desk.machine.facts().assignees == [ANN, "dan"]
    with pytest.raises(ApprovalFourEyesError):
        desk.machine.check_delegate(Delegate(actor=Actor(user_id=ANN), delegate=REQUESTER))
    with pytest.raises(NotAnApproverError):
        desk.machine.check_delegate(Delegate(actor=Actor(user_id="dan"), delegate="eve"))
    assert desk.decide("dan").on_behalf_of == ANN


def test_whoever_asks_cannot_decide_unless_the_policy_allows_it() -> None:
    desk = Desk([ANN, REQUESTER])
    with pytest.raises(ApprovalFourEyesError):
        desk.decide(REQUESTER)
    with pytest.raises(ApprovalFourEyesError):
        desk.decide(REQUESTER, for_=[ANN])
    allowed = Desk([REQUESTER], policy={"selfApproval": True})
    assert allowed.decide(REQUESTER).closed


def test_a_stranger_cannot_decide_but_a_holder_of_the_role_can() -> None:
    with pytest.raises(NotAnApproverError):
        Desk([ANN]).decide("eve")
    desk = Desk([], role="approver")
    with pytest.raises(NotAnApproverError):
        desk.decide("eve", roles=["user"])
    assert desk.decide("eve", roles=["approver"]).result is Result.APPROVED


def test_a_rejection_needs_its_reason() -> None:
    desk = Desk([ANN])
    with pytest.raises(DecisionReasonRequiredError):
        desk.decide(ANN, Action.REJECT, comment="  ")
    assert desk.decide(ANN, Action.REJECT, comment="too risky").result is Result.REJECTED


def test_a_decision_on_something_else_is_refused() -> None:
    desk = Desk([ANN])
    with pytest.raises(PayloadChangedError):
        desk.decide(ANN, seen="0" * 64)


def test_after_the_end_nothing_is_decided() -> None:
    desk = Desk([ANN, BEN])
    desk.decide(ANN)
    with pytest.raises(ApprovalClosedError) as refusal:
        desk.decide(BEN, Action.REJECT)
    assert refusal.value.details["completed_by"] == ANN


def test_a_claim_keeps_others_off_until_it_is_released() -> None:
    desk = Desk([ANN, BEN])
    claim = Order(actor=Actor(user_id=ANN))
    desk.machine.check_claim(claim)
    desk.machine.claim(claim, T0)
    assert desk.machine.status() is ApprovalStatus.IN_PROGRESS
    assert desk.machine.assigned_to() == ANN
    with pytest.raises(ClaimedByOtherError):
        desk.decide(BEN)
    with pytest.raises(ClaimedByOtherError):
        desk.machine.check_release(Order(actor=Actor(user_id=BEN)))
    desk.machine.check_release(claim)
    desk.machine.release(claim, T0)
    assert desk.decide(BEN).closed


def test_a_claim_of_what_needs_several_is_refused() -> None:
    desk = Desk([ANN, BEN], **quorum({"type": "all"}))
    with pytest.raises(ActionNotPossibleError):
        desk.machine.check_claim(Order(actor=Actor(user_id=ANN)))


def test_reassigning_lets_others_decide_and_writes_to_them() -> None:
    desk = Desk([ANN])
    order = Reassign(actor=Actor(user_id=ANN), assign_to="ben", members=[BEN], reason="on leave")
    desk.machine.check_reassign(order)
    desk.machine.reassign(order, T0)
    desk.records.append(desk.machine.take() or desk.records[0])
    assert desk.notices(NoticeKind.APPROVAL)[-1] == [BEN]
    with pytest.raises(NotAnApproverError):
        desk.decide(ANN)
    assert desk.decide(BEN).closed


def test_reassigning_to_whoever_asks_or_to_too_few_is_refused() -> None:
    desk = Desk([ANN, BEN], **quorum({"type": "number", "value": 2}))
    actor = Actor(user_id=ANN)
    with pytest.raises(ApprovalFourEyesError):
        desk.machine.check_reassign(Reassign(actor=actor, assign_to=REQUESTER, members=[REQUESTER]))
    with pytest.raises(ActionNotPossibleError):
        desk.machine.check_reassign(Reassign(actor=actor, assign_to=CARA, members=[CARA]))
    with pytest.raises(NotAnApproverError):
        desk.machine.check_reassign(Reassign(actor=Actor(user_id="eve"), assign_to=CARA, members=[CARA, ANN]))


def test_edits_are_recorded_as_json_patch_and_change_what_was_approved() -> None:
    desk = Desk(
        [ANN],
        type="review_edit",
        payload={"amount": 100, "to": {"name": "x", "city": "y"}},
        editableFields=["amount", "/to/city"],
    )
    before = desk.machine.payload_hash
    with pytest.raises(EditRefusedError):
        desk.decide(ANN, Action.EDIT, edits={"/to/name": "z"})
    with pytest.raises(EditRefusedError):
        desk.decide(ANN, Action.EDIT, edits={"/to": {"name": "z"}})
    desk.decide(ANN, Action.EDIT, edits={"amount": 90, "/to/city": "y"})
    outcome = desk.machine.outcome()
    assert outcome.payload == {"amount": 90, "to": {"name": "x", "city": "y"}}
    assert outcome.state_updates == [{"op": "replace", "path": "/amount", "value": 90}]
    assert outcome.payload_hash != before


def test_what_others_approved_is_not_edited_any_more() -> None:
    desk = Desk(
        [ANN, BEN],
        type="review_edit",
        payload={"amount": 1},
        editableFields=["amount"],
        **quorum({"type": "all"}),
    )
    desk.decide(ANN)
    with pytest.raises(ActionNotPossibleError):
        desk.decide(BEN, Action.EDIT, edits={"amount": 2})


def test_after_an_edit_the_next_one_decides_on_what_it_says_now() -> None:
    desk = Desk(
        [ANN, BEN],
        type="review_edit",
        payload={"amount": 1},
        editableFields=["amount"],
        **quorum({"type": "all"}),
    )
    old = desk.machine.payload_hash
    desk.decide(ANN, Action.EDIT, edits={"amount": 2})
    with pytest.raises(PayloadChangedError):
        desk.decide(BEN, seen=old)
    assert desk.decide(BEN).closed


def test_a_manual_task_needs_its_evidence() -> None:
    desk = Desk([ANN], type="manual_task", policy={"evidenceRequired": 1})
    with pytest.raises(EvidenceMissingError):
        desk.decide(ANN)
    photo = Evidence(evidence_id="e1", name="rack.jpg", sha256="0" * 64, size=3)
    desk.decide(ANN, evidence=[photo])
    assert desk.machine.outcome().evidence == [photo]


def test_information_is_acknowledged() -> None:
    desk = Desk([ANN], type="inform")
    with pytest.raises(ActionNotPossibleError):
        desk.decide(ANN, Action.REJECT)
    desk.acknowledge(ANN)
    assert desk.machine.outcome().completed_by == ANN


def test_a_question_goes_to_whoever_asks_and_the_answer_comes_back() -> None:
    desk = Desk([ANN])
    with pytest.raises(ActionNotPossibleError):
        desk.machine.check_comment(Comment(actor=Actor(user_id=REQUESTER), text="!", answers=True))
    desk.machine.comment_on(Comment(actor=Actor(user_id=ANN), text="Which region?", question=True), T0)
    answer = Comment(actor=Actor(user_id=REQUESTER), text="EU", answers=True)
    desk.machine.check_comment(answer)
    desk.machine.comment_on(answer, T0)
    with pytest.raises(NotAnApproverError):
        desk.machine.check_comment(Comment(actor=Actor(user_id="eve"), text="hi"))
    desk.records.append(desk.machine.take() or desk.records[0])
    assert desk.notices(NoticeKind.QUESTION) == [[REQUESTER], [ANN]]


def test_only_whoever_asks_or_manages_withdraws_it() -> None:
    desk = Desk([ANN])
    with pytest.raises(NotAnApproverError):
        desk.machine.check_cancel(Cancel(actor=Actor(user_id=ANN)))
    order = Cancel(actor=Actor(user_id=REQUESTER), superseded=True)
    desk.machine.check_cancel(order)
    desk.machine.cancel(order, T0)
    assert desk.machine.state is ApprovalState.SUPERSEDED
    assert desk.machine.status() is ApprovalStatus.CANCELLED


def test_one_of_each_group_is_needed_and_one_person_serves_one_group() -> None:
    groups = [{"members": {"type": "group", "value": name}} for name in ("security", "ops")]
    desk = Desk([[[ANN, BEN], [ANN]]], policy={"stages": [{"groups": groups}]})
    assert not desk.decide(ANN).closed
    assert desk.decide(BEN).result is Result.APPROVED
    # Ann alone is in both groups: with distinct people the two can never come together.
    assert Desk([[[ANN], [ANN]]], policy={"stages": [{"groups": groups}]}).machine.closed
    shared = Desk([[[ANN], [ANN]]], policy={"stages": [{"groups": groups}], "distinct": False})
    assert shared.decide(ANN).closed


def test_stages_follow_one_another_and_nobody_counts_in_two() -> None:
    stage = {"groups": [{"members": {"type": "group", "value": "x"}}]}
    desk = Desk([[[ANN, BEN]], [[ANN, CARA]]], policy={"stages": [stage, stage]})
    assert not desk.decide(ANN).closed
    assert desk.machine.facts().assignees == [CARA]
    with pytest.raises(AlreadyDecidedError):
        desk.decide(ANN)
    assert desk.decide(CARA).result is Result.APPROVED


def test_rejections_have_a_rule_of_their_own() -> None:
    two = Desk([ANN, BEN, CARA], **quorum({"value": 1}, rejection={"type": "number", "value": 2}))
    assert not two.decide(ANN, Action.REJECT).closed
    assert two.decide(BEN, Action.REJECT).result is Result.REJECTED
    none = Desk([ANN, BEN], **quorum({"value": 1}, rejection={"type": "none"}))
    none.decide(ANN, Action.REJECT)
    assert none.decide(BEN).result is Result.APPROVED


def test_a_quorum_that_became_impossible_ends_the_request_at_once() -> None:
    desk = Desk([ANN, BEN, CARA], **quorum({"value": 3}, rejection={"type": "none"}))
    desk.decide(ANN)
    assert desk.decide(BEN, Action.REJECT).result is Result.REJECTED
    late = quorum({"value": 3}, rejection={"type": "none"})
    late["policy"]["endEarly"] = False
    patient = Desk([ANN, BEN, CARA], **late)
    assert not patient.decide(BEN, Action.REJECT).closed


def test_a_request_that_nobody_could_grant_ends_or_escalates_at_once() -> None:
    alone = Desk([REQUESTER])
    assert alone.machine.outcome().result is Result.REJECTED
    level = {"level": 1, "afterSeconds": 60, "assignTo": "boss"}
    desk = Desk([REQUESTER], levels=[["boss"]], escalation={"levels": [level]})
    assert desk.times(EventType.APPROVAL_ESCALATED) == [0.0]
    assert desk.decide("boss").closed


@pytest.mark.parametrize(
    "changes",
    [
        {"sla": {"responseTime": 1, "breachAction": "auto_approve"}},
        {"escalation": {"finalAction": "auto_approve"}, "risk": "high"},
        {"policy": {"default": "approve", "expireAfter": 5}},
        {"type": "veto"},
        {
            "type": "veto",
            "policy": {"vetoWindow": 5},
            "risk": "low",
            "escalation": {"finalAction": "auto_approve"},
        },
        {"policy": {"vetoWindow": 5}},
        {"editableFields": ["a"]},
        {"policy": {"evidenceRequired": 1}},
        {"channels": []},
    ],
)
def test_an_unsafe_or_pointless_request_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**changes)
