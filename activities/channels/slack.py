"""Slack, by its Web API; what comes back is `api/channel_slack.py`'s (research §2.1)."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from activities.channels.protocol import Account, Message, Receipt
from activities.channels.slack_blocks import (
    ending,
    escape,
    fallback_text,
    final_blocks,
    open_blocks,
    reject_modal,
)
from models.channel import ChannelRefusedError, ChannelSignatureError, ChannelUnavailableError

TIMEOUT_SECONDS = 10
MODAL_TIMEOUT_SECONDS = 2.0
"""Slack waits three seconds for the whole answer, and the trigger is worth nothing after them."""

SIGNATURE_SECONDS = 300

_PASSING = frozenset(
    {"ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)
_UNKNOWN_USER = frozenset({"users_not_found", "user_not_found"})


def verify_signature(body: bytes, timestamp: str, signature: str, secret: str, now: float) -> None:
    """Check Slack's signature over the raw bytes; whatever is malformed is no signature.

    Raises:
        ChannelSignatureError: It does not match, or is older or newer than five minutes.
    """
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise ChannelSignatureError("Slack")
    if abs(now - int(timestamp)) > SIGNATURE_SECONDS:
        raise ChannelSignatureError("Slack")
    signed = b"v0:%b:%b" % (timestamp.encode(), body)
    expected = "v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape")):
        raise ChannelSignatureError("Slack")


class SlackAdapter:
    """Sends and changes messages."""

    def __init__(self, api_url: str, public_url: str) -> None:
        """Speak to the Web API at ``api_url``; messages link to pages below ``public_url``."""
        self._api_url = api_url.rstrip("/") + "/"
        self._public_url = public_url.rstrip("/")

    def _client(self, account: Account, timeout: float = TIMEOUT_SECONDS) -> AsyncWebClient:
        token = account.secrets.get("botToken", "")
        # No retries of its own: a limit is waited for by the queue, which tells other messages from this one.
        return AsyncWebClient(
            token=token, base_url=self._api_url, timeout=max(1, round(timeout)), retry_handlers=[]
        )

    async def send(self, message: Message) -> Receipt:
        """Write to the person's own conversation with the app.

        Raises:
            ChannelUnavailableError: Slack is away or asks to come back later.
            ChannelRefusedError: Slack does not know the person, or does not let us in.
        """
        client = self._client(message.account)
        external = message.external_user
        if external is None:
            external = await self._find_user(client, message)
        row = message.approval
        link = f"{self._public_url}/console/approvals/{row.id}"
        answer = await _ask(
            lambda: client.chat_postMessage(
                channel=external.rpartition(":")[2],
                text=fallback_text(row, message.kind),
                blocks=open_blocks(row, message.kind, link),
            )
        )
        return Receipt(
            address=external, external_id=f"{answer['channel']}:{answer['ts']}", external_user=external
        )

    async def _find_user(self, client: AsyncWebClient, message: Message) -> str:
        if message.email is None:
            raise ChannelRefusedError("slack", "the person has no e-mail address to be found by")
        answer = await _ask(lambda: client.users_lookupByEmail(email=message.email or ""))
        user: dict[str, Any] = answer["user"]
        return f"{user.get('team_id') or message.account.settings.get('teamId', '')}:{user['id']}"

    async def finish(self, message: Message, external_id: str) -> None:
        """Show what was decided in place of the buttons.

        Raises:
            ChannelUnavailableError, ChannelRefusedError: As for `send`.
        """
        channel, _, ts = external_id.partition(":")
        client, row = self._client(message.account), message.approval
        text = escape(f"{row.title}: {ending(row)}")[:3000]
        await _ask(lambda: client.chat_update(channel=channel, ts=ts, text=text, blocks=final_blocks(row)))

    async def email_of(self, account: Account, user: str) -> str | None:
        """Return a Slack user's e-mail address, if there is one.

        Raises:
            ChannelUnavailableError: Slack is away or asks to come back later.
        """
        client = self._client(account)
        try:
            answer = await _ask(lambda: client.users_info(user=user))
        except ChannelRefusedError:
            return None
        profile: dict[str, Any] = (answer["user"] or {}).get("profile") or {}
        email = profile.get("email")
        return email if isinstance(email, str) else None

    async def whisper(self, account: Account, channel: str, user: str, text: str) -> None:
        """Say something to one person only.

        Raises:
            ChannelUnavailableError, ChannelRefusedError: As for `send`.
        """
        client = self._client(account)
        await _ask(lambda: client.chat_postEphemeral(channel=channel, user=user, text=escape(text)[:3000]))

    async def ask_reason(self, account: Account, trigger_id: str, title: str, metadata: str) -> None:
        """Open the window that asks why, while the trigger lives.

        Raises:
            ChannelUnavailableError, ChannelRefusedError: As for `send`.
        """
        client = self._client(account, MODAL_TIMEOUT_SECONDS)
        await _ask(lambda: client.views_open(trigger_id=trigger_id, view=reject_modal(title, metadata)))


async def _ask(call: Callable[[], Awaitable[Any]]) -> Any:
    """Call Slack and word what goes wrong; answers hold nothing of ours that is secret."""
    try:
        return await call()
    except SlackApiError as error:
        response: Any = error.response
        status = getattr(response, "status_code", 200)
        code = str(response.get("error", "") if hasattr(response, "get") else "")[:80]
        if status == 429 or code == "ratelimited":
            after = str(getattr(response, "headers", {}).get("Retry-After", "1"))
            seconds = float(after) if after.isdecimal() and len(after) < 6 else 30.0
            raise ChannelUnavailableError("slack", "it asks to come back later", seconds) from None
        # An answer without an error of Slack's is not Slack's: something in between has failed.
        if status >= 500 or not code or code in _PASSING:
            raise ChannelUnavailableError("slack", f"it answered {code or status}") from None
        reason = "it does not know the person" if code in _UNKNOWN_USER else f"it answered {code or status}"
        raise ChannelRefusedError("slack", reason) from None
    except (TimeoutError, SlackClientError, aiohttp.ClientError, OSError, ValueError) as error:
        raise ChannelUnavailableError("slack", f"no usable answer ({type(error).__name__})") from None
