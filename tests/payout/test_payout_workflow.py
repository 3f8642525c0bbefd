"""The weekly run and its payouts on a real Temporal server; the API on top."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from temporalio.client import Client, ScheduleOverlapPolicy

from activities.channels.email import mailbox_directory
from activities.payout import record_payout
from activities.records.runs import read_events
from activities.services import Services, open_services
from activities.temporal.client import connect
from api.app import create_app
from cli.stack.secrets import SecretStore
from models.event_data import described
from models.payout import PAYOUT_SCHEDULE_ID, PayoutRunRequest, PayoutStart, PayoutStatus, period_of
from models.rail import Declined
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.api.calling import client_of, running
from tests.builders import Marketplace, Person
from tests.eventually import eventually
from tests.histories.record import check_history
from tests.payout.office import Developer, Office
from worker import running_workers
from workflows.payout import Payout, PayoutRun
from workflows.reconciliation import Reconciliation, SettlementSweep
from workflows.schedules import ensure_schedules


@dataclass
class Treasury:
    """Worker and API in this process."""

    services: Services
    temporal: Client
    market: Marketplace
    finance: Person


@pytest.fixture(scope="module")
async def treasury(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Treasury]:
    secrets = SecretStore(tmp_path_factory.mktemp("payout-secrets"))
    changed = services.model_copy(
        update={
            "jwt_signing_key_file": secrets.issuer_key_file(),
            "jwt_jwks_url": "",
            "data_dir": tmp_path_factory.mktemp("payout-data"),
        }
    )
    async with open_services(changed, name="switchyard-test-payouts") as opened:
        temporal = await connect(changed, opened.objects)
        async with (
            running_workers(opened, temporal, [TaskQueue.CORE, TaskQueue.MONEY]),
            running(create_app(changed)) as app,
            client_of(app) as client,
        ):
            market = Marketplace(client)
            finance = await market.person("fin", "finance", tenant="platform")
            yield Treasury(opened, temporal, market, finance)


async def _earner(
    treasury: Treasury, office: Office, earned: int, rail: str = "wallet"
) -> tuple[Person, Developer]:
    """A developer who registered over the API, verified by finance."""
    person = await treasury.market.person("dev", "developer")
    developer = Developer(office.store, person.tenant_id, person.user_id)
    registered = await person.done(
        "POST", "/beneficiaries", {"currency": "INR", "destination": "b1", "name": "Dev", "rail": rail}
    )
    await treasury.finance.done("POST", f"/beneficiaries/{registered['beneficiary_id']}/verify")
    await treasury.finance.done(
        "PUT", f"/payees/{person.tenant_id}/{person.user_id}", {"kyc_status": "verified"}
    )
    await developer.earn(earned)
    return person, developer


async def _payout_of(office: Office, person: Person, period: str) -> str | None:
    async with office.store.platform() as connection:
        cursor = await connection.execute(
            "SELECT id FROM payouts WHERE developer_id = %s AND period = %s ORDER BY number DESC",
            [person.user_id, period],
        )
        row = await cursor.fetchone()
    return None if row is None else str(row["id"])


async def test_a_run_pays_and_tells_the_developer(treasury: Treasury, office: Office) -> None:
    person, developer = await _earner(treasury, office, 75_000)
    period = "2051-W10"
    run = await treasury.temporal.start_workflow(
        PayoutRun.run, PayoutRunRequest(period=period), id=f"payout-run/{period}", task_queue=TaskQueue.CORE
    )
    summary = await run.result()
    assert summary.payouts >= 1
    payout_id = await _payout_of(office, person, period)
    handle = treasury.temporal.get_workflow_handle_for(Payout.run, f"payout/{payout_id}")
    assert (await handle.result()).status is PayoutStatus.PAID
    shown = await person.done("GET", f"/payouts/{payout_id}")
    assert (shown["amount"], shown["status"], shown["statement"]["closing"]) == (75_000, "paid", 0)
    assert [each["payout_id"] for each in (await person.done("GET", "/payouts"))["items"]] == [payout_id]
    async with office.store.platform() as connection:
        events = await read_events(connection, str(payout_id))
    assert [each.type for each in events if each.type.startswith("payout.")] == [
        "payout.claimed",
        "payout.paid",
    ]
    assert [described(each.type, each.data) for each in events] == [[]] * len(events)
    assert await developer.revenue() == [(75_000, "paid_out", payout_id)]
    letters = [path.read_text() for path in mailbox_directory(treasury.services.settings).glob("*.eml")]
    assert any(period in letter and "750.00 INR" in letter for letter in letters)
    await check_history(handle, "payout/paid", treasury.services.settings)
    await check_history(run, "payout_run/paid", treasury.services.settings)


async def test_an_unknown_payout_waits_for_evidence_and_is_retried_by_finance(
    treasury: Treasury, office: Office
) -> None:
    # No rail of this name is configured here, so nobody can say what became of it.
    person, developer = await _earner(treasury, office, 75_000, rail="stripe")
    row, _ = await developer.claim("2051-W11")
    assert row is not None
    handle = await treasury.temporal.start_workflow(
        Payout.run,
        PayoutStart(payout_id=row.id, tenant_id=row.tenant_id, period=row.period),
        id=f"payout/{row.id}",
        task_queue=TaskQueue.CORE,
    )

    async def unknown() -> bool:
        return (await person.done("GET", f"/payouts/{row.id}"))["status"] == "unknown"

    await eventually(unknown)
    refused = await treasury.finance.call("POST", f"/payouts/{row.id}/retry")
    assert refused.json()["error"]["code"] == "PAYOUT_NOT_RETRYABLE"
    async with office.store.platform() as connection:
        await record_payout(connection, row.id, Declined(code="account_closed"))
    await handle.signal(Payout.rail_reported)
    assert (await handle.result()).status is PayoutStatus.FAILED
    assert await developer.payable() == 75_000
    await check_history(handle, "payout/failed", treasury.services.settings)
    await developer.register(destination="b2")
    again = await treasury.finance.done("POST", f"/payouts/{row.id}/retry", key="retry-once")
    assert again == await treasury.finance.done("POST", f"/payouts/{row.id}/retry", key="retry-once")
    assert again["number"] == 2
    retried = treasury.temporal.get_workflow_handle_for(Payout.run, f"payout/{again['payout_id']}")
    assert (await retried.result()).status is PayoutStatus.PAID
    reversed_ = await treasury.finance.done(
        "POST", f"/payouts/{again['payout_id']}/reverse", {"reason": "returned by the bank"}
    )
    assert reversed_["status"] == "reversed"
    assert await developer.payable() == 75_000


async def test_the_schedule_is_made_once_and_brought_up_to_date(treasury: Treasury) -> None:
    await ensure_schedules(treasury.temporal)
    await ensure_schedules(treasury.temporal)
    described = await treasury.temporal.get_schedule_handle(PAYOUT_SCHEDULE_ID).describe()
    assert described.schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert described.schedule.policy.catchup_window == timedelta(days=6)
    next_time = described.info.next_action_times[0].astimezone(UTC)
    assert (next_time.isoweekday(), next_time.hour, next_time.minute) == (1, 0, 0)
    # A missed week that is caught up with is paid as that week: its period is that of the nominal time.
    monday = datetime(2026, 11, 2, tzinfo=UTC)
    handle = treasury.temporal.get_schedule_handle(PAYOUT_SCHEDULE_ID)
    from temporalio.client import ScheduleBackfill

    await handle.backfill(
        ScheduleBackfill(start_at=monday - timedelta(minutes=1), end_at=monday + timedelta(minutes=1))
    )
    started = treasury.temporal.get_workflow_handle_for(PayoutRun.run, "payout-run-2026-11-02T00:00:00Z")

    async def summary() -> str | None:
        from temporalio.service import RPCError

        try:
            return (await started.result()).period
        except RPCError:
            return None

    assert await eventually(summary) == "2026-W45"


async def test_only_the_platform_s_finance_pays_others(treasury: Treasury, office: Office) -> None:
    person, _ = await _earner(treasury, office, 10)
    stranger = await treasury.market.person("fin", "finance")
    for caller in (stranger,):
        answers: list[httpx.Response] = [
            await caller.call("POST", "/payout-runs", {}),
            await caller.call("GET", "/payout-runs/plan"),
            await caller.call("PUT", f"/payees/{person.tenant_id}/{person.user_id}", {"held": False}),
        ]
        assert {answer.json()["error"]["code"] for answer in answers} == {"PLATFORM_FINANCE_REQUIRED"}
    assert (await stranger.done("GET", "/payouts"))["items"] == []


async def test_a_dry_run_tells_and_changes_nothing(treasury: Treasury, office: Office) -> None:
    person, developer = await _earner(treasury, office, 49_999)
    present = period_of(datetime.now(UTC))
    planned = await treasury.finance.done("GET", f"/payout-runs/plan?period={present}")
    mine = [each for each in planned if each["developer_id"] == person.user_id]
    assert [(each["pays"], each["reason"]) for each in mine] == [(False, "below_minimum")]
    assert await developer.payable() == 49_999
    future = await treasury.finance.call("GET", "/payout-runs/plan?period=2099-W01")
    assert future.json()["error"]["code"] == "PAYOUT_PERIOD_UNKNOWN"


async def test_the_tree_of_receipts_is_served(treasury: Treasury) -> None:
    person = await treasury.market.person("uma", "user")
    signed = await person.done("GET", "/receipts/checkpoint")
    assert (signed["checkpoint"]["size"], signed["checkpoint"]["tenant_id"]) == (0, person.tenant_id)
    refused = await person.call("GET", "/receipts/consistency?from_size=1")
    assert refused.json()["error"]["code"] == "RECEIPT_TREE_SIZE"


async def test_the_books_are_compared_by_workflow(treasury: Treasury) -> None:
    run = await treasury.temporal.start_workflow(
        Reconciliation.run, id="reconciliation-of-the-test", task_queue=TaskQueue.CORE
    )
    assert (await run.result()).found >= 0
    sweep = await treasury.temporal.start_workflow(
        SettlementSweep.run, id="sweep-of-the-test", task_queue=TaskQueue.CORE
    )
    assert (await sweep.result()).unknown == 0
    assert isinstance(await treasury.finance.done("GET", "/reconciliation/cases"), list)
    await check_history(run, "reconciliation/compared", treasury.services.settings)
    await check_history(sweep, "settlement_sweep/swept", treasury.services.settings)
