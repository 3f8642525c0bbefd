"""A server that speaks Slack's Web API as far as approvals use it, hostile on demand."""

import hashlib
import hmac
import json
import time
from collections import defaultdict
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import httpx
from aiohttp import web

TEAM = "T1"
SECRET = "signing-secret-of-the-tests"


class FakeSlack:
    """One workspace: people by address, messages by channel and time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.emails: dict[str, str] = {}
        self.calls: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.next_answers: defaultdict[str, list[tuple[int, dict[str, str], Any]]] = defaultdict(list)
        self._count = 0
        application = web.Application()
        application.router.add_route("*", "/api/{method}", self._answer)
        self._runner = web.AppRunner(application)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", urlsplit(self.url).port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def user(self, email: str) -> str:
        """Add a person to the workspace."""
        name = f"U{len(self.emails) + 1}"
        self.emails[email] = name
        return name

    def fail_next(self, method: str, status: int = 200, body: Any = None, **headers: str) -> None:
        """Answer the next call of a method like this."""
        self.next_answers[method].append((status, headers, body))

    async def _answer(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        if request.content_type == "application/json":
            arguments: dict[str, Any] = await request.json()
        else:
            arguments = {**request.query, **await request.post()}
        self.calls[method].append(arguments)
        if self.next_answers[method]:
            status, headers, body = self.next_answers[method].pop(0)
            text = body if isinstance(body, str) else json.dumps(body or {"ok": False, "error": "x"})
            return web.Response(status=status, headers=headers, text=text, content_type="application/json")
        return web.json_response(self._result(method, arguments))

    def _result(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if method == "users.lookupByEmail":
            found = self.emails.get(arguments["email"])
            if found is None:
                return {"ok": False, "error": "users_not_found"}
            return {"ok": True, "user": {"id": found, "team_id": TEAM}}
        if method == "users.info":
            emails = [email for email, name in self.emails.items() if name == arguments["user"]]
            if not emails:
                return {"ok": False, "error": "user_not_found"}
            return {"ok": True, "user": {"id": arguments["user"], "profile": {"email": emails[0]}}}
        if method == "chat.postMessage":
            self._count += 1
            return {"ok": True, "channel": f"D{arguments['channel']}", "ts": f"1700000000.{self._count:06d}"}
        return {"ok": True}

    def posted(self, approval: str) -> list[dict[str, Any]]:
        """Messages about a request."""
        return [call for call in self.calls["chat.postMessage"] if approval in json.dumps(call["blocks"])]

    def updated(self, ts: str) -> list[dict[str, Any]]:
        return [call for call in self.calls["chat.update"] if call["ts"] == ts]


def signed(payload: Any, secret: str = SECRET, at: float | None = None) -> tuple[bytes, dict[str, str]]:
    """A callback as Slack sends it."""
    text = payload if isinstance(payload, str) else json.dumps(payload)
    body = urlencode({"payload": text}).encode()
    timestamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"v0:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()
    return body, {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": f"v0={digest}",
    }


def click(user: str, action: str, value: str, **changes: Any) -> dict[str, Any]:
    """A click on a button."""
    return {
        "type": "block_actions",
        "team": {"id": TEAM},
        "user": {"id": user},
        "channel": {"id": "D1"},
        "container": {"message_ts": "1700000000.000001"},
        "trigger_id": "trigger",
        "actions": [{"action_id": f"approval_{action}", "value": value, "action_ts": "1.1"}],
        **changes,
    }


def reason(user: str, value: str, text: str, view: str = "V1") -> dict[str, Any]:
    """The window's answer."""
    return {
        "type": "view_submission",
        "team": {"id": TEAM},
        "user": {"id": user},
        "view": {
            "id": view,
            "callback_id": "approval_reject",
            "private_metadata": json.dumps({"value": value, "channel": "D1"}),
            "state": {"values": {"reason": {"reason": {"value": text}}}},
        },
    }


async def send(client: httpx.AsyncClient, path: str, payload: Any, **options: Any) -> httpx.Response:
    body, headers = signed(payload, **options)
    return await client.post(path, content=body, headers=headers)
