"""This process's Prometheus metrics: the names of flowgrid-level3 §8.2, in Prometheus' spelling.

``flowsStarted`` is ``flows_started_total``, ``flowDuration`` (seconds) ``flow_duration_seconds``. Runs,
agents, approvals and costs are counted by the worker that adds events to the measurements, once over all
workers, so sums over processes are right. Gauges that say what stands in the store are set by every worker
alike: take their maximum.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from activities.telemetry.fold import Amount, Key
from models.execution import FailureCode
from models.monitoring import AGENT_KINDS, NANOS, Measure, Resolution, bucket_middle
from models.run import RunStatus

REGISTRY = CollectorRegistry()
"""Everything that this process tells of itself."""

MAX_SERIES = 1000
"""Label sets per metric; later ones are counted under ``other``, so that nobody can fill the memory."""

OTHER = "other"

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)


class Series:
    """A metric whose label sets are bounded."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._known: set[tuple[str, ...]] = set()

    def labels(self, *values: str) -> Any:
        """Return the series of these label values, or the one that stands for all that are too many."""
        if values not in self._known:
            if len(self._known) >= MAX_SERIES:
                values = (OTHER,) * len(values)
            self._known.add(values)
        return self._metric.labels(*values)


# -- flowgrid-level3 §8.2: flows -----------------------------------------------------------------------
FLOWS_STARTED = Series(Counter("flows_started", "Runs begun.", ["kind"], registry=REGISTRY))
FLOWS_COMPLETED = Series(Counter("flows_completed", "Runs that succeeded.", ["kind"], registry=REGISTRY))
FLOWS_FAILED = Series(Counter("flows_failed", "Runs that failed.", ["kind"], registry=REGISTRY))
FLOWS_CANCELLED = Series(Counter("flows_cancelled", "Runs that were cancelled.", ["kind"], registry=REGISTRY))
FLOW_DURATION = Series(
    Histogram(
        "flow_duration_seconds",
        "From start to success.",
        ["kind"],
        buckets=_LONG,
        registry=REGISTRY,
    )
)
ACTIVE_FLOWS = Gauge("active_flows", "Runs that go on now.", ["kind"], registry=REGISTRY)

# -- flowgrid-level3 §8.2: agents ----------------------------------------------------------------------
AGENT_INVOCATIONS = Series(
    Counter("agent_invocations", "Invocations of agents.", ["agent_slug", "tenant_id"], registry=REGISTRY)
)
AGENT_DURATION = Series(
    Histogram(
        "agent_duration_seconds",
        "From an agent's start to its success.",
        ["agent_slug"],
        buckets=_LONG,
        registry=REGISTRY,
    )
)
AGENT_ERRORS = Series(
    Counter("agent_errors", "Failed invocations.", ["agent_slug", "error_type"], registry=REGISTRY)
)
AGENT_TOKENS_USED = Series(
    Counter("agent_tokens_used", "Tokens of models.", ["agent_slug", "model", "direction"], registry=REGISTRY)
)
AGENT_COST = Series(
    Counter(
        "agent_cost",
        "Cost in the currency's major unit.",
        ["agent_slug", "model", "tenant_id", "currency"],
        registry=REGISTRY,
    )
)
TOOL_CALLS = Series(Counter("tool_calls", "Calls of tools.", ["agent_slug", "tool_name"], registry=REGISTRY))
SANDBOX_LOSSES = Counter(
    "sandbox_infrastructure_losses", "Executions that our own engines or workers lost.", registry=REGISTRY
)

# -- flowgrid-level3 §8.2: approvals -------------------------------------------------------------------
APPROVALS_CREATED = Counter("approvals_created", "Approvals asked for.", registry=REGISTRY)
APPROVALS_COMPLETED = Series(
    Counter("approvals_completed", "Approvals that ended.", ["result"], registry=REGISTRY)
)
APPROVAL_RESPONSE_TIME = Histogram(
    "approval_response_time_seconds", "From asking to decision.", buckets=_LONG, registry=REGISTRY
)
APPROVAL_SLA_BREACHES = Counter("approval_sla_breaches", "Approvals that came too late.", registry=REGISTRY)
PENDING_APPROVALS = Gauge("pending_approvals", "Approvals that wait now.", registry=REGISTRY)

