"""What must hold of a world, read from the rails' books and from PostgreSQL: research 2.6, by its numbers."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from psycopg.rows import DictRow

from activities.receipts import verify_export
from activities.records.database import Connection
from activities.records.receipts import read_entries, signed_head
from activities.signing import Verifier
from models.mandate import MANDATE_DOMAIN, MandateBody, mandate_hash
from models.money import split
from models.payment import SPLIT_BASIS_POINTS
from models.payout import MINIMUM_PAYOUT, in_transit_account
from models.receipt import ReceiptBody, ReceiptChainBrokenError
from tests.rails.world import DAILY_LIMIT, FUNDS, Purchase, World

_TABLES = ("purchase_intents", "mandates", "payment_holds", "settlements", "payments", "receipts", "refunds")

_POSTINGS = """
SELECT t.reference, t.kind, t.id AS transaction, p.amount, p.purpose, p.currency, a.kind AS account,
       a.owner_id AS owner
FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
JOIN ledger_accounts a ON a.id = p.account_id
WHERE t.tenant_id = %s
ORDER BY t.id, p.position
"""

_UNSOUND = """
SELECT a.id FROM ledger_accounts a LEFT JOIN ledger_postings p ON p.account_id = a.id
WHERE a.tenant_id = ANY(%s) GROUP BY a.id
HAVING a.balance <> coalesce(sum(p.amount), 0) OR a.last_seq <> count(p.amount)
    OR a.last_seq <> coalesce(max(p.account_seq), 0)
    OR (a.floor IS NOT NULL AND min(p.balance_after) < a.floor)
"""


class Books:
    """Our books of one world, read at one moment."""

    def __init__(self, tables: dict[str, list[DictRow]], postings: list[DictRow], unsound: list[str]) -> None:
        self.tables = tables
        self.postings = postings
        self.unsound = unsound

    def of(self, table: str, purchase: Purchase) -> list[DictRow]:
        """The rows of one purchase."""
        return [row for row in self.tables[table] if row["execution_id"] == purchase.execution_id]


async def read_books(world: World) -> Books:
    """Read everything of the world's tenant."""
    tenants = [world.shop.tenant_id, world.shop.developer.tenant_id, world.orchestrator.tenant_id]
    async with world.shop.store.platform() as connection:
        tables = {name: await _rows(connection, name, world.shop.tenant_id) for name in _TABLES}
        cursor = await connection.execute(_POSTINGS, [world.shop.tenant_id])
        postings = await cursor.fetchall()
        cursor = await connection.execute(_UNSOUND, [tenants])
        unsound = [row["id"] for row in await cursor.fetchall()]
    return Books(tables, postings, unsound)


async def _rows(connection: Connection, table: str, tenant_id: str) -> list[DictRow]:
    cursor = await connection.execute(f"SELECT * FROM {table} WHERE tenant_id = %s".encode(), [tenant_id])
    return await cursor.fetchall()


async def always(world: World, books: Books | None = None) -> list[str]:
    """Check what holds at every moment: 1, 2, 3, 7, 8, 9, 10, 11 and 12."""
    books = books or await read_books(world)
    faults = [f"1: account {each} is not its postings" for each in books.unsound]
    faults += _conserved(books)
    faults += _same_bytes(world)
    captured = await captures(world)
    for purchase in world.purchases:
        faults += _once(purchase, captured[purchase.hold_id])
        faults += _permitted(world, purchase, captured[purchase.hold_id], books)
        faults += _attested(purchase, books)
    faults += _splits(books)
    faults += _refunded(books)
    faults += _capped(books)
    faults += await _chained(world)
    return faults


async def finally_(world: World) -> list[str]:
    """Check what holds at quiescence as well: 4, 5, 6, 13, 14 and 15."""
    books = await read_books(world)
    faults = await always(world, books)
    captured = await captures(world)
    for purchase in world.purchases:
        faults += _ended(world, purchase, captured[purchase.hold_id], books)
    faults += await _wallets(world, books)
    faults += await _payouts(world)
    return faults


async def captures(world: World) -> dict[str, list[int]]:
    """What each rail collected, by hold."""
    found: dict[str, list[int]] = {}
    for name, line in world.lines.items():
        found |= await line.captured([each.hold_id for each in world.purchases if each.line == name])
    return found


