"""Following a run over the API's event stream, across lost connections."""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx

from cli.client import ApiUnreachableError, failure_of

if TYPE_CHECKING:
    from cli.client import ApiClient

READ_SECONDS = 45.0
"""The API shows a sign of life every 15 seconds."""

ATTEMPTS = 8
"""Connections without a single event, one after another, before giving up."""

LONGEST_PAUSE = 5.0


def follow_run(client: "ApiClient", run_id: str, *, from_seq: int = 1) -> Iterator[dict[str, Any]]:
    """Yield a run's events from a number on, each once and in order, until the run's last one.

    Raises:
        PlatformError: The API's refusal, of the class that fits its status.
        ApiUnreachableError: It does not answer any more.
    """
    last = from_seq - 1
    failed = 0
    while True:
        headers = {"Last-Event-ID": str(last)} if last else {}
        try:
            with client.stream(f"/runs/{run_id}/stream", headers, read_seconds=READ_SECONDS) as answer:
                if answer.status_code == 204:
                    return
                if not answer.is_success:
                    answer.read()
                    refusal = failure_of(answer, client.url)
                    assert refusal is not None, "the answer is no success"
                    if not refusal.retryable or failed >= ATTEMPTS:
                        raise refusal
                for event in _events(answer):
                    if event is None:
                        return
                    failed = 0
                    # Pieces of messages while they come have no number; the whole follows.
                    if event.get("seq", 0) > last:
                        last = event["seq"]
                        yield event
        except httpx.TransportError as error:
            if failed >= ATTEMPTS:
                raise ApiUnreachableError(client.url, error) from None
        failed += 1
        time.sleep(min(0.2 * 2**failed, LONGEST_PAUSE))


def _events(answer: httpx.Response) -> Iterator[dict[str, Any] | None]:
    """Yield the stream's events, and None for its end."""
    if not answer.is_success:
        return
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if fields.get("event") == "end":
            yield None
        elif "data" in fields:
            yield json.loads(fields["data"])
        fields = {}
