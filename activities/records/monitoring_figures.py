"""The figures of the monitoring API, put together from measurements (flowgrid-level3 §11.3)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from activities.records.database import Connection
from activities.records.monitoring import Row, read_measurements, read_today
from activities.telemetry.trace import decimal_of
from models.monitoring import (
    AGENT_KINDS,
    FLOW_KINDS,
    Measure,
    Period,
    Resolution,
    day_of,
    period_of,
    quantile,
)
from models.monitoring_views import (
    AgentMetrics,
    CostGrouping,
    CostOf,
    Costs,
    Dashboard,
    ElementFigures,
    ErrorCount,
    FlowAnalytics,
    KindFigures,
    MoneyAmount,
    TokenCount,
    ToolCount,
)
from models.run import RunKind, RunStatus

TOP = 10
"""Entries of a list that holds only the largest."""


@dataclass
class _Lengths:
    """Durations that were added up."""

    count: int = 0
    total: int = 0
    buckets: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, row: Row) -> None:
        self.count += row["count"]
        self.total += row["total"]
        if row["detail"]:
            bucket = int(row["detail"])
            self.buckets[bucket] = self.buckets.get(bucket, 0) + row["count"]

    @property
    def average(self) -> int | None:
        return round(self.total / self.count) if self.count else None

    def at(self, share: float) -> int | None:
        return quantile(self.buckets, share)


def _money(nanos: Mapping[str, int]) -> list[MoneyAmount]:
    return [MoneyAmount(currency=each, amount=decimal_of(nanos[each])) for each in sorted(nanos)]


async def read_dashboard(connection: Connection, now: datetime) -> Dashboard:
    """Read the tenant's dashboard; a few dozen rows, however many runs there are."""
    today = Period(Resolution.DAY, day_of(now))
    rows = await read_today(connection, today, kinds=list(RunKind))
    active = {row["scope"]: row["count"] for row in rows if row["measure"] == Measure.ACTIVE_RUNS}
    pending = sum(row["count"] for row in rows if row["measure"] == Measure.PENDING_APPROVALS)
    ended: defaultdict[tuple[str, str], int] = defaultdict(int)
    lengths: defaultdict[str, _Lengths] = defaultdict(_Lengths)
    for row in rows:
        if row["measure"] == Measure.RUN_ENDED:
            ended[row["scope"], row["detail"]] += row["count"]
        elif row["measure"] == Measure.RUN_DURATION:
            lengths[row["scope"]].add(row)
    kinds = [kind for kind in RunKind if kind in active or any(scope == kind for scope, _ in ended)]
    flows = _Lengths()
    for kind in FLOW_KINDS:
        flows.count += lengths[kind].count
        flows.total += lengths[kind].total
    return Dashboard(
        active_flows=sum(active.get(kind, 0) for kind in FLOW_KINDS),
        completed_today=sum(ended[kind, RunStatus.SUCCEEDED] for kind in FLOW_KINDS),
        failed_today=sum(ended[kind, RunStatus.FAILED] for kind in FLOW_KINDS),
        avg_duration=flows.average,
        pending_approvals=pending,
        by_kind=[
            KindFigures(
                kind=kind,
                active=active.get(kind, 0),
                completed_today=ended[kind, RunStatus.SUCCEEDED],
                failed_today=ended[kind, RunStatus.FAILED],
                cancelled_today=ended[kind, RunStatus.CANCELED],
                avg_duration=lengths[kind].average,
                p95_duration=lengths[kind].at(0.95),
            )
            for kind in kinds
        ],
    )