def _conserved(books: Books) -> list[str]:
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    lines: Counter[str] = Counter()
    for row in books.postings:
        sums[row["transaction"], row["currency"]] += row["amount"]
        lines[row["transaction"]] += 1
    return [f"1: transaction {name} sums to {total}" for (name, _), total in sums.items() if total] + [
        f"1: transaction {name} has one line" for name, count in lines.items() if count < 2
    ]


def _same_bytes(world: World) -> list[str]:
    senders = [*world.lines.values(), world.bank]
    return [
        f"7: {len(bodies)} bodies were sent with the key {key}"
        for sender in senders
        for key, bodies in sender.sent.items()
        if len(bodies) != 1
    ]


def _once(purchase: Purchase, captured: Sequence[int]) -> list[str]:
    if len(captured) > 1:
        return [f"2: {purchase.execution_id} was collected {len(captured)} times"]
    return []


def _permitted(world: World, purchase: Purchase, captured: Sequence[int], books: Books) -> list[str]:
    if not captured:
        return []
    who = purchase.execution_id
    consumed = [row for row in books.of("mandates", purchase) if row["status"] == "consumed"]
    settlements = books.of("settlements", purchase)
    if len(consumed) != 1 or len(settlements) != 1:
        return [f"3: {who} was collected with {len(consumed)} used mandates"]
    mandate, settlement = consumed[0], settlements[0]
    body = MandateBody.model_validate_json(bytes(mandate["body"]))
    verifier: Verifier = world.shop.signer
    rules = {
        "its signature is not ours": verifier.verify(
            MANDATE_DOMAIN, bytes(mandate["body"]), bytes(mandate["signature"]), mandate["kid"]
        ),
        "its hash is not of its bytes": mandate_hash(bytes(mandate["body"])) == bytes(mandate["hash"]),
        "it had expired": settlement["requested_at"] <= mandate["expires_at"] + timedelta(seconds=1),
        "it had ended before": mandate["ended_at"] is not None
        and mandate["ended_at"] <= settlement["requested_at"] + timedelta(seconds=1),
        "it was revoked or never valid": not purchase.revoked,
        "it permits less": captured[0] <= body.amount and settlement["amount"] <= body.amount,
        "it is of another purchase": (body.execution_id, body.currency, body.payee)
        == (who, settlement["currency"], world.shop.developer.user_id),
    }
    return [f"3: {who} was collected although {fault}" for fault, holds in rules.items() if not holds]


def _attested(purchase: Purchase, books: Books) -> list[str]:
    """Exactly one receipt and, where it settled, one payment per ended settlement (12, 8)."""
    who = purchase.execution_id
    ended = [row for row in books.of("settlements", purchase) if row["status"] in {"settled", "declined"}]
    receipts = [row for row in books.of("receipts", purchase) if row["settlement_id"] is not None]
    payments = books.of("payments", purchase)
    faults: list[str] = []
    if len(receipts) != len(ended):
        faults.append(f"12: {who} has {len(receipts)} receipts for {len(ended)} ended settlements")
    settled = [row for row in ended if row["status"] == "settled"]
    if len(payments) != len(settled):
        faults.append(f"8: {who} has {len(payments)} payments for {len(settled)} settled settlements")
    for row, receipt in zip(ended, receipts, strict=False):
        body = ReceiptBody.model_validate_json(bytes(receipt["body"]))
        expected = row["amount"] if row["status"] == "settled" else 0
        mandates = {each["id"]: bytes(each["hash"]).hex() for each in books.of("mandates", purchase)}
        if body.amount != expected or receipt["outcome"] != row["status"]:
            faults.append(f"12: the receipt of {who} attests {receipt['outcome']} {body.amount}")
        if body.mandate_hash != mandates.get(row["mandate_id"]):
            faults.append(f"12: the receipt of {who} does not name its mandate")
    return faults


def _splits(books: Books) -> list[str]:
    """The developer's, the platform's and the orchestrator's lines are the exact split (9)."""
    faults: list[str] = []
    amounts = {f"settlement:{row['id']}": row["amount"] for row in books.tables["settlements"]}
    shares: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in books.postings:
        if row["kind"] == "settlement":
            shares[row["reference"]][row["purpose"]] += row["amount"]
    for reference, found in shares.items():
        expected = split(amounts[reference], SPLIT_BASIS_POINTS)
        third = found["orchestrator_share"] + found["unorchestrated_share"]
        if (found["developer_share"], found["platform_share"], third) != expected:
            faults.append(f"9: {reference} was shared {dict(found)}, not {expected}")
        for share, weight in zip(expected, SPLIT_BASIS_POINTS, strict=True):
            if abs(share * 10_000 - amounts[reference] * weight) >= 10_000:
                faults.append(f"9: {reference} is more than a unit off its quota")
    settled = {f"settlement:{row['id']}" for row in books.tables["settlements"] if row["status"] == "settled"}
    return faults + [f"9: {each} was not posted" for each in settled - shares.keys()]


