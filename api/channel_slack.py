"""What comes back from Slack: verified on the raw bytes, kept once, answered within three seconds."""

import json
import time
from typing import Annotated, Any, cast
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Depends, Header, Request
from pydantic import Field, SecretStr
from starlette.responses import JSONResponse, Response

from activities.channels.accounts import open_account, seal_account
from activities.channels.protocol import Account
from activities.channels.slack import SlackAdapter, verify_signature
from activities.channels.slack_blocks import REASON_BLOCK, REJECT_MODAL
from activities.records.channels import account_by_id, find_account, keep_message, put_account
from api.approval_people import Manager
from api.envelope import errors
from api.state import Services, ServicesDep
from models.approval_views import View
from models.calendar import CamelModel
from models.channel import (
    ChannelAccount,
    ChannelInbox,
    ChannelRefusedError,
    ChannelSignatureError,
    ChannelUnavailableError,
)
from models.errors import InvalidRequestError
from models.identifiers import PATTERN, new_identifier

logger = structlog.get_logger(__name__)

router = APIRouter(tags=["channels"])

ACTIONS = frozenset({"approve", "acknowledge"})
SLACK = "slack"


class SlackBody(CamelModel):
    """Access to a Slack workspace (docs/approvals.md)."""

    bot_token: SecretStr = Field(max_length=500, description="Bot User OAuth Token (`xoxb-…`).")
    signing_secret: SecretStr = Field(min_length=8, max_length=200, description="Signing Secret of the app.")
    team_id: str = Field(pattern=r"^[A-Z0-9]{1,20}$", description="The workspace (`T…`).")


class ChannelView(View):
    """A channel that is set up; never its secrets."""

    channel: str
    settings: dict[str, Any]
    callback_url: str | None


class UnreadableCallbackError(InvalidRequestError):
    """The callback is signed, but is not what the channel sends."""

    code = "UNREADABLE_CALLBACK"

    def __init__(self) -> None:
        super().__init__("The callback cannot be read; the app's request URL may be set for something else.")


def _callback(services: Services, account: ChannelAccount) -> str:
    return f"{services.settings.public_url.rstrip('/')}/webhooks/slack/{account.id}"


@router.put("/api/channels/slack", operation_id="set_slack_channel")
async def set_slack(body: SlackBody, caller: Manager, services: ServicesDep) -> ChannelView:
    """Let the tenant's approvals reach Slack; the answer says which Request URL the app needs."""
    async with services.database.tenant(caller.tenant_id) as connection:
        known = await find_account(connection, SLACK)
        account_id = new_identifier("channel_account") if known is None else known.id
        secrets = {
            "botToken": body.bot_token.get_secret_value(),
            "signingSecret": body.signing_secret.get_secret_value(),
        }
        sealed, key_id = seal_account(services.key_ring, account_id, secrets)
        account = await put_account(
            connection,
            ChannelAccount(
                tenant_id=caller.tenant_id,
                channel=SLACK,
                id=account_id,
                settings={"teamId": body.team_id},
                secret_ciphertext=sealed,
                secret_key_id=key_id,
                updated_by=caller.user_id,
            ),
        )
    return ChannelView(channel=SLACK, settings=account.settings, callback_url=_callback(services, account))


async def _verified(
    accountId: str,  # noqa: N803 - as in the path
    request: Request,
    services: ServicesDep,
    timestamp: Annotated[str, Header(alias="X-Slack-Request-Timestamp")] = "",
    signature: Annotated[str, Header(alias="X-Slack-Signature")] = "",
) -> tuple[ChannelAccount, Account]:
    account = None
    if PATTERN.fullmatch(accountId):
        async with services.database.platform() as connection:
            account = await account_by_id(connection, accountId)
    if account is None or account.channel != SLACK:
        raise ChannelSignatureError("Slack")
    opened = open_account(services.key_ring, account)
    secret = opened.secrets["signingSecret"]
    verify_signature(await request.body(), timestamp, signature, secret, time.time())
    return account, opened


