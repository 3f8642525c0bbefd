"""The correlation id on its way through Temporal: from the request to every log line of what it caused.

The client sends it as a header with what it starts, workflows hand it to their activities and children, and
an activity binds it to its logs. Headers are no part of a workflow's commands: histories replay with or
without them.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Interceptor as ClientInterceptor,
)
from temporalio.client import (
    OutboundInterceptor,
    StartWorkflowInput,
    StartWorkflowUpdateWithStartInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.worker import (
    ActivityInboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker import (
    Interceptor as WorkerInterceptor,
)

from models.search_attributes import CORRELATION_ID

HEADER = "correlation-id"
FIELD = "correlation_id"
MAX_LENGTH = 128


def _read(headers: Mapping[str, Payload]) -> str:
    payload = headers.get(HEADER)
    return payload.data.decode("utf-8", "replace")[:MAX_LENGTH] if payload is not None else ""


def _with(headers: Mapping[str, Payload], value: str) -> Mapping[str, Payload]:
    if not value or HEADER in headers:
        return headers
    return {**headers, HEADER: Payload(metadata={"encoding": b"binary/plain"}, data=value.encode())}


def _bound() -> str:
    """Return the id that this request's or activity's log lines carry."""
    value = structlog.contextvars.get_contextvars().get(FIELD, "")
    return value if isinstance(value, str) else ""


class CorrelationInterceptor(ClientInterceptor, WorkerInterceptor):
    """Carries the correlation id; for the client, which gives it to its workers."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Send it with what is started."""
        return _Client(next)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Bind it to an activity's logs."""
        return _Activity(next)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Hand it on."""
        return _Workflow


class _Client(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        input.headers = _with(input.headers, _bound())
        return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        start = input.start_workflow_input
        start.headers = _with(start.headers, _bound())
        return await super().start_update_with_start_workflow(input)


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        value = _read(input.headers)
        if not value:
            return await super().execute_activity(input)
        with structlog.contextvars.bound_contextvars(**{FIELD: value}):
            return await super().execute_activity(input)


class _Workflow(WorkflowInboundInterceptor):
    _outbound: "_WorkflowOutbound"

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        self._outbound = _WorkflowOutbound(outbound)
        super().init(self._outbound)

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        # What a schedule or an older client started has no header; every run's workflow has the attribute.
        attribute = workflow.info().typed_search_attributes.get(CORRELATION_ID)
        self._outbound.value = _read(input.headers) or attribute or ""
        return await super().execute_workflow(input)


class _WorkflowOutbound(WorkflowOutboundInterceptor):
    value = ""

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = _with(input.headers, self.value)
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = _with(input.headers, self.value)
        return super().start_local_activity(input)

    async def start_child_workflow(
        self, input: StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        input.headers = _with(input.headers, self.value)
        return await super().start_child_workflow(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> Any:
        input.headers = _with(input.headers, self.value)
        super().continue_as_new(input)