def _refunded(books: Books) -> list[str]:
    """Refunds never exceed the payment, nor anybody's share of it (10)."""
    faults: list[str] = []
    by_payment: defaultdict[str, list[DictRow]] = defaultdict(list)
    for row in books.tables["refunds"]:
        by_payment[row["payment_id"]].append(row)
    taken: defaultdict[str, int] = defaultdict(int)
    for row in books.postings:
        if row["kind"] == "refund" and row["account"] != "user_wallet":
            taken[row["reference"]] -= row["amount"]
    for payment in books.tables["payments"]:
        refunds = by_payment.get(payment["id"], [])
        total = sum(row["amount"] for row in refunds)
        if total > payment["amount"]:
            faults.append(f"10: {total} of {payment['amount']} went back")
        faults += [
            f"10: the refund {row['id']} of {row['amount']} took {taken['refund:' + row['id']]}"
            for row in refunds
            if taken["refund:" + row["id"]] != row["amount"]
        ]
    return faults


def _capped(books: Books) -> list[str]:
    """What is held or collected per user and day stays below the limit (11)."""
    released = {row["intent_id"] for row in books.tables["payment_holds"] if row["status"] == "released"}
    collected = {row["intent_id"]: row["amount"] for row in books.tables["payments"]}
    spent: defaultdict[str, int] = defaultdict(int)
    for row in books.tables["purchase_intents"]:
        if row["status"] != "denied" and row["id"] not in released:
            spent[row["user_id"]] += collected.get(row["id"], row["amount"])
    return [f"11: {user} spent {amount}" for user, amount in spent.items() if amount > DAILY_LIMIT]


async def _chained(world: World) -> list[str]:
    """The tenant's whole chain verifies with the published keys, as a customer would do it (12)."""
    lines = await export(world)
    verifier = Verifier.from_jwks(json.dumps(world.shop.signer.jwks()))
    try:
        verify_export(lines, verifier)
    except ReceiptChainBrokenError as error:
        return [f"12: {error.message}"]
    return []


async def export(world: World) -> list[bytes]:
    """The tenant's receipts as the API exports them."""
    async with world.shop.store.tenant(world.shop.tenant_id) as connection:
        header = await signed_head(connection, world.shop.signer, world.shop.tenant_id)
        entries = await read_entries(connection, from_index=1, to_index=header.head.size, readable_by=None)
    return [header.line(), *(entry.line() for entry in entries)]


def _ended(world: World, purchase: Purchase, captured: Sequence[int], books: Books) -> list[str]:
    who, faults = purchase.execution_id, list[str]()
    [hold] = books.of("payment_holds", purchase)
    settlements = books.of("settlements", purchase)
    status = settlements[0]["status"] if settlements else None
    if purchase.stage != "executed" or purchase.revoked:
        if captured:
            faults.append(f"4: {who} is {purchase.stage} and was charged {captured}")
        if hold["status"] != "released" and not (settlements and purchase.stage == "executed"):
            faults.append(f"4: {who} is {purchase.stage} and its hold is {hold['status']}")
    if purchase.stage == "executed" and not purchase.revoked:
        released = purchase.release_asked and hold["status"] == "released"
        if status not in {"settled", "declined"} and not released:
            faults.append(f"5: {who} was executed and its settlement is {status}")
        if status == "declined" and not purchase.given_up:
            faults.append(f"5: {who} was declined although the rail held the money")
        if status == "settled" and hold["status"] != "captured":
            faults.append(f"8: {who} is settled and its hold is {hold['status']}")
    ours = [settlements[0]["amount"]] if status == "settled" else []
    if list(captured) != ours:
        faults.append(f"6: {who}: the rail collected {list(captured)}, our books say {ours}")
    return faults


