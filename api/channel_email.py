"""The page behind an e-mail's link: opening it shows, sending its form decides (research §2.3)."""

import html
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path
from starlette.responses import HTMLResponse
from temporalio.client import WorkflowUpdateFailedError

from activities import approval_commands as commands
from activities.channels.links import Link, check_nonce, page_nonce, unseal
from activities.channels.slack_blocks import ending
from activities.records.approval import find_approval
from activities.temporal.failures import refusal_of
from api.envelope import errors
from api.state import Services, ServicesDep
from models.approval import Action, ApprovalState, ApprovalType, Via
from models.approval_errors import ApprovalNotFoundError
from models.approval_policy import Policy
from models.approval_records import ApprovalRow
from models.channel import InvalidLinkError
from models.errors import PlatformError

router = APIRouter(prefix="/approvals/links", tags=["channels"])

HEADERS = {
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
}

# Said here, not by a response class, which would make HTML of the errors' description, too.
PAGE: dict[int | str, dict[str, Any]] = {200: {"description": "The page.", "content": {"text/html": {}}}}

_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:42rem;margin:2rem auto;padding:0 1rem}"
    "th{text-align:left;vertical-align:top;padding-right:1rem}textarea{width:100%}"
    ".no{color:#a00}.yes{color:#060}"
)

Token = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{40,3000}$")]

_LABELS: dict[ApprovalType, tuple[tuple[Action, str], ...]] = {
    ApprovalType.APPROVE_REJECT: ((Action.APPROVE, "Approve"), (Action.REJECT, "Reject")),
    ApprovalType.REVIEW_EDIT: ((Action.APPROVE, "Approve as it is"), (Action.REJECT, "Reject")),
    ApprovalType.INFORM: ((Action.APPROVE, "I have read it"),),
    ApprovalType.MANUAL_TASK: ((Action.REJECT, "It cannot be done"),),
    ApprovalType.VETO: ((Action.REJECT, "Veto"), (Action.APPROVE, "Let it go on now")),
}


async def _asked(services: Services, token: str) -> tuple[Link, ApprovalRow]:
    link = unseal(services.key_ring, token)
    async with services.database.tenant(link.tenant_id) as connection:
        return link, await find_approval(connection, link.approval_id)


@router.get(
    "/{token}",
    operation_id="show_approval_link",
    response_model=None,
    responses=PAGE | errors(InvalidLinkError, ApprovalNotFoundError),
)
async def show(token: Token, services: ServicesDep) -> HTMLResponse:
    """Show what is asked; changes nothing, however often."""
    link, row = await _asked(services, token)
    return _page(row, _form(services, token, link, row))


@router.post(
    "/{token}",
    operation_id="decide_by_approval_link",
    response_model=None,
    responses=PAGE | errors(InvalidLinkError, ApprovalNotFoundError),
)
async def decide(
    token: Token,
    services: ServicesDep,
    action: Annotated[Action, Form()],
    nonce: Annotated[str, Form(max_length=1000)],
    comment: Annotated[str, Form(max_length=4_000)] = "",
) -> HTMLResponse:
    """Decide as the e-mail's recipient; the same again gets the first answer."""
    link, row = await _asked(services, token)
    check_nonce(services.key_ring, token, nonce)
    if not Policy.model_validate(row.policy).email_decisions:
        return _page(row, _form(services, token, link, row))
    actor = await commands.actor_for(
        services.database, link.tenant_id, link.recipient, via=Via.EMAIL, channel_user_id=link.email
    )
    try:
        await commands.decide(
            services.temporal,
            services.database,
            row,
            actor,
            action,
            key=f"email:{link.delivery_id}:{action}",
            comment=comment.replace("\0", "") or None,
            payload_hash=link.payload_hash,
        )
    except (PlatformError, WorkflowUpdateFailedError) as error:
        if isinstance(error, PlatformError) and error.http_status >= 500:
            raise
        refusal = error if isinstance(error, PlatformError) else refusal_of(error)
        if refusal is None:
            raise
        _, row = await _asked(services, token)
        told = f"<p class='no'>{html.escape(refusal.message)}</p>"
        return _page(row, told + _form(services, token, link, row))
    _, row = await _asked(services, token)
    return _page(row, "<p class='yes'>Your answer is recorded.</p>")


def _form(services: Services, token: str, link: Link, row: ApprovalRow) -> str:
    if row.state is not ApprovalState.OPEN:
        return ""
    console = f"{services.settings.public_url.rstrip('/')}/console/approvals/{row.id}"
    more = f"<p><a href='{html.escape(console, quote=True)}'>Open it in Switchyard</a></p>"
    if not Policy.model_validate(row.policy).email_decisions:
        return more
    if row.payload_hash != link.payload_hash:
        return "<p class='no'>It has changed since this e-mail was written. Open the newest one.</p>" + more
    nonce = page_nonce(services.key_ring, token)
    buttons = "".join(
        f"<button name='action' value='{action}'>{label}</button> " for action, label in _LABELS[row.type]
    )
    return (
        "<form method='post'><label>Remark (needed to reject)<br>"
        f"<textarea name='comment' rows='4' maxlength='4000'></textarea></label>"
        f"<input type='hidden' name='nonce' value='{nonce}'><p>{buttons}</p></form>{more}"
    )


def _page(row: ApprovalRow, rest: str) -> HTMLResponse:
    facts = "".join(
        f"<tr><th>{html.escape(str(name)[:200])}</th><td>{html.escape(str(value)[:2000])}</td></tr>"
        for name, value in list({**row.context, **row.payload}.items())[:50]
    )
    state = "" if row.state is ApprovalState.OPEN else f"<p>{html.escape(ending(row))}</p>"
    body = (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Approval</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(row.title)}</h1><p>{html.escape(row.description)}</p><table>{facts}</table>"
        f"{state}{rest}</html>"
    )
    return HTMLResponse(body, headers=HEADERS)