@dataclass
class _RunFigures:
    """Ends, durations and errors of one subject's runs."""

    ended: defaultdict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    duration: _Lengths = field(default_factory=_Lengths)
    queued: _Lengths = field(default_factory=_Lengths)
    errors: defaultdict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "_RunFigures":
        figures = cls()
        for row in rows:
            if row["measure"] == Measure.RUN_ENDED:
                figures.ended[row["detail"]] += row["count"]
            elif row["measure"] == Measure.RUN_DURATION:
                figures.duration.add(row)
            elif row["measure"] == Measure.RUN_QUEUED:
                figures.queued.add(row)
            elif row["measure"] == Measure.RUN_ERROR:
                figures.errors[row["detail"]] += row["count"]
        return figures

    def top_errors(self) -> list[ErrorCount]:
        largest = sorted(self.errors.items(), key=lambda entry: (-entry[1], entry[0]))[:TOP]
        return [ErrorCount(code=code, count=count) for code, count in largest]


_RUN_MEASURES = (Measure.RUN_ENDED, Measure.RUN_DURATION, Measure.RUN_QUEUED, Measure.RUN_ERROR)


async def read_agent_metrics(
    connection: Connection, agent_slug: str, period: str, now: datetime
) -> AgentMetrics:
    """Read how an agent did; zeros for one that never ran.

    Raises:
        InvalidPeriodError: The period cannot be read.
    """
    when = period_of(period, now)
    runs = await read_measurements(
        connection,
        when,
        [Measure.RUN_STARTED, *_RUN_MEASURES],
        scopes=sorted(AGENT_KINDS),
        subjects=[agent_slug],
    )
    calls = await read_measurements(
        connection, when, [Measure.COST, Measure.AGENT_TOKENS, Measure.TOOL_CALLS], scopes=[agent_slug]
    )
    figures = _RunFigures.of(runs)
    cost: defaultdict[str, int] = defaultdict(int)
    tokens: defaultdict[tuple[str, str], int] = defaultdict(int)
    tools: defaultdict[str, int] = defaultdict(int)
    for row in calls:
        if row["measure"] == Measure.COST:
            cost[row["detail"]] += row["total"]
        elif row["measure"] == Measure.AGENT_TOKENS:
            tokens[row["subject"], row["detail"]] += row["total"]
        else:
            tools[row["subject"]] += row["count"]
    succeeded, failed = figures.ended[RunStatus.SUCCEEDED], figures.ended[RunStatus.FAILED]
    ended = sum(figures.ended.values())
    return AgentMetrics(
        agent_slug=agent_slug,
        period=period,
        since=when.since,
        invocations=sum(row["count"] for row in runs if row["measure"] == Measure.RUN_STARTED),
        completed=succeeded,
        failed=failed,
        cancelled=figures.ended[RunStatus.CANCELED],
        avg_duration=figures.duration.average,
        p50_duration=figures.duration.at(0.5),
        p95_duration=figures.duration.at(0.95),
        avg_queue_time=figures.queued.average,
        success_rate=round(succeeded / (succeeded + failed), 4) if succeeded + failed else None,
        avg_cost=_money({currency: total // max(1, ended) for currency, total in cost.items()}),
        top_errors=figures.top_errors(),
        tokens=[
            TokenCount(model=model, input=tokens[model, "input"], output=tokens[model, "output"])
            for model in sorted({model for model, _ in tokens})
        ],
        tool_calls=[
            ToolCount(tool=tool, count=count)
            for tool, count in sorted(tools.items(), key=lambda entry: (-entry[1], entry[0]))
        ],
    )


@dataclass
class _Element:
    """One element of a process, added up."""

    kind: str | None = None
    outcomes: defaultdict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    duration: _Lengths = field(default_factory=_Lengths)
    waiting: _Lengths = field(default_factory=_Lengths)

    @property
    def spent(self) -> int:
        return self.duration.total + self.waiting.total


_ELEMENT_MEASURES = (
    Measure.ELEMENT_ENDED,
    Measure.ELEMENT_TYPE,
    Measure.ELEMENT_DURATION,
    Measure.ELEMENT_WAITING,
)


async def read_flow_analytics(
    connection: Connection, definition_id: str, period: str, now: datetime
) -> FlowAnalytics:
    """Read how a process did and where its time goes; zeros for one that never ran.

    Raises:
        InvalidPeriodError: The period cannot be read.
    """
    when = period_of(period, now)
    figures = _RunFigures.of(
        await read_measurements(
            connection, when, _RUN_MEASURES, scopes=sorted(FLOW_KINDS), subjects=[definition_id]
        )
    )
    elements: defaultdict[str, _Element] = defaultdict(_Element)
    for row in await read_measurements(connection, when, _ELEMENT_MEASURES, scopes=[definition_id]):
        element = elements[row["subject"]]
        if row["measure"] == Measure.ELEMENT_ENDED:
            element.outcomes[row["detail"]] += row["count"]
        elif row["measure"] == Measure.ELEMENT_TYPE:
            element.kind = row["detail"]
        elif row["measure"] == Measure.ELEMENT_DURATION:
            element.duration.add(row)
        else:
            element.waiting.add(row)
    spent = sum(element.spent for element in elements.values())
    ended = sum(figures.ended.values())
    return FlowAnalytics(
        definition_id=definition_id,
        period=period,
        since=when.since,
        instances=ended,
        completed=figures.ended[RunStatus.SUCCEEDED],
        failed=figures.ended[RunStatus.FAILED],
        cancelled=figures.ended[RunStatus.CANCELED],
        avg_duration=figures.duration.average,
        p50_duration=figures.duration.at(0.5),
        p95_duration=figures.duration.at(0.95),
        completion_rate=round(figures.ended[RunStatus.SUCCEEDED] / ended, 4) if ended else None,
        top_errors=figures.top_errors(),
        bottlenecks=[
            ElementFigures(
                element_id=name,
                element_type=element.kind,
                count=element.outcomes["completed"],
                failed=element.outcomes["failed"],
                retried=element.outcomes["retried"],
                avg_duration=element.duration.average,
                p50=element.duration.at(0.5),
                p95=element.duration.at(0.95),
                avg_waiting=element.waiting.average,
                p95_waiting=element.waiting.at(0.95),
                share=round(element.spent / spent, 4) if spent else 0.0,
            )
            for name, element in sorted(elements.items(), key=lambda entry: (-entry[1].spent, entry[0]))
        ],
    )


async def read_costs(
    connection: Connection, tenant_id: str, period: str, grouping: CostGrouping, now: datetime
) -> Costs:
    """Read what the tenant's agents cost; the list that was asked for in full, of the others the largest.

    Raises:
        InvalidPeriodError: The period cannot be read.
    """
    when = period_of(period, now)
    total: defaultdict[str, int] = defaultdict(int)
    groups: dict[CostGrouping, defaultdict[tuple[str, str], list[int]]] = {
        each: defaultdict(lambda: [0, 0]) for each in CostGrouping
    }
    for row in await read_measurements(connection, when, [Measure.COST]):
        agent, model, currency = row["scope"], row["subject"], row["detail"]
        total[currency] += row["total"]
        names = {CostGrouping.AGENT: agent, CostGrouping.MODEL: model, CostGrouping.TENANT: tenant_id}
        for each, name in names.items():
            entry = groups[each][name, currency]
            entry[0] += row["count"]
            entry[1] += row["total"]

    def listed(which: CostGrouping) -> list[CostOf]:
        largest = sorted(groups[which].items(), key=lambda entry: (entry[0][1], -entry[1][1], entry[0][0]))
        return [
            CostOf(name=name, calls=calls, currency=currency, amount=decimal_of(nanos))
            for (name, currency), (calls, nanos) in (largest if which is grouping else largest[:TOP])
        ]

    return Costs(
        period=period,
        since=when.since,
        total=_money(total),
        by_agent=listed(CostGrouping.AGENT),
        by_model=listed(CostGrouping.MODEL),
        by_tenant=listed(CostGrouping.TENANT),
    )