async def _wallets(world: World, books: Books) -> list[str]:
    """Nobody's wallet lost or got what the model of the purchases does not say (4, 10, 15)."""
    balances: dict[tuple[str, str], int] = {}
    async with world.shop.store.platform() as connection:
        cursor = await connection.execute(
            "SELECT owner_id, kind, balance FROM ledger_accounts WHERE tenant_id = %s", [world.shop.tenant_id]
        )
        for row in await cursor.fetchall():
            balances[row["owner_id"], row["kind"]] = row["balance"]
    users = {row["execution_id"]: row["user_id"] for row in books.tables["purchase_intents"]}
    paid = {row["execution_id"]: row["amount"] for row in books.tables["payments"]}
    expected: defaultdict[str, int] = defaultdict(lambda: FUNDS)
    held: defaultdict[str, int] = defaultdict(int)
    for each in world.purchases:
        user = users[each.execution_id]
        expected[user] += sum(each.refunds)
        if each.line != "wallet":
            # The wallet stands in for the authorisation: an outside rail's own books decide the rest.
            expected[user] -= each.amount
            held[user] += each.amount
        else:
            expected[user] -= paid.get(each.execution_id, 0)
            hold = next(row for row in books.of("payment_holds", each))
            if hold["status"] not in {"released", "captured"} and not each.given_up:
                expected[user] -= each.amount
                held[user] += each.amount
    faults = [
        f"15: the wallet of {user} holds {balances[user, 'user_wallet']}, not {amount}"
        for user, amount in expected.items()
        if balances[user, "user_wallet"] != amount
    ]
    return faults + [
        f"4: {balances[user, 'user_hold']} is held of {user}, not {held[user]}"
        for user in expected
        if balances.get((user, "user_hold"), 0) != held[user]
    ]


async def _payouts(world: World) -> list[str]:
    """Each share leaves once, in a payout of its own period, and nothing is lost on the way (13, 14)."""
    rows, postings, balances = await _payout_books(world)
    faults: list[str] = []
    live = Counter(row["period"] for row in rows if row["status"] not in {"failed", "reversed"})
    faults += [f"14: {count} payouts of {period}" for period, count in live.items() if count > 1]
    for row in rows:
        left = world.bank.transfers.get(row["reference"], [])
        if row["amount"] < MINIMUM_PAYOUT:
            faults.append(f"13: {row['amount']} left, below the minimum")
        wanted = [] if row["status"] == "failed" else [row["amount"]]
        if left != wanted:
            faults.append(f"14: the bank sent {left} for a payout of {row['amount']} that is {row['status']}")
        if row["status"] not in {"paid", "failed", "reversed"}:
            faults.append(f"5: the payout {row['id']} is {row['status']}")
    unknown = world.bank.transfers.keys() - {row["reference"] for row in rows}
    faults += [f"14: the bank sent {each}, which is no payout" for each in unknown]
    earned = sum(row["amount"] for row in postings if row["kind"] in {"settlement", "refund"})
    paid = sum(row["amount"] for row in rows if row["status"] == "paid")
    moving = sum(row["amount"] for row in rows if row["status"] in {"claimed", "submitted", "unknown"})
    if earned != balances["payable"] + moving + paid:
        faults.append(f"13: {earned} was earned, {balances['payable']} is payable, {paid} was paid")
    if balances["transit"] != moving:
        faults.append(f"13: {balances['transit']} is in transit, not {moving}")
    returned = Counter(row["reference"] for row in postings if row["kind"] == "payout_return")
    faults += [f"13: {name} came back {count} times" for name, count in returned.items() if count > 1]
    return faults


async def _payout_books(world: World) -> tuple[list[DictRow], list[DictRow], dict[str, int]]:
    developer = world.shop.developer
    transit = in_transit_account(developer.tenant_id, developer.user_id, "INR").id
    async with world.shop.store.platform() as connection:
        cursor = await connection.execute(
            "SELECT * FROM payouts WHERE account_id = %s", [world.developer_account]
        )
        rows = await cursor.fetchall()
        cursor = await connection.execute(
            "SELECT t.reference, t.kind, p.amount FROM ledger_postings p "
            "JOIN ledger_transactions t ON t.id = p.transaction_id WHERE p.account_id = %s",
            [world.developer_account],
        )
        postings = await cursor.fetchall()
        cursor = await connection.execute(
            "SELECT id, balance FROM ledger_accounts WHERE id = ANY(%s)", [[world.developer_account, transit]]
        )
        found: dict[Any, int] = {row["id"]: row["balance"] for row in await cursor.fetchall()}
    balances = {"payable": found.get(world.developer_account, 0), "transit": found.get(transit, 0)}
    return rows, postings, balances
