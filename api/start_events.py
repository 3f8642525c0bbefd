"""Start events of deployed processes: the triggers that a deployment brings, and those they replace."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from activities.records.database import Connection
from activities.records.triggers import move_starts
from models.cron import Cron, CronError
from models.identifiers import new_identifier
from models.process import ProcessDefinition
from models.trigger import (
    OverlapPolicy,
    ScheduledTrigger,
    TriggerInvalidError,
    TriggerKind,
    TriggerOrigin,
)
from models.trigger_times import timer_times
from workflows.bpmn.definition import Expression
from workflows.bpmn.expression import ExpressionEvaluationError
from workflows.bpmn.graph import StartTrigger
from workflows.bpmn.languages import Feel
from workflows.bpmn.timing import looks_like_cron


async def bind_starts(
    connection: Connection, definition: ProcessDefinition, starts: Sequence[StartTrigger]
) -> None:
    """Make the triggers of a deployed version's start events; those of earlier versions end.

    Args:
        connection: The transaction of the deployment.
        definition: The deployed version.
        starts: What may start it from outside.

    Raises:
        TriggerInvalidError: A timer start event has no usable time.
    """
    rows = await asyncio.to_thread(_rows_of, definition, starts)
    await move_starts(connection, definition.tenant_id, definition.design_id, definition.id, rows)


def _rows_of(definition: ProcessDefinition, starts: Sequence[StartTrigger]) -> list[ScheduledTrigger]:
    rows: list[ScheduledTrigger] = []
    for start in starts:
        row = ScheduledTrigger(
            id=new_identifier("trigger"),
            tenant_id=definition.tenant_id,
            definition_id=definition.id,
            process_key=definition.process_key,
            pinned=True,
            kind=TriggerKind.MESSAGE,
            origin=TriggerOrigin.DEPLOYMENT,
            overlap_policy=OverlapPolicy.ALLOW_ALL,
            start_node=start.node,
            start_part=start.part,
            created_by=definition.deployed_by,
        )
        event = start.event
        if start.kind == "timer" and event is not None:
            _set_time(row, _text(event.value))
        elif start.kind in ("message", "signal") and event is not None:
            row.kind = TriggerKind(start.kind)
            row.name = start.name or _text(event.name_expression)
        else:
            # None starts wait for a caller; conditional ones for somebody who names them.
            continue
        rows.append(row)
    return rows


def _set_time(row: ScheduledTrigger, text: str) -> None:
    row.cron_expression = text
    if looks_like_cron(text):
        row.kind = TriggerKind.CRON
        try:
            cron = Cron.parse(text)
        except CronError as error:
            raise TriggerInvalidError("bpmnXml", str(error), "Correct the timer start event.") from None
        row.cron_expression, row.time_zone = cron.text, cron.zone
    else:
        row.kind = TriggerKind.TIMER
        timer_times(text, row.anchor, 1)


def _text(expression: Expression | None) -> str:
    """Return the text of a name or time; expressions are evaluated at deployment, without variables."""
    if expression is None:
        return ""
    if expression.language == "literal":
        return expression.text
    try:
        return str(Feel().compile(expression.text).evaluate({}, datetime.now(UTC)) or "")
    except (ValueError, ExpressionEvaluationError) as error:
        raise TriggerInvalidError("bpmnXml", f"a start event: {error}", "Write the value itself.") from None
