"""What a paid run does with money, without the container: hold, run, settle or give back."""

from datetime import timedelta

from pydantic import BaseModel
from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from activities.mandate import mint_mandate
    from activities.payment import PaymentActivities
    from activities.records.database import Database
    from activities.records.runs import append_events
    from activities.signing import Signer
    from models.event import EventType, NewEvent
    from models.payment import AuthoriseHold, MintRequest, ReleaseRequest, SettleRequest
    from models.task_queues import TaskQueue
    from models.timeouts import RAIL_RETRY
    from tests.payment.shop import CODE_HASH, INPUTS_HASH

KILLED_TIMEOUT = timedelta(seconds=5)
"""After it a killed worker's activity is tried again; the product waits for a minute."""


class Order(BaseModel):
    """One paid run."""

    execution_id: str
    outside: bool
    """Whether an outside rail must hold the price first."""
    succeeds: bool


class Agents:
    """The agent's part of a run, in the process that is not killed."""

    def __init__(self, database: Database, signer: Signer) -> None:
        """Record in ``database``."""
        self._database = database
        self._signer = signer

    @activity.defn(name="run_order")
    async def run_order(self, order: Order) -> None:
        """Mint the mandate and write down that the agent executed, where it did; safe to repeat."""
        mint = MintRequest(
            execution_id=order.execution_id,
            code_hash=CODE_HASH,
            code_version="1.0.0",
            inputs_hash=INPUTS_HASH,
            timeout_ms=1_000,
        )
        async with self._database.platform() as connection:
            await mint_mandate(connection, self._signer, mint)
            if order.succeeds:
                executed = NewEvent(type=EventType.RUN_EXECUTED, key="executed")
                await append_events(connection, order.execution_id, [executed])


@workflow.defn(name="PaidOrder")
class PaidOrder:
    """The money's half of ``AgentExecution``, step by step as there."""

    @workflow.run
    async def run(self, order: Order) -> str:
        """Hold, run, settle or give back."""
        if order.outside:
            await workflow.execute_activity_method(
                PaymentActivities.authorise,
                AuthoriseHold(execution_id=order.execution_id),
                task_queue=TaskQueue.MONEY,
                start_to_close_timeout=KILLED_TIMEOUT,
                retry_policy=RAIL_RETRY,
            )
        await workflow.execute_activity_method(
            Agents.run_order, order, start_to_close_timeout=timedelta(seconds=30)
        )
        if not order.succeeds:
            await workflow.execute_activity_method(
                PaymentActivities.release,
                ReleaseRequest(execution_id=order.execution_id, reason="failed"),
                task_queue=TaskQueue.MONEY,
                start_to_close_timeout=KILLED_TIMEOUT,
                retry_policy=RAIL_RETRY,
            )
            return "released"
        outcome = await workflow.execute_activity_method(
            PaymentActivities.settle,
            SettleRequest(execution_id=order.execution_id),
            task_queue=TaskQueue.MONEY,
            start_to_close_timeout=KILLED_TIMEOUT,
            retry_policy=RAIL_RETRY,
        )
        return outcome.status
