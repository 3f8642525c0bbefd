"""The comparison at quiescence: the rails' books against ours, to the minor unit."""

import json
from collections import Counter, defaultdict

from activities.receipts import verify_export
from activities.records.database import Connection
from activities.records.receipts import read_entries, signed_head
from activities.signing import Verifier
from bench.kill_world import FUNDS, KillWorld
from models.receipt import ReceiptChainBrokenError
from models.wallet import hold_account, wallet_account
from tests.payment.shop import ledger_faults
from tests.rails.stripe_books import StripeBooks

_ORDERS = """
SELECT i.execution_id, i.amount, h.id AS hold, h.status AS hold_status, h.rail, s.status AS settlement,
       s.amount AS settled, p.amount AS paid,
       (SELECT count(*) FROM receipts r WHERE r.settlement_id = s.id) AS receipts,
       (SELECT coalesce(sum(l.amount), 0) FROM ledger_transactions t
        JOIN ledger_postings l ON l.transaction_id = t.id AND l.amount > 0 AND l.purpose = 'capture'
        WHERE t.reference = 'capture:' || h.id) AS wallet_captured
FROM purchase_intents i JOIN payment_holds h ON h.intent_id = i.id
LEFT JOIN settlements s ON s.intent_id = i.id LEFT JOIN payments p ON p.settlement_id = s.id
WHERE i.execution_id = ANY(%s)
"""


async def compare(world: KillWorld, books: StripeBooks) -> list[str]:
    """Return everything in which the books differ."""
    faults = await ledger_faults(world.store)
    async with world.store.platform() as connection:
        faults += await _orders(connection, world, books)
        faults += await _payouts(connection, world, books)
    async with world.store.tenant(world.shop.tenant_id) as connection:
        faults += await _receipts(connection, world)
    return faults


async def _orders(connection: Connection, world: KillWorld, books: StripeBooks) -> list[str]:
    faults: list[str] = []
    cursor = await connection.execute(_ORDERS, [[each.execution_id for each in world.orders]])
    rows = {row["execution_id"]: row for row in await cursor.fetchall()}
    captured: defaultdict[str, list[int]] = defaultdict(list)
    for reference, amount in books.captures:
        captured[reference].append(amount)
    held = Counter(each["metadata"]["reference"] for each in books.intents.values())
    open_ = {
        each["metadata"]["reference"]
        for each in books.intents.values()
        if each["status"] == "requires_capture"
    }
    spent = 0
    for order in world.orders:
        row = rows[order.execution_id]
        at_rail = (
            captured.pop(row["hold"], [])
            if row["rail"] == "stripe"
            else ([row["wallet_captured"]] if row["wallet_captured"] else [])
        )
        wanted = [row["amount"]] if order.succeeds else []
        ours = [row["settled"]] if row["settlement"] == "settled" else []
        if at_rail != wanted or ours != wanted or (row["paid"] is not None) != order.succeeds:
            faults.append(f"{order}: the rail has {at_rail}, we have {ours}, paid {row['paid']}")
        if row["receipts"] != len(wanted):
            faults.append(f"{order} has {row['receipts']} receipts")
        if row["hold_status"] != ("captured" if order.succeeds else "released") or row["hold"] in open_:
            faults.append(f"{order}: its hold is {row['hold_status']}")
        if row["rail"] == "stripe" and held[row["hold"]] != 1:
            faults.append(f"{order} was held {held[row['hold']]} times")
        spent += row["wallet_captured"]
    faults += [f"the rail collected {amounts} as {name}, unknown here" for name, amounts in captured.items()]
    keys = [
        wallet_account(world.shop.tenant_id, world.shop.user_id, "INR").id,
        hold_account(world.shop.tenant_id, world.shop.user_id, "INR").id,
    ]
    cursor = await connection.execute("SELECT id, balance FROM ledger_accounts WHERE id = ANY(%s)", [keys])
    balances = {row["id"]: row["balance"] for row in await cursor.fetchall()}
    if balances.get(keys[0]) != FUNDS - spent or balances.get(keys[1], 0) != 0:
        faults.append(f"the wallet has {balances}, {spent} was spent of {FUNDS}")
    return faults


async def _payouts(connection: Connection, world: KillWorld, books: StripeBooks) -> list[str]:
    faults: list[str] = []
    users = [each.user_id for each in world.developers]
    cursor = await connection.execute("SELECT * FROM payouts WHERE developer_id = ANY(%s)", [users])
    rows = await cursor.fetchall()
    sent: defaultdict[str, list[int]] = defaultdict(list)
    for move in books.moves.values():
        sent[move["transfer_group"]].append(move["amount"])
    for row in rows:
        found = sent.pop(row["reference"], [])
        if row["status"] != "paid" or found != [row["amount"]]:
            faults.append(f"payout {row['id']} of {row['amount']} is {row['status']}, the rail sent {found}")
    faults += [f"the rail sent {amounts} as {name}, unknown here" for name, amounts in sent.items()]
    periods = Counter((row["developer_id"], row["period"]) for row in rows)
    faults += [f"{count} payouts for {key}" for key, count in periods.items() if count > 1]
    cursor = await connection.execute(
        "SELECT a.owner_id, a.kind, a.balance, coalesce(sum(p.amount) FILTER "
        "(WHERE p.transaction_kind = 'settlement'), 0) AS earned FROM ledger_accounts a "
        "LEFT JOIN ledger_postings p ON p.account_id = a.id WHERE a.owner_id = ANY(%s) GROUP BY a.id",
        [users],
    )
    accounts = {(row["owner_id"], row["kind"]): row for row in await cursor.fetchall()}
    for user in users:
        paid = sum(row["amount"] for row in rows if row["developer_id"] == user)
        payable = accounts.get((user, "developer_payable"))
        transit = accounts.get((user, "payout_in_transit"))
        if payable is not None and payable["earned"] != payable["balance"] + paid:
            faults.append(f"{user} earned {payable['earned']}, got {paid}, has {payable['balance']}")
        if transit is not None and transit["balance"] != 0:
            faults.append(f"{transit['balance']} of {user} is in transit for ever")
    return faults


async def _receipts(connection: Connection, world: KillWorld) -> list[str]:
    header = await signed_head(connection, world.signer, world.shop.tenant_id)
    entries = await read_entries(connection, from_index=1, to_index=header.head.size, readable_by=None)
    try:
        verify_export(
            [header.line(), *(entry.line() for entry in entries)],
            Verifier.from_jwks(json.dumps(world.signer.jwks())),
        )
    except ReceiptChainBrokenError as error:
        return [error.message]
    return []
