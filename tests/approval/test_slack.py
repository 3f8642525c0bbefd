"""Approvals in Slack, against a server that speaks Slack's Web API."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import pytest

from activities.channels.slack_blocks import cut, escape
from activities.records.approval_deliveries import deliveries_of
from models.approval_policy import Channel
from models.channel import DeliveryRow, DeliveryStatus
from tests.approval.fake_slack import SECRET, TEAM, FakeSlack, click, reason, send, signed
from tests.approval.office import Office
from tests.approval.test_approval_api import code, ok
from tests.builders import Person, unique
from tests.eventually import eventually


@dataclass
class Workspace:
    """A tenant with Slack."""

    office: Office
    slack: FakeSlack
    path: str
    asker: Person
    ann: Person
    ann_in_slack: str
    ann_email: str

    async def ask(self, **changes: Any) -> str:
        body = {
            "title": "Pay <!channel> & go",
            "description": "x" * 5000,
            "assignmentRule": {"type": "user", "value": self.ann.user_id},
            "channels": ["slack", "email"],
            **changes,
        }
        return (await ok(self.asker, "POST", "/api/approvals", body))["approvalId"]

    async def message(self, approval: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            found = self.slack.posted(approval)
            return found[0] if found else None

        return await eventually(look, timeout=8)

    async def receipts(self, approval: str) -> list[DeliveryRow]:
        async with self.office.services.database.tenant(self.ann.tenant_id) as connection:
            return await deliveries_of(connection, approval)

    async def receipt(self, approval: str, channel: Channel, status: DeliveryStatus) -> DeliveryRow:
        async def look() -> DeliveryRow | None:
            rows = await self.receipts(approval)
            return next((row for row in rows if (row.channel, row.status) == (channel, status)), None)

        return await eventually(look, timeout=8)

    async def closed(self, approval: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            details = await ok(self.asker, "GET", f"/api/approvals/{approval}")
            return details if details["state"] != "open" else None

        return await eventually(look, timeout=8)

    async def finished(self, approval: str) -> list[dict[str, Any]]:
        """Wait until every message that was sent has its final form."""

        async def look() -> list[dict[str, Any]] | None:
            rows = [row for row in await self.receipts(approval) if row.channel is Channel.SLACK]
            if not rows or any(row.refresh or row.status is DeliveryStatus.QUEUED for row in rows):
                return None
            return [self.slack.updated((row.external_id or "").partition(":")[2])[-1] for row in rows]

        return await eventually(look, timeout=8)


def value_of(message: dict[str, Any]) -> str:
    (actions,) = (block for block in message["blocks"] if block["type"] == "actions")
    return actions["elements"][0]["value"]


async def signed_in(office: Office, name: str, tenant: str) -> Person:
    """Somebody whose address is known, because they were here."""
    person = await office.market.person(name, "approver", tenant=tenant)
    await ok(person, "GET", "/api/approvals")
    return person


@pytest.fixture
async def workspace(office: Office, slack: FakeSlack) -> Workspace:
    tenant, name = unique("tenant"), unique("ann")
    market = office.market
    admin = await market.person("root", "admin", tenant=tenant)
    body = {"botToken": "xoxb-1", "signingSecret": SECRET, "teamId": TEAM}
    channel = await ok(admin, "PUT", "/api/channels/slack", body)
    email = f"{name}@example.com"
    ann = await signed_in(office, name, tenant)
    return Workspace(
        office=office,
        slack=slack,
        path="/" + channel["callbackUrl"].split("/", 3)[3],
        asker=await market.person("uma", "user", tenant=tenant),
        ann=ann,
        ann_in_slack=slack.user(email),
        ann_email=email,
    )


async def test_a_click_in_slack_decides_and_every_message_ends_in_its_final_form(
    workspace: Workspace,
) -> None:
    approval = await workspace.ask()
    message = await workspace.message(approval)
    assert message["channel"] == workspace.ann_in_slack
    assert "<!channel>" not in json.dumps(message["blocks"][1:])
    assert len(message["blocks"][1]["text"]["text"]) <= 3000
    payload = click(workspace.ann_in_slack, "approve", value_of(message))
    answers = await asyncio.gather(*(send(workspace.ann.client, workspace.path, payload) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    details = await workspace.closed(approval)
    assert (details["completedBy"], len(details["decisions"])) == (workspace.ann.user_id, 1)
    decision = details["decisions"][0]
    assert (decision["via"], decision["channelUserId"]) == ("slack", f"{TEAM}:{workspace.ann_in_slack}")
    (final,) = await workspace.finished(approval)
    assert all(block["type"] != "actions" for block in final["blocks"])
    assert (await workspace.receipts(approval))[0].status is DeliveryStatus.ACTED
    # The e-mail was only for the case that nobody answered.
    assert (await workspace.receipts(approval))[1].status is DeliveryStatus.SUPERSEDED


async def test_a_rejection_asks_for_its_reason_in_a_window(workspace: Workspace) -> None:
    approval = await workspace.ask()
    value = value_of(await workspace.message(approval))
    before = len(workspace.slack.calls["views.open"])
    clicked = await send(workspace.ann.client, workspace.path, click(workspace.ann_in_slack, "reject", value))
    assert clicked.status_code == 200
    view = workspace.slack.calls["views.open"][before]["view"]
    view = json.loads(view) if isinstance(view, str) else view
    assert len(view["title"]["text"]) <= 24
    empty = await send(workspace.ann.client, workspace.path, reason(workspace.ann_in_slack, value, "  "))
    assert empty.json()["response_action"] == "errors"
    sent = await send(workspace.ann.client, workspace.path, reason(workspace.ann_in_slack, value, "too dear"))
    assert (sent.status_code, sent.content) == (200, b"")
    details = await workspace.closed(approval)
    assert (details["result"], details["decisions"][0]["reason"]) == ("rejected", "too dear")


async def test_a_decision_elsewhere_and_one_after_the_end_leave_one_decision(workspace: Workspace) -> None:
    approval = await workspace.ask()
    value = value_of(await workspace.message(approval))
    await ok(workspace.ann, "POST", f"/api/approvals/{approval}/decide", {"action": "approve"})
    (final,) = await workspace.finished(approval)
    assert "Approved" in json.dumps(final["blocks"])
    late = await send(workspace.ann.client, workspace.path, click(workspace.ann_in_slack, "approve", value))
    assert late.status_code == 200

    async def whispered() -> bool:
        return any("nothing more" in call["text"] for call in workspace.slack.calls["chat.postEphemeral"])

    await eventually(whispered)
    assert len((await ok(workspace.ann, "GET", f"/api/approvals/{approval}"))["decisions"]) == 1


async def test_somebody_unknown_and_somebody_not_asked_decide_nothing(workspace: Workspace) -> None:
    approval = await workspace.ask()
    value = value_of(await workspace.message(approval))
    name = unique("bob")
    await signed_in(workspace.office, name, workspace.ann.tenant_id)
    known = workspace.slack.user(f"{name}@example.com")
    unknown = workspace.slack.user(f"{unique('eve')}@example.org")
    before = len(workspace.slack.calls["chat.postEphemeral"])
    for user in (unknown, known):
        answer = await send(workspace.ann.client, workspace.path, click(user, "approve", value))
        assert answer.status_code == 200

    async def told() -> bool:
        return len(workspace.slack.calls["chat.postEphemeral"]) >= before + 2

    await eventually(told)
    assert (await ok(workspace.ann, "GET", f"/api/approvals/{approval}"))["state"] == "open"


async def test_a_limit_is_waited_for_and_who_is_not_in_slack_gets_an_email(workspace: Workspace) -> None:
    limited = {"ok": False, "error": "ratelimited"}
    workspace.slack.fail_next("chat.postMessage", 429, limited, **{"Retry-After": "1"})
    approval = await workspace.ask()
    row = await workspace.receipt(approval, Channel.SLACK, DeliveryStatus.SENT)
    assert row.sent_at is not None
    assert (row.sent_at - row.created_at).total_seconds() >= 1
    del workspace.slack.emails[workspace.ann_email]
    fresh = await signed_in(workspace.office, unique("new"), workspace.ann.tenant_id)
    second = await workspace.ask(assignmentRule={"type": "user", "value": fresh.user_id})
    failed = await workspace.receipt(second, Channel.SLACK, DeliveryStatus.FAILED)
    assert "does not know" in (failed.error or "")
    assert (await workspace.receipt(second, Channel.EMAIL, DeliveryStatus.SENT)).place == 1


async def test_nobody_answering_lets_the_next_channel_go(workspace: Workspace) -> None:
    approval = await workspace.ask(sla={"fallbackAfter": 1})
    await workspace.receipt(approval, Channel.SLACK, DeliveryStatus.SENT)
    assert await workspace.receipt(approval, Channel.EMAIL, DeliveryStatus.SENT)


async def test_what_is_critical_goes_out_everywhere_at_once(workspace: Workspace) -> None:
    approval = await workspace.ask(priority="critical")
    slack, email = await workspace.receipts(approval)
    assert slack.created_at - slack.due_at == email.created_at - email.due_at or slack.due_at == email.due_at


@pytest.mark.parametrize("body", ["not json", "", "upstream failed"])
async def test_a_broken_answer_of_slack_is_tried_again(workspace: Workspace, body: str) -> None:
    workspace.slack.fail_next("chat.postMessage", 502, body)
    approval = await workspace.ask()
    assert await workspace.receipt(approval, Channel.SLACK, DeliveryStatus.SENT)


async def test_only_slack_s_own_signature_is_taken(workspace: Workspace) -> None:
    payload = click("U1", "approve", "apr_" + "0" * 32 + "." + "0" * 64)
    body, headers = signed(payload)
    now = int(time.time())
    hostile: list[dict[str, str]] = [
        {},
        {"X-Slack-Signature": headers["X-Slack-Signature"]},
        {**headers, "X-Slack-Request-Timestamp": "now"},
        {**headers, "X-Slack-Request-Timestamp": "1e9"},
        {**headers, "X-Slack-Request-Timestamp": "9" * 400},
        {**headers, "X-Slack-Request-Timestamp": str(now - 400)},
        {**headers, "X-Slack-Request-Timestamp": str(now + 400)},
        {**headers, "X-Slack-Signature": "v0=" + "0" * 64},
        {**headers, "X-Slack-Signature": "v0="},
        {**headers, "X-Slack-Signature": "v1" + headers["X-Slack-Signature"][2:]},
        signed(payload, secret="another-secret")[1],
        signed(payload, at=now - 301)[1],
    ]
    for each in hostile:
        answer = await workspace.ann.client.post(workspace.path, content=body, headers=each)
        assert answer.status_code == 401, each
    odd = {**headers, "X-Slack-Signature": "v0=é"}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in odd.items()]
    assert (await workspace.ann.client.post(workspace.path, content=body, headers=raw)).status_code == 401
    tampered = body.replace(b"approve", b"reject_")
    answer = await workspace.ann.client.post(workspace.path, content=tampered, headers=headers)
    assert answer.status_code == 401
    binary = await workspace.ann.client.post(workspace.path, content=b"\xff\xfe", headers=headers)
    assert binary.status_code == 401
    elsewhere = "/webhooks/slack/chan_" + "0" * 32
    assert (await workspace.ann.client.post(elsewhere, content=body, headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "payload",
    [
        "not json",
        "[]",
        "{}",
        {"type": "block_actions"},
        click("U1", "approve", "nonsense"),
        click("U1", "explode", "apr_" + "0" * 32 + "." + "0" * 64),
        click("U1", "approve", "apr_" + "0" * 32 + "." + "0" * 64, team={"id": "T2"}),
        click("U1", "approve", "apr_" + "0" * 32 + "." + "0" * 64, actions="x"),
        {**reason("U1", "x", "y"), "view": {"id": "V", "callback_id": "other"}},
    ],
)
async def test_a_signed_but_malformed_callback_is_a_bad_request(workspace: Workspace, payload: Any) -> None:
    assert (await send(workspace.ann.client, workspace.path, payload)).status_code == 400


async def test_a_wrong_signing_secret_or_a_stranger_sets_nothing_up(workspace: Workspace) -> None:
    body = {"botToken": "xoxb-1", "signingSecret": SECRET, "teamId": TEAM}
    assert await code(workspace.ann, "PUT", "/api/channels/slack", body) == (403, "NOT_A_MANAGER")


def test_nothing_of_a_value_has_a_meaning_for_slack() -> None:
    assert escape("<!channel> & <@U1>") == "&lt;!channel&gt; &amp; &lt;@U1&gt;"
    assert cut("a&lt;b", 4) == "a…"
    assert len(cut("&amp;" * 1000, 3000)) <= 3000
