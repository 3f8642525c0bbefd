"""Approvals by e-mail: opening a link changes nothing, sending its form decides once."""

import email
import email.policy
import re
from email.message import EmailMessage

from activities.channels.email import mailbox_directory
from tests.approval.office import Office
from tests.approval.test_approval_api import ok
from tests.builders import unique
from tests.eventually import eventually


async def test_a_link_shows_as_often_as_it_is_opened_and_its_form_decides_once(office: Office) -> None:
    tenant, name = unique("tenant"), unique("ann")
    asker = await office.market.person("uma", "user", tenant=tenant)
    ann = await office.market.person(name, "user", tenant=tenant)
    await ok(ann, "GET", "/api/approvals")
    body = {
        "title": "Pay <b>now</b>",
        "assignmentRule": {"type": "user", "value": ann.user_id},
        "channels": ["email"],
    }
    approval = (await ok(asker, "POST", "/api/approvals", body))["approvalId"]

    async def letter() -> str | None:
        for path in mailbox_directory(office.services.settings).glob("*.eml"):
            found = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            assert isinstance(found, EmailMessage)
            text = found.get_body(("plain",))
            if found["To"] == f"{name}@example.com" and text is not None:
                return text.get_content()
        return None

    link = re.search(r"/approvals/links/[A-Za-z0-9_=\n-]+", await eventually(letter))
    assert link is not None
    path = link.group().replace("=\n", "").split("\n")[0]
    page = await ann.client.get(path)
    for _ in range(100):
        page = await ann.client.get(path)
        assert page.status_code == 200
    for method in ("HEAD", "OPTIONS"):
        await ann.client.request(method, path)
    assert "&lt;b&gt;" in page.text
    assert page.headers["cache-control"] == "no-store"
    before = await ok(asker, "GET", f"/api/approvals/{approval}")
    assert (before["state"], before["decisions"], before["acknowledgedAt"]) == ("open", [], None)
    nonce = re.search(r"name='nonce' value='([^']+)'", page.text)
    assert nonce is not None
    form = {"action": "approve", "nonce": nonce.group(1), "comment": ""}
    assert (await ann.client.post(path, data={**form, "nonce": "x" * 60})).status_code == 400
    refused = await ann.client.post(path, data={**form, "action": "reject"})
    assert "needs a reason" in refused.text
    first = await ann.client.post(path, data=form)
    again = await ann.client.post(path, data=form)
    assert (first.status_code, again.status_code) == (200, 200)
    after = await ok(asker, "GET", f"/api/approvals/{approval}")
    assert (after["result"], len(after["decisions"])) == ("approved", 1)
    decision = after["decisions"][0]
    assert (decision["via"], decision["channelUserId"]) == ("email", f"{name}@example.com")
    assert "Approved by" in (await ann.client.get(path)).text
    assert (await ann.client.get(path[:-6] + "AAAAAA")).status_code == 400
