"""What service tasks can reach by themselves: ``http:`` requests and named ``connector:`` functions.

A connector gets the task's inputs and gives variables back. It raises `TaskWorkError` for what a process may
catch as a BPMN error; anything else it raises is a technical failure and retried.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import orjson

from activities.sandbox.egress_policy import EgressRefusedError, EgressSettings, pin_address
from models.errors import InvalidRequestError, UnavailableError
from models.process_run import ServiceTask

HTTP_SECONDS = 30.0
MAX_ANSWER_BYTES = 1024 * 1024
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})

Connector = Callable[[ServiceTask], Awaitable[dict[str, Any]]]
"""Does the work of a task and returns its results."""


class TaskWorkError(Exception):
    """A BPMN error that a service raises on purpose: boundary events may catch it.

    Attributes:
        code: BPMN error code.
        message: For people.
        variables: Given to whoever catches it.
    """

    def __init__(self, code: str, message: str = "", variables: dict[str, Any] | None = None) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message
        self.variables = variables or {}


class TaskRefusedError(InvalidRequestError):
    """A task asks for something that cannot be done; trying again does not help."""

    code = "TASK_REFUSED"

    def __init__(self, task: ServiceTask, why: str) -> None:
        super().__init__(
            f"Task {task.task_id} ({task.type}) cannot be carried out: {why}.",
            details={"task_id": task.task_id, "type": task.type},
        )


class ServiceFailedError(UnavailableError):
    """What a task called did not do its work; it may later."""

    code = "TASK_SERVICE_FAILED"

    def __init__(self, task: ServiceTask, why: str) -> None:
        super().__init__(
            f"Task {task.task_id} ({task.type}) failed: {why}.", details={"task_id": task.task_id}
        )


class HttpConnector:
    """``http:<METHOD>``: one request to a public address.

    The task's inputs are ``url``, ``headers``, ``body`` and ``timeout`` (seconds), or task headers of the
    same names. Its result is the variable ``response`` with ``status``, ``headers`` and ``body``. 4xx
    answers are BPMN errors ``HTTP_<status>``; 5xx and lost connections are retried. Redirects are not
    followed.
    """

    def __init__(self, egress: EgressSettings | None = None) -> None:
        """Reach what ``egress`` lets through: public addresses, each resolved once and pinned."""
        self._egress = egress or EgressSettings()

    async def __call__(self, task: ServiceTask) -> dict[str, Any]:
        """Send the request.

        Raises:
            TaskRefusedError: The address or method cannot be used.
            ServiceFailedError: No answer, or one of 5xx.
            TaskWorkError: The answer is 4xx.
        """
        inputs = {**task.details.get("headers", {}), **task.variables}
        method = (task.type.partition(":")[2] or str(inputs.get("method", "GET"))).upper()
        if method not in METHODS:
            raise TaskRefusedError(task, f"{method[:20]!r} is no method; use {', '.join(sorted(METHODS))}")
        answer = await self._send(task, method, inputs)
        body: Any = answer.text
        if "json" in answer.headers.get("content-type", ""):
            try:
                body = orjson.loads(answer.content)
            except orjson.JSONDecodeError:
                body = answer.text
        response = {"status": answer.status_code, "headers": dict(answer.headers), "body": body}
        if answer.status_code >= 500:
            raise ServiceFailedError(task, f"the service answered {answer.status_code}")
        if answer.status_code >= 400:
            code = f"HTTP_{answer.status_code}"
            raise TaskWorkError(code, f"The service answered {answer.status_code}.", {"response": response})
        return {"response": response}

    async def _send(self, task: ServiceTask, method: str, inputs: Mapping[str, Any]) -> httpx.Response:
        try:
            target = httpx.URL(str(inputs.get("url", "")))
        except httpx.InvalidURL:
            raise TaskRefusedError(task, "its url is malformed") from None
        if target.scheme not in ("http", "https") or not target.host or target.userinfo:
            raise TaskRefusedError(task, "its url must be http or https, with a host and without a password")
        port = target.port or (443 if target.scheme == "https" else 80)
        try:
            address = await pin_address(target.host, port, self._egress)
        except EgressRefusedError as refused:
            raise TaskRefusedError(task, str(refused)) from None
        headers = {str(name): str(value) for name, value in dict(inputs.get("headers") or {}).items()}
        headers.setdefault("idempotency-key", f"{task.instance_id}:{task.key}")
        body = inputs.get("body")
        content = None if body is None else body.encode() if isinstance(body, str) else orjson.dumps(body)
        if content is not None and not isinstance(body, str):
            headers.setdefault("content-type", "application/json")
        try:
            async with httpx.AsyncClient(
                follow_redirects=False, trust_env=False, timeout=_seconds(inputs.get("timeout"))
            ) as client:
                request = client.build_request(
                    method,
                    target.copy_with(host=address),
                    content=content,
                    headers={**headers, "host": target.netloc.decode()},
                    extensions={"sni_hostname": target.host},
                )
                return await _read(task, await client.send(request, stream=True))
        except httpx.HTTPError as error:
            raise ServiceFailedError(task, f"no answer ({type(error).__name__})") from None


async def _read(task: ServiceTask, answer: httpx.Response) -> httpx.Response:
    """Read an answer up to its limit."""
    content = bytearray()
    try:
        async for part in answer.aiter_bytes():
            content += part
            if len(content) > MAX_ANSWER_BYTES:
                raise TaskRefusedError(task, f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    finally:
        await answer.aclose()
    headers = {k: v for k, v in answer.headers.items() if k not in ("content-encoding", "content-length")}
    return httpx.Response(answer.status_code, headers=headers, content=bytes(content))


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(max(float(value), 0.1), HTTP_SECONDS)
    return HTTP_SECONDS


async def echo(task: ServiceTask) -> dict[str, Any]:
    """``connector:echo``: gives its mapped inputs back."""
    return dict(task.variables)


async def nothing(task: ServiceTask) -> dict[str, Any]:
    """``connector:nothing``: holds the place of a service that is not there yet."""
    return {}


def standard_connectors() -> dict[str, Connector]:
    """Return the connectors that every installation has."""
    return {"echo": echo, "nothing": nothing}
