"""The API of flowgrid-level3 §11.2 on real servers."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from tests.approval.office import Office
from tests.builders import Person, unique


@dataclass
class Team:
    """People of one tenant."""

    asker: Person
    ann: Person
    ben: Person
    admin: Person

    async def ask(self, **changes: Any) -> str:
        body = {"title": "Pay", "assignmentRule": {"type": "group", "value": "ops"}, **changes}
        answer = await self.asker.call("POST", "/api/approvals", body)
        assert answer.status_code == 201, answer.text
        return answer.json()["approvalId"]


@pytest.fixture
async def team(office: Office) -> Team:
    tenant = unique("tenant")
    market = office.market
    team = Team(
        asker=await market.person("uma", "user", tenant=tenant),
        ann=await market.person("ann", "approver", tenant=tenant),
        ben=await market.person("ben", "approver", tenant=tenant),
        admin=await market.person("root", "admin", tenant=tenant),
    )
    body = {"members": [team.ann.user_id, team.ben.user_id]}
    assert (await team.admin.call("PUT", "/api/approvals/groups/ops", body)).status_code == 200
    return team


async def ok(person: Person, method: str, path: str, body: Any = None, **options: Any) -> Any:
    answer = await person.call(method, path, body, **options)
    assert answer.status_code < 300, answer.text
    return answer.json()


async def code(person: Person, method: str, path: str, body: Any = None) -> tuple[int, str]:
    answer = await person.call(method, path, body)
    return answer.status_code, answer.json()["error"]["code"]


async def test_my_pending_approvals_are_listed_and_a_decision_completes_one(team: Team) -> None:
    approval = await team.ask(context={"agentOutput": {"sum": 5}})
    mine = await ok(team.ann, "GET", "/api/approvals?status=pending&assignedTo=me")
    assert (mine["total"], [each["id"] for each in mine["approvals"]]) == (1, [approval])
    details = await ok(team.ann, "GET", f"/api/approvals/{approval}")
    assert details["agentOutput"] == {"sum": 5}
    assert details["flowContext"]["instanceId"] == approval
    seen = {"action": "approve", "payloadHash": details["payloadHash"]}
    answer = await ok(team.ann, "POST", f"/api/approvals/{approval}/decide", seen)
    assert (answer["status"], answer["flowResumed"]) == ("completed", True)
    assert await ok(team.ann, "POST", f"/api/approvals/{approval}/decide", seen) == answer
    assert (await ok(team.ben, "GET", "/api/approvals?status=pending&assignedTo=me"))["total"] == 0
    late = await code(team.ben, "POST", f"/api/approvals/{approval}/decide", {"action": "approve"})
    assert late == (409, "APPROVAL_CLOSED")
    after = await ok(team.asker, "GET", f"/api/approvals/{approval}")
    assert (after["status"], after["completedBy"]) == ("approved", team.ann.user_id)
    assert after["decisions"][0]["via"] == "api"


async def test_a_stranger_sees_and_decides_nothing(team: Team, office: Office) -> None:
    approval = await team.ask()
    other = await office.market.person("eve", "approver")
    colleague = await office.market.person("cleo", "user", tenant=team.asker.tenant_id)
    for person in (other, colleague):
        assert await code(person, "GET", f"/api/approvals/{approval}") == (404, "APPROVAL_NOT_FOUND")
        path = f"/api/approvals/{approval}/decide"
        assert await code(person, "POST", path, {"action": "approve"}) == (404, "APPROVAL_NOT_FOUND")
    assert (await ok(colleague, "GET", "/api/approvals"))["total"] == 0
    path = f"/api/approvals/{approval}/decide"
    assert await code(team.asker, "POST", path, {"action": "approve"}) == (403, "APPROVAL_FOUR_EYES")


async def test_a_rejection_without_its_reason_and_a_changed_payload_are_refused(team: Team) -> None:
    approval = await team.ask()
    path = f"/api/approvals/{approval}/decide"
    assert await code(team.ann, "POST", path, {"action": "reject"}) == (400, "DECISION_REASON_REQUIRED")
    changed = {"action": "approve", "payloadHash": "0" * 64}
    assert await code(team.ann, "POST", path, changed) == (409, "PAYLOAD_CHANGED")
    assert (await ok(team.ann, "POST", path, {"action": "reject", "comment": "no"}))["result"] == "rejected"


async def test_edits_must_fit_the_form(team: Team) -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "integer", "maximum": 100}}}
    approval = await team.ask(
        type="review_edit", payload={"amount": 50}, formSchema=schema, editableFields=["amount"]
    )
    path = f"/api/approvals/{approval}/decide"
    too_much = {"action": "edit", "comment": "more", "stateUpdates": {"amount": 500}}
    assert await code(team.ann, "POST", path, too_much) == (400, "EDIT_REFUSED")
    other = {"action": "edit", "comment": "more", "stateUpdates": {"vendor": "x"}}
    assert await code(team.ann, "POST", path, other) == (400, "EDIT_REFUSED")
    fine = {"action": "edit", "comment": "less", "stateUpdates": {"amount": 20}}
    await ok(team.ann, "POST", path, fine)
    details = await ok(team.ann, "GET", f"/api/approvals/{approval}")
    assert details["stateUpdates"] == [{"op": "replace", "path": "/amount", "value": 20}]
    assert details["payload"] == {"amount": 20}


async def test_a_bulk_decision_has_a_result_per_request(team: Team) -> None:
    first, second = await asyncio.gather(team.ask(), team.ask())
    await ok(team.ben, "POST", f"/api/approvals/{second}/decide", {"action": "approve"})
    body = {"approvalIds": [first, second, "apr_" + "0" * 32], "action": "approve"}
    results = (await ok(team.ann, "POST", "/api/approvals/bulk-decide", body))["results"]
    assert [each["status"] for each in results] == ["completed", "refused", "refused"]
    assert results[1]["error"]["code"] == "APPROVAL_CLOSED"


async def test_claiming_reassigning_delegating_and_talking(team: Team) -> None:
    approval = await team.ask()
    path = f"/api/approvals/{approval}"
    await ok(team.ann, "POST", f"{path}/claim")
    assert await code(team.ben, "POST", f"{path}/decide", {"action": "approve"}) == (409, "CLAIMED_BY_OTHER")
    await ok(team.ann, "POST", f"{path}/release")
    await ok(team.ann, "POST", f"{path}/acknowledge")
    body = {"text": "Which account?", "question": True}
    await ok(team.ann, "POST", f"{path}/comments", body)
    assert (await ok(team.ann, "GET", path))["informationAwaited"]
    await ok(team.asker, "POST", f"{path}/comments", {"text": "The main one.", "answers": True})
    await ok(team.ann, "POST", f"{path}/extend", {"seconds": 60})
    answer = await ok(team.ann, "POST", f"{path}/reassign", {"assignTo": team.ben.user_id, "reason": "x"})
    assert answer == {"status": "reassigned"}
    await ok(team.ben, "POST", f"{path}/delegate", {"delegate": team.ann.user_id})
    decided = await ok(team.ann, "POST", f"{path}/decide", {"action": "approve"})
    assert decided["onBehalfOf"] == team.ben.user_id
    kinds = [remark["kind"] for remark in (await ok(team.ann, "GET", path))["remarks"]]
    assert kinds == ["change", "change", "question", "answer", "change", "change", "change"]


async def test_a_substitute_finds_decides_and_is_named(team: Team, office: Office) -> None:
    sue = await office.market.person("sue", "user", tenant=team.asker.tenant_id)
    body = {
        "substitute": sue.user_id,
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z",
    }
    absence = await ok(team.ann, "POST", "/api/approvals/absences", body)
    approval = await team.ask()
    assert (await ok(sue, "GET", "/api/approvals?status=pending&assignedTo=me"))["total"] == 1
    decided = await ok(sue, "POST", f"/api/approvals/{approval}/decide", {"action": "approve"})
    assert (decided["approver"], decided["onBehalfOf"]) == (sue.user_id, team.ann.user_id)
    await ok(team.ann, "DELETE", f"/api/approvals/absences/{absence['id']}")
    export = "/api/approvals/decisions?since=2020-01-01T00:00:00Z&until=2099-01-01T00:00:00Z"
    assert [each["approver"] for each in (await ok(team.admin, "GET", export))["decisions"]] == [sue.user_id]


async def test_evidence_is_kept_and_needed(team: Team) -> None:
    approval = await team.ask(type="manual_task", policy={"evidenceRequired": 1})
    path = f"/api/approvals/{approval}"
    assert await code(team.ann, "POST", f"{path}/decide", {"action": "approve"}) == (400, "EVIDENCE_MISSING")
    headers = {"Authorization": f"Bearer {team.ann.token}", "Content-Type": "image/jpeg"}
    sent = await team.ann.client.post(f"{path}/evidence?name=rack.jpg", content=b"photo", headers=headers)
    assert sent.status_code == 201, sent.text
    stored = await team.ann.call("GET", f"{path}/evidence/{sent.json()['id']}")
    assert stored.content == b"photo"
    await ok(team.ann, "POST", f"{path}/decide", {"action": "approve"})
    details = await ok(team.ann, "GET", path)
    assert details["decisions"][0]["evidence"][0]["sha256"] == sent.json()["sha256"]


async def test_an_unsafe_question_or_an_unknown_group_is_refused(team: Team) -> None:
    body = {"title": "x", "assignmentRule": {"type": "group", "value": "nobody"}}
    assert await code(team.asker, "POST", "/api/approvals", body) == (400, "UNKNOWN_ASSIGNEE")
    unsafe = {**body, "sla": {"responseTime": 5, "breachAction": "auto_approve"}}
    assert await code(team.asker, "POST", "/api/approvals", unsafe) == (400, "INVALID_REQUEST")


async def test_calendars_are_set_and_used(team: Team) -> None:
    definition = {"timeZone": "Asia/Kolkata", "hours": {"monday": [{"start": "09:00", "end": "17:00"}]}}
    assert (await team.ann.call("PUT", "/api/calendars/mondays", definition)).status_code == 403
    await ok(team.admin, "PUT", "/api/calendars/mondays", definition)
    nowhere = {**definition, "timeZone": "Mars/Base"}
    assert await code(team.admin, "PUT", "/api/calendars/mars", nowhere) == (400, "INVALID_CALENDAR")
    sla = {"resolutionTime": 8 * 3600, "breachAction": "auto_reject", "calendar": "mondays"}
    approval = await team.ask(sla=sla)
    details = await ok(team.ann, "GET", f"/api/approvals/{approval}")
    assert "T11:30:00" in details["dueAt"]
    await ok(team.admin, "PUT", f"/api/approvals/{approval}/calendar", {"calendar": None})
    changed = await ok(team.ann, "GET", f"/api/approvals/{approval}")
    assert changed["dueAt"] != details["dueAt"]


async def test_withdrawing_is_the_asker_s(team: Team) -> None:
    approval = await team.ask()
    path = f"/api/approvals/{approval}/cancel"
    assert await code(team.ann, "POST", path, {}) == (403, "NOT_AN_APPROVER")
    assert await ok(team.asker, "POST", path, {"reason": "done"}) == {"status": "cancelled"}


async def test_an_idempotency_key_asks_once(team: Team) -> None:
    body = {"title": "Pay", "assignmentRule": {"type": "group", "value": "ops"}}
    key = unique("key")
    first = await ok(team.asker, "POST", "/api/approvals", body, key=key)
    assert await ok(team.asker, "POST", "/api/approvals", body, key=key) == first
