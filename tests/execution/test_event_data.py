"""The events of publishing and executing say what their schemas promise."""

from models.event import EventType
from tests.event_data import check_event_data
from tests.execution.conftest import World
from tests.execution.test_execution import ECHO, run


async def test_what_executions_and_reviews_emit_fits_its_schema(world: World) -> None:
    assert (await run(world, f"import sys; print('hm', file=sys.stderr)\n{ECHO}"))["status"] == "success"
    assert (await run(world, "raise SystemExit(3)"))["status"] == "failed"
    # The tenants of this world hold what every test before this one made happen, too.
    tenants = [person.tenant_id for person in (world.developer, world.user)]
    found = await check_event_data(world.services.database, *tenants)
    assert found >= {
        EventType.AGENT_SUBMITTED,
        EventType.AGENT_SCANNED,
        EventType.AGENT_APPROVED,
        EventType.AGENT_PUBLISHED,
        EventType.RUN_QUEUED,
        EventType.RUN_DISPATCHED,
        EventType.RUN_STARTED,
        EventType.LOG,
        EventType.AGENT_INVOKED,
        EventType.AGENT_COMPLETED,
        EventType.AGENT_ERROR,
        EventType.RUN_EXECUTED,
        EventType.PAYMENT_INTENT_APPROVED,
        EventType.PAYMENT_HELD,
        EventType.PAYMENT_MANDATE_MINTED,
        EventType.PAYMENT_SETTLE_REQUESTED,
        EventType.PAYMENT_SETTLED,
        EventType.PAYMENT_RECEIPT_ISSUED,
        EventType.PAYMENT_RELEASED,
        EventType.RUN_SUCCEEDED,
        EventType.RUN_FAILED,
    }
