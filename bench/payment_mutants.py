"""The mutations: each takes one guard of the payment core away, as a plausible mistake would."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One guard, and how the code looks without it.

    Attributes:
        name: What is missing.
        file: Where.
        old: The guard; it occurs there once.
        new: What stands in its place.
    """

    name: str
    file: str
    old: str
    new: str


SETTLEMENT = "activities/settlement.py"
PURCHASE = "activities/purchase.py"
MANDATE = "activities/mandate.py"
PAYOUT = "activities/payout.py"
PAYOUTS = "activities/records/payout.py"
LEDGER = "activities/records/ledger.py"
PAYMENT = "activities/records/payment.py"
RECEIPTS = "activities/records/receipts.py"
VERIFY = "activities/receipts.py"
REFUND = "activities/refund.py"
WALLET = "activities/rails/wallet.py"
STRIPE = "activities/rails/stripe.py"
CASHFREE = "activities/rails/cashfree.py"
TRANSPORT = "activities/rails/transport.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "settle: the body is rebuilt, not the stored one",
        SETTLEMENT,
        "return await rail.capture(key=settlement.idempotency_key, body=settlement.request_body)",
        "return await rail.capture(key=settlement.idempotency_key, body=settlement.request_body.replace("
        'b\'"description":"\', b\'"description":"\' + str(settlement.attempts).encode()))',
    ),
    Mutant(
        "settle: a new key for each attempt",
        SETTLEMENT,
        "rail.capture(key=settlement.idempotency_key,",
        "rail.capture(key=f'{settlement.idempotency_key}{settlement.attempts}',",
    ),
    Mutant(
        "settle: the outcome is not sticky",
        SETTLEMENT,
        "        return await _outcome(connection, settlement)\n    if isinstance(answer, Settled) and",
        "    if isinstance(answer, Settled) and",
    ),
    Mutant(
        "settle: not found means that it never happened",
        SETTLEMENT,
        "            if not isinstance(found, Unknown) or age >= rail.key_lifetime:",
        "            if isinstance(found, Unknown) and found.not_found:\n"
        '                return Declined(code="not_found")\n'
        "            if not isinstance(found, Unknown) or age >= rail.key_lifetime:",
    ),
    Mutant(
        "settle: unknown means that it never happened",
        SETTLEMENT,
        "            if not isinstance(found, Unknown) or age >= rail.key_lifetime:\n"
        "                return found",
        "            if isinstance(found, Unknown):\n"
        '                return Declined(code="not_found")\n'
        "            return found",
    ),
    Mutant(
        "settle: a call that fails is a decline",
        SETTLEMENT,
        'return Unknown(reason=f"the call failed ({type(error).__name__})")',
        'return Declined(code="failed")',
    ),
    Mutant(
        "settle: sent again without looking",
        SETTLEMENT,
        "        if age is not None:\n            found",
        "        if age is not None and age > rail.key_lifetime:\n            found",
    ),
    Mutant(
        "settle: sent again after the key's lifetime",
        SETTLEMENT,
        "if not isinstance(found, Unknown) or age >= rail.key_lifetime:",
        "if not isinstance(found, Unknown):",
    ),
    Mutant(
        "settle: another amount is taken for the one that was asked for",
        SETTLEMENT,
        "    if isinstance(answer, Settled) and answer.amount != settlement.amount:\n"
        "        answer = Unknown(",
        "    if False:\n        answer = Unknown(",
    ),
    Mutant(
        "settle: what did not execute is charged",
        SETTLEMENT,
        "if run.status in TERMINAL_STATUSES or not executed:",
        "if run.status in TERMINAL_STATUSES:",
    ),
    Mutant(
        "settle: the mandate is not used up",
        SETTLEMENT,
        "    await end_mandate(connection, mandate.id, MandateStatus.CONSUMED)\n",
        "",
    ),
    Mutant(
        "settle: any mandate will do, revoked ones too",
        SETTLEMENT,
        "        if mandate.status is MandateStatus.ACTIVE:\n            return mandate",
        "        if mandate.status is not MandateStatus.CONSUMED:\n            return mandate",
    ),
    Mutant(
        "settle: more than the mandate permits",
        SETTLEMENT,
        "    if amount > body.amount:",
        "    if amount > 2 * body.amount:",
    ),
    Mutant(
        "settle: for other code than the mandate's",
        SETTLEMENT,
        "if request.code_hash not in (None, body.code_hash):",
        "if False:",
    ),
    Mutant(
        "settle: for other inputs than the mandate's",
        SETTLEMENT,
        "if request.inputs_hash not in (None, body.inputs_hash):",
        "if False:",
    ),
    Mutant(
        "settle: an edited policy has no say",
        SETTLEMENT,
        "    if policy.rules_hash != intent.policy_hash:",
        "    if False:",
    ),
    Mutant(
        "settle: the hold is not looked at",
        SETTLEMENT,
        "    hold = await require_hold(connection, intent)",
        "    hold = await lock_hold(connection, intent.id)",
    ),
    Mutant(
        "settle: the rest of the day's limit is not given back",
        SETTLEMENT,
        "    await uncount(connection, intent, intent.amount - settlement.amount)\n",
        "",
    ),
    Mutant(
        "settle: no receipt for a decline",
        SETTLEMENT,
        "    return _described(settlement, None, receipt.id)",
        "    raise RuntimeError(receipt.id)",
    ),
    Mutant(
        "settle: a receipt of the amount although declined",
        SETTLEMENT,
        "amount=settlement.amount if settled else 0,",
        "amount=settlement.amount,",
    ),
    Mutant(
        "locks: the settlement's row is not locked",
        PAYMENT,
        '"SELECT * FROM settlements WHERE id = %s FOR UPDATE", [settlement_id]',
        '"SELECT * FROM settlements WHERE id = %s", [settlement_id]',
    ),
    Mutant(
        "locks: the run's row is not locked",
        "activities/records/runs.py",
        '_LOCK = "SELECT * FROM runs WHERE id = %s FOR UPDATE"',
        '_LOCK = "SELECT * FROM runs WHERE id = %s"',
    ),
    Mutant(
        "locks: the wallet's hold is not locked",
        WALLET,
        '"SELECT * FROM wallet_holds WHERE reference = %s FOR UPDATE"',
        '"SELECT * FROM wallet_holds WHERE reference = %s"',
    ),
    Mutant(
        "locks: the chain's head is not locked",
        RECEIPTS,
        "FROM receipt_chains WHERE tenant_id = %s FOR UPDATE",
        "FROM receipt_chains WHERE tenant_id = %s",
    ),
    Mutant(
        "locks: accounts in the order of the lines",
        LEDGER,
        'ORDER BY p.account_id, p.position\n"""\n\n_POSTED',
        'ORDER BY p.position\n"""\n\n_POSTED',
    ),
    Mutant(
        "locks: the payout's row is not locked",
        PAYOUTS,
        '"SELECT * FROM payouts WHERE id = %s FOR UPDATE"',
        '"SELECT * FROM payouts WHERE id = %s"',
    ),
    Mutant(
        "locks: a claim does not lock its accounts",
        PAYOUTS,
        "    await connection.execute(_LOCK, [found.ids + [key.id for key in found.transit]])\n",
        "",
    ),
    Mutant(
        "mandate: the signature is not verified",
        MANDATE,
        "    if not verifier.verify(MANDATE_DOMAIN, mandate.body, mandate.signature, body.kid):",
        "    if False:",
    ),
    Mutant(
        "mandate: it may be of another purchase",
        MANDATE,
        "        if getattr(body, field) != value:",
        "        if False:",
    ),
    Mutant(
        "mandate: expiry is not looked at",
        MANDATE,
        "    if not body.nbf <= now.timestamp() < body.exp or "
        "body.exp > body.iat + MANDATE_LIFETIME_SECONDS:",
        "    if False:",
    ),
    Mutant(
        "release: a settlement under way does not refuse it",
        PURCHASE,
        "    if settlement is not None and settlement.status is not SettlementStatus.DECLINED:",
        "    if False:",
    ),
    Mutant(
        "release: the mandate stays",
        PURCHASE,
        "            await end_mandate(connection, mandate.id, MandateStatus.REVOKED)\n    hold",
        "            pass\n    hold",
    ),
    Mutant(
        "release: a void without an answer is one",
        PURCHASE,
        "    if not isinstance(answer, Settled):\n        reason",
        "    if False:\n        reason",
    ),
    Mutant(
        "policy: sums are not limited",
        "activities/records/policies.py",
        "    _judge(await cursor.fetchall(), spending, limits)\n\n\nasync def give_back",
        "    await cursor.fetchall()\n\n\nasync def give_back",
    ),
    Mutant(
        "split: the remainder is lost",
        "models/money.py",
        "    for place in by_remainder[: amount - sum(shares)]:\n        shares[place] += 1\n",
        "    by_remainder.clear()\n",
    ),
    Mutant(
        "split: the remainder goes to the first",
        "models/money.py",
        "    by_remainder = sorted(range(len(weights)), key=lambda place: -remainders[place])",
        "    by_remainder = [0] * len(weights) if remainders else []",
    ),
    Mutant(
        "ledger: a reference may be posted again with other lines",
        LEDGER,
        '    if row is None or row["kind"] != transaction.kind or row["lines"] not in (striped, whole):',
        "    if row is None:",
    ),
    Mutant(
        "wallet: captured twice",
        WALLET,
        "            if found.status is WalletHoldStatus.CAPTURED:\n                if found.capture_key",
        "            if False:\n                if found.capture_key",
    ),
    Mutant(
        "wallet: a key may come with another body",
        WALLET,
        "if found.capture_key == key and found.capture_body_hash != digest:",
        "if False:",
    ),
    Mutant(
        "wallet: what was voided is captured",
        WALLET,
        "            if found.status is WalletHoldStatus.VOIDED:\n                return Declined(code",
        "            if False:\n                return Declined(code",
    ),
    Mutant(
        "wallet: what was captured is voided",
        WALLET,
        '                return Declined(code="hold_captured", message="The hold was captured.")',
        "                pass",
    ),
    Mutant(
        "refund: more than was paid",
        REFUND,
        "    if not 0 < amount <= left:",
        "    if not 0 < amount:",
    ),
    Mutant(
        "refund: the same one twice",
        REFUND,
        "        if each.refund_id == refund_id:\n            return each",
        "        if False:\n            return each",
    ),
    Mutant(
        "refund: the split is not unwound but taken anew",
        "models/refund.py",
        "    after = split(total - refunded - amount, SPLIT_BASIS_POINTS)\n",
        "    after = (0, 0, 0)\n    before = split(amount, SPLIT_BASIS_POINTS)\n",
    ),
    Mutant(
        "receipts: the chain's link is not part of the hash",
        "models/receipt.py",
        'b"\\x00" + RECEIPT_DOMAIN + prev_hash + chain_index',
        'b"\\x00" + RECEIPT_DOMAIN + chain_index',
    ),
    Mutant(
        "receipts: a cut tail verifies",
        VERIFY,
        "    if result.receipts != head.size:",
        "    if False:",
    ),
    Mutant(
        "receipts: a wrong signature verifies",
        VERIFY,
        "    if not verifier.verify(RECEIPT_DOMAIN, computed, bytes.fromhex(entry.signature), entry.kid):",
        "    if False:",
    ),
    Mutant(
        "receipts: changed contents verify",
        VERIFY,
        "        if body_hash(entry.body.canonical()) != digest:",
        "        if False:",
    ),
    Mutant(
        "receipts: any form of a line verifies",
        VERIFY,
        "    if canonical != line:",
        "    if False:",
    ),
    Mutant(
        "payout: the outcome is not sticky",
        PAYOUT,
        "    if row.status in ENDED_PAYOUTS:\n        return _state(row)\n"
        "    if isinstance(answer, Settled) and",
        "    if isinstance(answer, Settled) and",
    ),
    Mutant(
        "payout: an ended one is sent again",
        PAYOUT,
        "        if row.status in ENDED_PAYOUTS:\n            return _stored_answer(row)\n",
        "",
    ),
    Mutant(
        "payout: a call that fails is a failed payout",
        PAYOUT,
        'return Unknown(reason=f"the call failed ({type(error).__name__})")',
        'return Declined(code="failed")',
    ),
    Mutant(
        "payout: not found means that it never left",
        PAYOUT,
        "            if not isinstance(found, Unknown) or",
        "            if isinstance(found, Unknown):\n"
        '                return Declined(code="not_found")\n'
        "            if not isinstance(found, Unknown) or",
    ),
    Mutant(
        "payout: the reversal is recorded again",
        PAYOUT,
        "    if row.status is PayoutStatus.REVERSED:\n        return _state(row)\n",
        "",
    ),
    Mutant(
        "payout: a reversed payout's money is lost",
        PAYOUT,
        "    await post(connection, returned(row, AccountKind.BANK))\n",
        "",
    ),
    Mutant(
        "payout: the minimum is not looked at",
        "models/payout.py",
        "        (payable.amount < MINIMUM_PAYOUT, RollOver.BELOW_MINIMUM),\n",
        "",
    ),
    Mutant(
        "payout: KYC is not looked at",
        "models/payout.py",
        "        (payable.kyc_status is not KycStatus.VERIFIED, RollOver.KYC_NOT_VERIFIED),\n",
        "",
    ),
    Mutant(
        "payout: the hold is not looked at",
        "models/payout.py",
        "        (payable.held, RollOver.ON_HOLD),\n",
        "",
    ),
    Mutant(
        "payout: this week's earnings are paid with the last one's",
        PAYOUTS,
        "    WHERE account_id = a.id AND created_at < %(before)s ORDER BY account_seq DESC LIMIT 1",
        "    WHERE account_id = a.id AND %(before)s IS NOT NULL ORDER BY account_seq DESC LIMIT 1",
    ),
    Mutant(
        "payout: a second one in the same period",
        PAYOUTS,
        "        if payable.live:\n            continue\n",
        "",
    ),
    Mutant(
        "rail: a 5xx is read as an answer",
        TRANSPORT,
        "        if response.status_code >= 500 or response.status_code in UNTOLD:",
        "        if response.status_code in UNTOLD:",
    ),
    Mutant(
        "rail: a lost answer is an answer",
        TRANSPORT,
        'return Unknown(reason=f"no answer ({type(error).__name__})")',
        "return Answered(400, {'error': {'type': 'card_error', 'message': type(error).__name__}})",
    ),
    Mutant(
        "stripe: what was captured already is a refusal",
        STRIPE,
        "        return await self._resolved(answer, request.reference, _captured)",
        "        if not isinstance(answer, Unknown) and not answer.succeeded:\n"
        "            return _refused(answer)\n"
        "        return await self._resolved(answer, request.reference, _captured)",
    ),
)
"""Every guard that is code."""