# -- What stands in the store --------------------------------------------------------------------------
PUBLISHER_LAG = Gauge(
    "publisher_lag_seconds", "How long the oldest unpublished event has waited.", registry=REGISTRY
)
UNPUBLISHED_RUNS = Gauge("unpublished_runs", "Runs with unpublished events.", registry=REGISTRY)
MEASURING_LAG = Gauge(
    "measuring_lag_events", "Published events that are not measured yet.", registry=REGISTRY
)
OPEN_DEAD_LETTERS = Gauge("open_dead_letters", "Events that consumer groups gave up on.", registry=REGISTRY)
OPEN_SETTLEMENTS = Gauge("open_settlements", "Settlements that no rail has answered.", registry=REGISTRY)
OLDEST_UNKNOWN_SETTLEMENT = Gauge(
    "oldest_unknown_settlement_seconds", "Age of the oldest settlement of unknown outcome.", registry=REGISTRY
)
MONEY_IN_SUSPENSE = Gauge(
    "money_in_suspense_minor_units", "Money whose place is not known.", ["currency"], registry=REGISTRY
)
REPORTED_PROBLEMS = Gauge(
    "workflow_reported_problems", "Workflows whose tasks fail again and again.", registry=REGISTRY
)
TASK_QUEUE_DEPTH = Gauge(
    "task_queue_depth", "Tasks that wait for a worker, approximately.", ["queue"], registry=REGISTRY
)
TASK_QUEUE_OLDEST = Gauge(
    "task_queue_oldest_seconds", "How long the oldest waiting task has waited.", ["queue"], registry=REGISTRY
)
PART_HEALTHY = Gauge("part_healthy", "1 where a part of this process works.", ["part"], registry=REGISTRY)
LAST_SAMPLE = Gauge(
    "last_sample_timestamp_seconds", "When the gauges of the store were set last.", registry=REGISTRY
)

# -- The API -------------------------------------------------------------------------------------------
HTTP_REQUESTS = Series(
    Counter("http_requests", "Requests answered.", ["method", "route", "status"], registry=REGISTRY)
)
HTTP_DURATION = Series(
    Histogram(
        "http_request_duration_seconds",
        "From a request to the end of its answer; streams are left out.",
        ["method", "route"],
        buckets=_FAST,
        registry=REGISTRY,
    )
)
RATE_LIMITED = Series(
    Counter("rate_limited_requests", "Requests over a limit.", ["policy"], registry=REGISTRY)
)
OPEN_STREAMS = Gauge("open_streams", "Streams and WebSockets that are served.", registry=REGISTRY)


def observe_measurements(added: Mapping[Key, Amount]) -> None:
    """Count what was added to the measurements."""
    for key, amount in added.items():
        # Each fact is there once by the hour and once by the day.
        if key.resolution is Resolution.HOUR and amount.count > 0:
            _observe(key, amount)


def _observe(key: Key, amount: Amount) -> None:
    if key.measure in _RUN_MEASURES:
        _observe_run(key, amount)
    else:
        _observe_call(key, amount)


_RUN_MEASURES = frozenset(
    {Measure.RUN_STARTED, Measure.RUN_ENDED, Measure.RUN_DURATION, Measure.RUN_ERROR, Measure.RUN_QUEUED}
)


def _observe_run(key: Key, amount: Amount) -> None:
    match key.measure:
        case Measure.RUN_STARTED:
            if not key.subject:
                FLOWS_STARTED.labels(key.scope).inc(amount.count)
            elif key.scope in AGENT_KINDS:
                AGENT_INVOCATIONS.labels(key.subject, key.tenant_id).inc(amount.count)
        case Measure.RUN_ENDED if not key.subject:
            ended = {
                RunStatus.SUCCEEDED: FLOWS_COMPLETED,
                RunStatus.FAILED: FLOWS_FAILED,
                RunStatus.CANCELED: FLOWS_CANCELLED,
            }[RunStatus(key.detail)]
            ended.labels(key.scope).inc(amount.count)
        case Measure.RUN_DURATION:
            if not key.subject:
                _observe_times(FLOW_DURATION.labels(key.scope), key, amount)
            elif key.scope in AGENT_KINDS:
                _observe_times(AGENT_DURATION.labels(key.subject), key, amount)
        case Measure.RUN_ERROR if key.scope in AGENT_KINDS:
            AGENT_ERRORS.labels(key.subject, key.detail).inc(amount.count)
            if key.detail == FailureCode.INFRASTRUCTURE_LOST:
                SANDBOX_LOSSES.inc(amount.count)
        case _:
            return


def _observe_call(key: Key, amount: Amount) -> None:
    match key.measure:
        case Measure.AGENT_TOKENS:
            AGENT_TOKENS_USED.labels(key.scope, key.subject, key.detail).inc(amount.total)
        case Measure.COST:
            AGENT_COST.labels(key.scope, key.subject, key.tenant_id, key.detail).inc(amount.total / NANOS)
        case Measure.TOOL_CALLS:
            TOOL_CALLS.labels(key.scope, key.subject).inc(amount.count)
        case Measure.APPROVAL_CREATED:
            APPROVALS_CREATED.inc(amount.count)
        case Measure.APPROVAL_COMPLETED:
            APPROVALS_COMPLETED.labels(key.detail).inc(amount.count)
        case Measure.APPROVAL_RESPONSE:
            _observe_times(APPROVAL_RESPONSE_TIME, key, amount)
        case Measure.SLA_BREACHED:
            APPROVAL_SLA_BREACHES.inc(amount.count)
        case _:
            return


def _observe_times(histogram: Any, key: Key, amount: Amount) -> None:
    for _ in range(amount.count):
        histogram.observe(bucket_middle(int(key.detail)) / 1000)
