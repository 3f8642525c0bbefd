"""What the monitoring API answers, in the words of flowgrid-level3 §11.3 and §8.4."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from models.run import RunKind, RunStatus


class View(BaseModel):
    """Fields are camelCase outside (DESIGN §10). Durations are milliseconds."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class KindFigures(View):
    """Runs of one kind."""

    kind: RunKind
    active: int
    completed_today: int
    failed_today: int
    cancelled_today: int
    avg_duration: int | None = Field(description="Of those that succeeded today, in milliseconds.")
    p95_duration: int | None = Field(description="Of those that succeeded today, in milliseconds.")


class Dashboard(View):
    """The tenant at a glance. Today is the day in UTC; flows are BPMN instances and node flows."""

    active_flows: int
    completed_today: int
    failed_today: int
    avg_duration: int | None = Field(description="Of flows that succeeded today, in milliseconds.")
    pending_approvals: int
    by_kind: list[KindFigures] = Field(description="The same for every kind of run that there is.")


class ErrorCount(View):
    """How often runs failed with one error code."""

    code: str
    count: int


class MoneyAmount(View):
    """An amount of one currency, in its major unit, as a decimal number without loss."""

    currency: str
    amount: str = Field(pattern=r"^\d+\.\d{9}$", examples=["12.340000000"])


class TokenCount(View):
    """Tokens of one language model."""

    model: str
    input: int
    output: int


class ToolCount(View):
    """How often a tool was called."""

    tool: str
    count: int


class AgentMetrics(View):
    """How an agent did in a period."""

    agent_slug: str
    period: str
    since: datetime
    invocations: int
    completed: int
    failed: int
    cancelled: int
    avg_duration: int | None = Field(description="Of those that succeeded, in milliseconds.")
    p50_duration: int | None
    p95_duration: int | None
    avg_queue_time: int | None = Field(description="From creation to start, in milliseconds.")
    success_rate: float | None = Field(description="Succeeded of succeeded and failed, 0 to 1.")
    avg_cost: list[MoneyAmount] = Field(description="Cost per ended invocation, by currency.")
    top_errors: list[ErrorCount]
    tokens: list[TokenCount]
    tool_calls: list[ToolCount]


class ElementFigures(View):
    """One element of a process: how often, how long, how long it waited before it began."""

    element_id: str
    element_type: str | None
    count: int = Field(description="Visits that completed.")
    failed: int
    retried: int
    avg_duration: int | None
    p50: int | None = Field(description="Half of the visits took no longer, in milliseconds.")
    p95: int | None
    avg_waiting: int | None = Field(description="From dispatch to start, in milliseconds.")
    p95_waiting: int | None
    share: float = Field(description="Of the time that all elements took and waited together, 0 to 1.")


class FlowAnalytics(View):
    """How a process did in a period; ``bottlenecks`` begins with what took most of the time."""

    definition_id: str
    period: str
    since: datetime
    instances: int = Field(description="Instances that ended.")
    completed: int
    failed: int
    cancelled: int
    avg_duration: int | None
    p50_duration: int | None
    p95_duration: int | None
    completion_rate: float | None = Field(description="Completed of ended, 0 to 1.")
    top_errors: list[ErrorCount]
    bottlenecks: list[ElementFigures]


class CostGrouping(StrEnum):
    """By what costs are listed in full."""

    AGENT = "agent"
    MODEL = "model"
    TENANT = "tenant"


class CostOf(View):
    """What one agent, model or tenant cost in one currency."""

    name: str = Field(
        description="Agent's slug, model's name (empty: the price of the agent) or tenant's id."
    )
    calls: int
    currency: str
    amount: str = Field(pattern=r"^\d+\.\d{9}$")


class Costs(View):
    """What the tenant's agents cost in a period: prices paid and language models' calls."""

    period: str
    since: datetime
    total: list[MoneyAmount]
    by_agent: list[CostOf]
    by_model: list[CostOf]
    by_tenant: list[CostOf]


class Condition(StrEnum):
    """How a part does."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It works, but late or with part of its processes."""
    DOWN = "down"


class QueueHealth(View):
    """A task queue as Temporal sees it."""

    depth: int = Field(description="Tasks that wait, approximately.")
    oldest_seconds: float = Field(description="How long the oldest of them has waited.")
    pollers: int = Field(description="Workers that asked for work in the last minutes.")
    add_rate: float = Field(description="Tasks added per second.")
    dispatch_rate: float = Field(description="Tasks handed to workers per second.")


class EventHealth(View):
    """The way of events from the writer to the reader."""

    unpublished_runs: int
    publisher_lag_seconds: float
    measuring_lag: int = Field(description="Published events that are not in the measurements yet.")
    open_dead_letters: int
    streams: int = Field(description="Streams that this API process serves.")


class Connections(View):
    """Connections of the database server."""

    database_used: int
    database_limit: int


class WorkerHealth(View):
    """What a worker process last said of a part that only it reaches."""

    part: str
    instance: str
    healthy: bool
    latency_ms: int | None
    detail: str
    age_seconds: float


class SystemHealth(View):
    """Every part, with queue depths and latencies."""

    status: Condition
    services: dict[str, Condition]
    latencies: dict[str, float] = Field(description="Milliseconds until each part answered.")
    queues: dict[str, QueueHealth]
    connections: Connections | None
    events: EventHealth | None
    workers: list[WorkerHealth]
    checked_at: datetime


class TraceStep(View):
    """One event of a run's trace."""

    seq: int
    id: str
    type: str
    timestamp: datetime
    source: str
    data: dict[str, Any]
    duration_ms: int | None = Field(
        description="Of what this event ends, in milliseconds; null: it ends nothing."
    )
    elapsed_ms: int = Field(description="Since the run was created.")


class TraceTotals(View):
    """Sums over a run's events."""

    events: int
    complete: bool = Field(description="Whether these are all; of very long runs the first 20 000 count.")
    steps: int = Field(description="Elements that ended.")
    step_duration_ms: int = Field(description="Their durations together; parallel ones count each.")
    approval_wait_ms: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost: list[MoneyAmount]


class TraceChild(View):
    """A run that this one began."""

    run_id: str
    kind: RunKind
    subject: str
    status: RunStatus
    duration_ms: int | None


class Trace(View):
    """What happened in a run, in order, and what it comes to (flowgrid-level3 §8.4)."""

    instance_id: str
    kind: RunKind
    status: RunStatus
    correlation_id: str
    timeline: list[TraceStep]
    duration: int | None = Field(description="From creation to the end, or until now, in milliseconds.")
    total_duration: int | None = Field(description="The same as `duration`.")
    agent_calls: int
    approvals: int
    errors: list[TraceStep]
    totals: TraceTotals
    children: list[TraceChild]
    has_more: bool = Field(description="Whether there are events after these; ask with `fromSeq`.")
    next_seq: int