@router.post(
    "/webhooks/slack/{accountId}",
    operation_id="slack_interactivity",
    response_class=Response,
    responses={
        200: {"description": "Taken."},
        **errors(ChannelSignatureError, UnreadableCallbackError),
    },
)
async def interactivity(
    request: Request,
    services: ServicesDep,
    verified: Annotated[tuple[ChannelAccount, Account], Depends(_verified)],
) -> Response:
    """Take a click or the reason of a rejection. It is kept at once and carried out by a worker."""
    account, opened = verified
    payload = _payload(await request.body())
    team = _text(payload, "team", "id")
    if team != account.settings.get("teamId"):
        raise UnreadableCallbackError
    user = f"{team}:{_text(payload, 'user', 'id')}"
    if payload.get("type") == "view_submission":
        return await _reason(services, account, payload, user)
    if payload.get("type") == "block_actions":
        await _clicked(services, account, opened, payload, user)
    return Response(status_code=200)


def _payload(body: bytes) -> dict[str, Any]:
    try:
        form = parse_qs(body.decode("utf-8"), strict_parsing=True, max_num_fields=10)
        payload: Any = json.loads(form["payload"][0])
    except (ValueError, KeyError, RecursionError):
        raise UnreadableCallbackError from None
    if not isinstance(payload, dict):
        raise UnreadableCallbackError
    return cast("dict[str, Any]", payload)


def _text(document: Any, *path: str | int) -> str:
    """Read a text of a callback.

    Raises:
        UnreadableCallbackError: It is not there.
    """
    value = document
    try:
        for step in path:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        raise UnreadableCallbackError from None
    if not isinstance(value, str) or not value or len(value) > 3500 or "\0" in value:
        raise UnreadableCallbackError
    return value


def _subject(value: str) -> tuple[str, str]:
    """Read a button's value: the request and the hash of what the message showed."""
    approval, _, seen = value.partition(".")
    if not PATTERN.fullmatch(approval) or len(seen) != 64 or not seen.isalnum():
        raise UnreadableCallbackError
    return approval, seen


async def _clicked(
    services: Services, account: ChannelAccount, opened: Account, payload: dict[str, Any], user: str
) -> None:
    action = _text(payload, "actions", 0, "action_id").removeprefix("approval_")
    if action == "open":
        return
    value = _text(payload, "actions", 0, "value")
    approval, seen = _subject(value)
    channel = _text(payload, "channel", "id")
    if action == "reject":
        metadata = json.dumps({"value": value, "channel": channel})
        slack = SlackAdapter(services.settings.slack_api_url, services.settings.public_url)
        try:
            await slack.ask_reason(opened, _text(payload, "trigger_id"), "Reject the request?", metadata)
        except (ChannelUnavailableError, ChannelRefusedError) as error:
            logger.warning("modal_not_opened", approval_id=approval, reason=error.message)
        return
    if action not in ACTIONS:
        raise UnreadableCallbackError
    key = ":".join(
        (user, _text(payload, "container", "message_ts"), _text(payload, "actions", 0, "action_ts"))
    )
    await _keep(services, account, key, approval, seen, action, user, channel, None)


async def _reason(
    services: Services, account: ChannelAccount, payload: dict[str, Any], user: str
) -> Response:
    if _text(payload, "view", "callback_id") != REJECT_MODAL:
        raise UnreadableCallbackError
    try:
        reason = _text(payload, "view", "state", "values", REASON_BLOCK, REASON_BLOCK, "value").strip()
    except UnreadableCallbackError:
        reason = ""
    if not reason:
        return JSONResponse({"response_action": "errors", "errors": {REASON_BLOCK: "Say why."}})
    try:
        metadata: Any = json.loads(_text(payload, "view", "private_metadata"))
    except ValueError:
        raise UnreadableCallbackError from None
    approval, seen = _subject(_text(metadata, "value"))
    key = f"{user}:view:{_text(payload, 'view', 'id')}"
    await _keep(
        services, account, key, approval, seen, "reject", user, _text(metadata, "channel"), reason[:3000]
    )
    return Response(status_code=200)


async def _keep(
    services: Services,
    account: ChannelAccount,
    key: str,
    approval: str,
    seen: str,
    action: str,
    user: str,
    channel: str,
    comment: str | None,
) -> None:
    body = {
        "approval_id": approval,
        "payload_hash": seen,
        "action": action,
        "user": user,
        "channel": channel,
        "comment": comment,
    }
    message = ChannelInbox(
        id=new_identifier("channel_message"),
        tenant_id=account.tenant_id,
        channel=SLACK,
        key=key[:150],
        body=body,
    )
    async with services.database.tenant(account.tenant_id) as connection:
        await keep_message(connection, message)
