"""The command line's way to the API: envelope in, data or a typed error out.

Every POST carries an Idempotency-Key, so a request whose answer was lost is repeated without harm.
"""

import ipaddress
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httpx

from cli.credentials import URL_VARIABLE, api_url, token_for
from models.errors import (
    AuthenticationError,
    ConflictError,
    InsufficientFundsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)

TIMEOUT_SECONDS = 60.0
ATTEMPTS = 4
MAX_PAUSE_SECONDS = 5.0

_KINDS: dict[int, type[PlatformError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    402: InsufficientFundsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: InvalidRequestError,
    409: ConflictError,
    413: InvalidRequestError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


class ApiUnreachableError(UnavailableError):
    """Nothing answers at the API's address."""

    code = "API_UNREACHABLE"

    def __init__(self, url: str, reason: BaseException) -> None:
        super().__init__(
            f"The API at {url} does not answer ({type(reason).__name__}). Start it with `switchyard up`, "
            f"see `switchyard status`, or set {URL_VARIABLE}.",
            details={"api_url": url},
        )


class NotSwitchyardError(UnavailableError):
    """Something answers at the API's address, but it is not Switchyard."""

    code = "NOT_SWITCHYARD"

    def __init__(self, url: str, status: int) -> None:
        super().__init__(
            f"What answers at {url} (status {status}) is not Switchyard's API. Check {URL_VARIABLE}.",
            details={"api_url": url, "status": status},
        )


class ApiClient:
    """Calls the API as one person. Use as a context manager.

    Args:
        url: The API's address.
        token: Bearer token or API key; None for the few operations that need none.
        transport: Replaces the network, for tests.
    """

    def __init__(self, url: str, token: str | None, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        headers = {"Accept": "application/json", "User-Agent": "switchyard-cli"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            transport=transport,
            # A proxy for the world must not see what goes to this machine.
            trust_env=not _is_loopback(url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: str | int | None) -> Any:
        """Return the ``data`` of the answer; query entries that are None are left out.

        Raises:
            PlatformError: The API's refusal, of the class that fits its status.
        """
        return self._call("GET", path, query=query)

    def post(self, path: str, body: object | None = None, *, key: str | None = None) -> Any:
        """Send ``body`` as JSON under an Idempotency-Key and return the ``data`` of the answer.

        Args:
            path: Path of the operation.
            body: JSON-serialisable.
            key: Idempotency-Key; a new one if not given. Give one to continue an earlier request.

        Raises:
            PlatformError: The API's refusal, of the class that fits its status.
        """
        return self._call("POST", path, body=body, headers={"Idempotency-Key": key or str(uuid.uuid4())})

    def put(self, path: str, body: object | None = None) -> Any:
        """Send ``body`` as JSON and return the ``data`` of the answer."""
        return self._call("PUT", path, body=body)

    def patch(self, path: str, body: object | None = None) -> Any:
        """Send ``body`` as JSON, which changes what it names, and return the ``data`` of the answer."""
        return self._call("PATCH", path, body=body)

    def delete(self, path: str) -> Any:
        """Delete and return the ``data`` of the answer."""
        return self._call("DELETE", path)

    def download(self, path: str) -> bytes:
        """Return the body of an answer that is no envelope.

        Raises:
            PlatformError: The API's refusal, of the class that fits its status.
        """
        try:
            answer = self._client.get(path)
        except httpx.TransportError as error:
            raise ApiUnreachableError(self.url, error) from None
        failure = failure_of(answer, self.url)
        if failure is not None:
            raise failure
        return answer.content

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], *, read_seconds: float
    ) -> Generator[httpx.Response]:
        """Open an answer that is read as it comes.

        Args:
            path: Path of the operation.
            headers: Further headers.
            read_seconds: How long nothing may come.

        Raises:
            httpx.TransportError: The connection failed, or nothing came for too long.
        """
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=read_seconds)
        with self._client.stream("GET", path, headers=dict(headers), timeout=timeout) as answer:
            yield answer

    def items(self, path: str, *, maximum: int | None = None, **query: str | int | None) -> Iterator[Any]:
        """Yield the entries of a list, page by page, at most ``maximum`` of them."""
        cursor: str | None = None
        count = 0
        while True:
            limit = 100 if maximum is None else min(100, maximum - count)
            if limit <= 0:
                return
            page = cast("dict[str, Any]", self.get(path, **{**query, "limit": limit, "cursor": cursor}))
            yield from page["items"]
            count += len(page["items"])
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: object | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Call, repeating what failed for a passing reason; every call here is safe to repeat."""
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._client.request(
                    method, path, params=parameters, json=body, headers=dict(headers or {})
                )
            except httpx.ConnectError as error:
                raise ApiUnreachableError(self.url, error) from None
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise ApiUnreachableError(self.url, error) from None
                time.sleep(min(attempt, MAX_PAUSE_SECONDS))
                continue
            failure = failure_of(answer, self.url)
            if failure is None:
                return _data(answer)
            if attempt == ATTEMPTS or not _is_passing(failure):
                raise failure
            time.sleep(_pause(answer, attempt))
        raise AssertionError("the last attempt returns or raises")


def connect(*, anonymous: bool = False) -> ApiClient:
    """Make a client for the API and person that the environment and the credentials file name.

    Args:
        anonymous: Without a token, for what needs none.

    Raises:
        NotLoggedInError: There is no valid token.
    """
    url = api_url()
    return ApiClient(url, None if anonymous else token_for(url))


def failure_of(answer: httpx.Response, url: str) -> PlatformError | None:
    """Return the error that an answer carries, with the API's code; None for an answer that worked."""
    if answer.is_success:
        return None
    try:
        error: Any = answer.json()["error"]
        code, message = str(error["code"]), str(error["message"])
        details = cast("dict[str, Any]", error["details"])
        correlation_id = str(error["correlation_id"])
    except (ValueError, KeyError, TypeError):
        return NotSwitchyardError(url, answer.status_code)
    lines = [message]
    fields = details.get("fields")
    if isinstance(fields, list):
        lines.extend(
            f"  {entry.get('field')}: {entry.get('message')}. {entry.get('remedy') or ''}".rstrip()
            for entry in cast("list[dict[str, Any]]", fields)
        )
    if answer.status_code >= 500:
        lines.append(f"  Correlation id: {correlation_id}")
    kind = _KINDS.get(answer.status_code, PlatformError)
    failure = kind("\n".join(lines), details={**details, "correlation_id": correlation_id})
    failure.code = code  # pyright: ignore[reportAttributeAccessIssue]
    return failure


def _data(answer: httpx.Response) -> Any:
    if answer.status_code == 204 or not answer.content:
        return None
    body = answer.json()
    return body["data"] if isinstance(body, dict) and "success" in body else body


def _is_passing(failure: PlatformError) -> bool:
    return failure.retryable or failure.code == "IDEMPOTENCY_IN_PROGRESS"


def _pause(answer: httpx.Response, attempt: int) -> float:
    wanted = answer.headers.get("retry-after", "")
    return min(float(wanted) if wanted.isdecimal() else attempt, MAX_PAUSE_SECONDS)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
