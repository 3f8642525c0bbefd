"""Log lines are JSON, carry their identifiers and hold no secret."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from activities.telemetry.logs import REDACTED, configure_logging, log_context, redact_text

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
KEY = "sk_abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", "json", service="test", stream=stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_lines_and_libraries_lines_have_one_form(lines: io.StringIO) -> None:
    with log_context(correlation_id="c-1", tenant_id="acme", run_id="exec_1"):
        structlog.get_logger("ours").info("settled", amount=50)
        logging.getLogger("theirs").warning("slow %s", "query", extra={"milliseconds": 7})
    ours, theirs = written(lines)
    for line in (ours, theirs):
        assert (line["correlation_id"], line["tenant_id"], line["run_id"]) == ("c-1", "acme", "exec_1")
        assert line["service"] == "test"
        assert line["timestamp"].endswith("Z")
    assert (ours["event"], ours["amount"], ours["logger"], ours["level"]) == ("settled", 50, "ours", "info")
    assert (theirs["event"], theirs["milliseconds"], theirs["level"]) == ("slow query", 7, "warning")


def test_identifiers_end_with_their_block(lines: io.StringIO) -> None:
    with log_context(run_id="exec_1"):
        pass
    structlog.get_logger("ours").info("later")
    assert "run_id" not in written(lines)[0]


def test_secrets_are_removed_by_name_and_by_look(lines: io.StringIO) -> None:
    structlog.get_logger("ours").info(
        f"calling with {KEY}",
        headers={"Authorization": f"Bearer {JWT}", "X-Api-Key": KEY, "Accept": "text/html"},
        nested=[{"db_password": "hunter2", "url": "postgresql://app:hunter2@db/x"}],
        access_token="hunter2",
        body=b"hunter2",
    )
    logging.getLogger("theirs").error("failed: %s", f"Authorization: Bearer {JWT}")
    text = lines.getvalue()
    for secret in ("hunter2", JWT, KEY):
        assert secret not in text
    first = written(lines)[0]
    assert first["headers"] == {"Authorization": REDACTED, "X-Api-Key": REDACTED, "Accept": "text/html"}
    assert first["nested"][0]["url"] == f"postgresql://app:{REDACTED}@db/x"


def test_a_traceback_holds_no_secret_either(lines: io.StringIO) -> None:
    try:
        raise RuntimeError(f"cannot connect to postgresql://app:hunter2@db with {KEY}")
    except RuntimeError:
        logging.getLogger("theirs").exception("broken")
    assert "hunter2" not in lines.getvalue()
    assert KEY not in lines.getvalue()
    assert written(lines)[0]["exception"][0]["exc_type"] == "RuntimeError"


def test_lines_below_the_level_are_left_out(lines: io.StringIO) -> None:
    structlog.get_logger("ours").debug("detail")
    logging.getLogger("theirs").debug("detail")
    assert lines.getvalue() == ""


@given(
    st.text(
        alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="@/\\"), min_size=1
    )
)
def test_a_password_in_an_address_never_stays(password: str) -> None:
    redacted = redact_text(f"redis://user:{password}@host:6379/0")
    assert redacted == f"redis://user:{REDACTED}@host:6379/0"


@given(st.text())
def test_ordinary_text_is_redacted_to_text(text: str) -> None:
    assert isinstance(redact_text(text), str)
