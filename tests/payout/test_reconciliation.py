"""Nothing is left lying: owed settlements are finished, and what disagrees is a case."""

from pathlib import Path

import pytest

from activities.rails.registry import open_rails
from activities.reconciliation import reconcile_books, sweep_settlements
from activities.records.database import Database
from activities.records.reconciliation import compare, keep_findings, list_cases, resolve_case
from activities.settlement import record_settlement, send_settlement
from activities.signing import Signer, generate_key
from models.payment import SettleRequest
from models.reconciliation import CaseKind, CaseNotFoundError, Finding
from tests.payment.shop import Shop
from tests.payout.office import Office


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory: Path = tmp_path_factory.mktemp("reconciliation-keys")
    generate_key(directory, "key-1")
    return Signer.from_directory(directory)


@pytest.fixture
def shop(store: Database, signer: Signer) -> Shop:
    return Shop(store, signer, open_rails(store))


@pytest.mark.parametrize("sent", [False, True])
async def test_a_settlement_whose_workflow_is_gone_is_finished(shop: Shop, sent: bool) -> None:
    await shop.fund(50)
    execution_id = await shop.executed(50)
    async with shop.store.platform() as connection:
        recorded = await record_settlement(connection, shop.signer, SettleRequest(execution_id=execution_id))
    if sent:
        await send_settlement(shop.store, shop.rails, recorded.id)
    summary = await sweep_settlements(shop.store, shop.rails, shop.signer, older_than_seconds=0)
    assert summary.finished >= 1
    assert (await shop.earned(), await shop.held()) == (35, 0)
    (settlement,) = await shop.rows("settlements")
    assert settlement["status"] == "settled"


async def test_books_that_agree_have_no_case(shop: Shop, office: Office) -> None:
    await shop.fund(50)
    await shop.settle(await shop.executed(50))
    developer = await office.developer(earned=50_000)
    row, _ = await developer.claim()
    assert row is not None
    await office.open(row)
    await office.send(row)
    async with shop.store.platform() as connection:
        mine = {row.id, row.reference, shop.tenant_id}
        assert [each for each in await compare(connection) if each.subject_id in mine] == []


async def test_a_payout_that_the_bank_knows_nothing_of_is_a_case_once(office: Office) -> None:
    developer = await office.developer(earned=50_000)
    row, _ = await developer.claim()
    assert row is not None
    async with office.store.platform() as connection:
        await connection.execute("UPDATE payouts SET status = 'paid' WHERE id = %s", [row.id])
    await reconcile_books(office.store)
    await reconcile_books(office.store)
    async with office.store.platform() as connection:
        mine = [each for each in await list_cases(connection, resolved=False) if each.subject_id == row.id]
    assert {each.kind for each in mine} == {CaseKind.PAYOUT_WITHOUT_TRANSFER, CaseKind.PAYOUT_WITHOUT_POSTING}
    assert {each.evidence["ours"] for each in mine} == {50_000}


async def test_a_case_is_resolved_once_and_opens_again_if_it_goes_on(office: Office) -> None:
    finding = Finding(kind=CaseKind.ACCOUNT_UNSOUND, subject_id="acct_of_this_test", evidence={"a": 1})
    async with office.store.platform() as connection:
        assert await keep_findings(connection, [finding]) == 1
        assert await keep_findings(connection, [finding]) == 0
        cases = await list_cases(connection, resolved=False)
        (case,) = [each for each in cases if each.subject_id == "acct_of_this_test"]
        resolved = await resolve_case(connection, case.case_id, "counted again", "fin")
        assert (resolved.resolved_by, resolved.resolution) == ("fin", "counted again")
        with pytest.raises(CaseNotFoundError):
            await resolve_case(connection, case.case_id, "again", "fin")
        assert await keep_findings(connection, [finding]) == 1
        assert case.case_id in {each.case_id for each in await list_cases(connection, resolved=True)}
        for each in await list_cases(connection, resolved=False):
            if each.subject_id == "acct_of_this_test":
                await resolve_case(connection, each.case_id, "of the test", "fin")
