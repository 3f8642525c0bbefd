"""Structured logs for every process: one JSON object per line, with the identifiers that tie lines together.

structlog and the standard library's logging (uvicorn, Temporal's SDK, boto3) end in the same handler, so
every line has ``timestamp, level, logger, event`` and, where they are known, ``correlation_id``,
``tenant_id``, ``run_id`` and the Temporal identifiers. Secrets are removed before a line is written, by the
name of the field and by the look of the value.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Literal, TextIO, cast

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger
from temporalio import activity, workflow

from models.identifiers import PATTERN
from models.search_attributes import CORRELATION_ID

REDACTED = "[redacted]"

_SECRET_NAME = re.compile(
    r"(^|[_\-.])(authorization|cookie|password|passwd|secret|secrets|token|api[_\-]?key|private[_\-]?key"
    r"|credential|credentials|signature|dsn)s?$",
    re.IGNORECASE,
)

_SECRET_VALUE = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://[^\s:/@]*:)[^\s/@]+(?=@)"  # password inside an address
    r"|\bsk_[A-Za-z0-9_\-]{16,}"  # API keys, ours and others'
    r"|\beyJ[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*"  # JSON Web Tokens
    r"|(?P<bearer>\bBearer\s+)[A-Za-z0-9._~+/=\-]+",
    re.IGNORECASE,
)

_MAX_DEPTH = 8


def redact_text(text: str) -> str:
    """Return ``text`` with everything that looks like a credential replaced."""
    return _SECRET_VALUE.sub(
        lambda found: (found.group("scheme") or found.group("bearer") or "") + REDACTED, text
    )


def _redacted(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if depth >= _MAX_DEPTH:
        return redact_text(str(value))
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {
            key: REDACTED if _SECRET_NAME.search(str(key)) else _redacted(entry, depth + 1)
            for key, entry in items
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(entry, depth + 1) for entry in cast("list[Any]", value)]
    return value


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: replace secrets in every field of a line."""
    return cast("dict[str, Any]", _redacted(event))


def add_temporal_context(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: name the activity or workflow that is logging, if one is, and its run."""
    if workflow.in_workflow():
        info = workflow.info()
        event.setdefault("workflow_id", info.workflow_id)
        event.setdefault("workflow_type", info.workflow_type)
        correlation_id = info.typed_search_attributes.get(CORRELATION_ID)
        if correlation_id:
            event.setdefault("correlation_id", correlation_id)
    elif activity.in_activity():
        running = activity.info()
        event.setdefault("workflow_id", running.workflow_id)
        event.setdefault("activity_type", running.activity_type)
        event.setdefault("attempt", running.attempt)
    # A run's workflow is named after it: `agent-execution/exec_…`.
    run_id = str(event.get("workflow_id") or "").rpartition("/")[2]
    if PATTERN.fullmatch(run_id):
        event.setdefault("run_id", run_id)
    return event


def add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: name the trace that the line belongs to, where there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", f"{context.trace_id:032x}")
    return event


def _drop_duplicates(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: remove what other loggers add for forms that we do not use."""
    for name in ("color_message", "temporal_workflow", "temporal_activity"):
        event.pop(name, None)
    return event


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["json", "console"] = "json",
    *,
    service: str,
    stream: TextIO | None = None,
) -> None:
    """Send all logs of this process through one handler. Call it once, first thing.

    Args:
        level: Least severe level that is written.
        form: ``json``: one object per line; ``console``: coloured lines for people.
        service: Name of the process in every line (``api``, ``worker``).
        stream: Where lines go; standard error by default.
    """

    def add_service(_: WrappedLogger, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
        add_temporal_context,
        add_trace,
        _drop_duplicates,
    ]
    rendering: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if form == "json":
        rendering += [
            structlog.processors.dict_tracebacks,
            redact,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        rendering += [redact, structlog.dev.ConsoleRenderer()]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Our own middleware writes one line per request with its correlation id.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("httpx", "httpcore", "botocore", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # A workflow that leaves the cache takes its trace's context with it: nothing that anybody must know.
    logging.getLogger("opentelemetry.context").setLevel(logging.CRITICAL)
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def log_context(
    *, correlation_id: str | None = None, tenant_id: str | None = None, run_id: str | None = None
) -> AbstractContextManager[None]:
    """Add identifiers to every line logged inside the ``with`` block; those left out stay as they are."""
    given = {"correlation_id": correlation_id, "tenant_id": tenant_id, "run_id": run_id}
    return structlog.contextvars.bound_contextvars(
        **{name: value for name, value in given.items() if value is not None}
    )
