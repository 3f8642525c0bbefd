"""The rail ``cashfree``: pre-authorised orders, refunds and payouts, over its HTTP APIs.

Everything is addressed by our own references (``order_id``, ``refund_id``, ``transfer_id``), so a look-up
needs no search. Amounts there are rupees: they are written from and read into exact decimals, never floats.
After a 5xx nothing is started anew; the status is asked for (Cashfree, "Payouts: best practices").
"""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from activities.rails.transport import Answered, RailClient
from models.canonical import canonical_json
from models.money import exponent_of, to_major
from models.payout import PayoutInstruction
from models.rail import (
    AuthoriseRequest,
    Declined,
    RailAnswer,
    RailName,
    RailRequest,
    RefundInstruction,
    Settled,
    Unknown,
)

PAYMENTS_VERSION = "2023-08-01"
PAYOUTS_VERSION = "2024-01-01"

NOT_FOUND = Unknown(reason="the rail knows nothing under the reference yet", not_found=True)

NOT_PAID = Unknown(reason="the order is open and nobody has paid it")

_NEVER_PAID = frozenset({"EXPIRED", "TERMINATED"})


class CashfreeRail:
    """Answers of Cashfree, as settled, declined or unknown."""

    name = RailName.CASHFREE
    key_lifetime = timedelta(hours=23)

    def __init__(self, base_url: str, client_id: str, client_secret: str) -> None:
        """Call the APIs at ``base_url`` (``https://api.cashfree.com``) under ``/pg`` and ``/payout``."""
        self._client = RailClient(
            base_url,
            {
                "x-client-id": client_id,
                "x-client-secret": client_secret,
                "Content-Type": "application/json",
            },
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def look_up_method(self, *, customer: str, method: str, user_id: str) -> RailAnswer:
        """Read the customer's saved instrument; customers there have our users' identifiers."""
        if customer != user_id:
            return Declined(code="not_yours", message="the customer id is not your user id")
        path = f"/pg/customers/{quote(customer, safe='')}/instruments/{quote(method, safe='')}"
        answer = await self._get(path)
        if isinstance(answer, Unknown):
            return answer
        if not answer.succeeded:
            return Declined(code="not_found", message="there is no such instrument")
        if answer.body.get("customer_id") != customer or answer.body.get("instrument_status") != "ACTIVE":
            return Declined(code="not_active", message="the instrument is not active, or not the customer's")
        return Settled(provider_ref=method, amount=0)

    async def authorise(self, *, key: str, body: bytes) -> RailAnswer:
        """Open the order of our reference and pay it with the customer's saved instrument, not captured."""
        request = AuthoriseRequest.model_validate_json(body)
        order = {
            "order_id": request.reference,
            "order_currency": request.currency,
            "customer_details": {"customer_id": request.customer, "customer_phone": request.phone},
            "order_note": request.description[:200],
        }
        opened = await self._post("/pg/orders", order, key, order_amount=_written(request))
        if isinstance(opened, Unknown):
            return opened
        if not opened.succeeded:
            # The order may be there already: its present state decides.
            refused, opened = opened, await self._get(f"/pg/orders/{quote(request.reference, safe='')}")
            if isinstance(opened, Unknown):
                return opened
            if not opened.succeeded:
                return _refused(refused)
        known = await self.look_up_authorisation(request.reference)
        if known != NOT_PAID:
            return known
        session = opened.body.get("payment_session_id")
        if not isinstance(session, str):
            return opened.untold()
        payment = {
            "payment_session_id": session,
            "payment_method": {"card": {"channel": "link", "instrument_id": request.method}},
        }
        paid = await self._post("/pg/orders/sessions", payment, f"{key}:pay")
        if isinstance(paid, Unknown):
            return paid
        if not paid.succeeded:
            return _refused(paid)
        return await self.look_up_authorisation(request.reference)

    async def look_up_authorisation(self, reference: str) -> RailAnswer:
        """Read the order's payments; an order that expired unpaid never will be."""
        payments = await self._payments(reference)
        if isinstance(payments, Unknown):
            return payments
        held = [item for item in payments if item.get("payment_status") in {"SUCCESS", "VOID"}]
        if held:
            return _amount(held, "payment_amount")
        if any(item.get("payment_status") == "PENDING" for item in payments):
            return Unknown(reason="the payer's bank works on it")
        order = await self._get(f"/pg/orders/{quote(reference, safe='')}")
        if isinstance(order, Unknown):
            return order
        if order.status == 404:
            return NOT_FOUND
        if order.body.get("order_status") in _NEVER_PAID or payments:
            return Declined(code="authorisation_declined", message=_why(payments))
        return NOT_PAID if order.succeeded else order.untold()

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        """Capture at most what is held."""
        request = RailRequest.model_validate_json(body)
        known = await self.look_up(request.reference)
        if not isinstance(known, Unknown) or known.not_found:
            return known
        return await self._resolve(request.reference, "CAPTURE", key, request)

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        """Give the hold back."""
        payments = await self._payments(reference)
        if isinstance(payments, Unknown):
            return payments
        known = _voided(payments)
        if not isinstance(known, Unknown):
            return known
        return await self._resolve(reference, "VOID", key, None)

    async def look_up(self, reference: str) -> RailAnswer:
        """Read whether the order's payment was captured."""
        payments = await self._payments(reference)
        return payments if isinstance(payments, Unknown) else _captured(payments)

    async def refund(self, *, key: str, body: bytes) -> RailAnswer:
        """Refund a part of a captured order under our ``refund_id``."""
        request = RefundInstruction.model_validate_json(body)
        path = f"/pg/orders/{quote(request.capture_reference, safe='')}/refunds"
        answer = await self._post(
            path, {"refund_id": request.reference}, key, refund_amount=_written(request)
        )
        if isinstance(answer, Unknown):
            return answer
        if answer.succeeded:
            return _refunded(answer.body)
        known = await self.look_up_refund(
            capture_reference=request.capture_reference, reference=request.reference
        )
        return _refused(answer) if isinstance(known, Unknown) and known.not_found else known

    async def look_up_refund(self, *, capture_reference: str, reference: str) -> RailAnswer:
        """Read the refund by its references."""
        path = f"/pg/orders/{quote(capture_reference, safe='')}/refunds/{quote(reference, safe='')}"
        answer = await self._get(path)
        if isinstance(answer, Unknown):
            return answer
        if answer.status == 404:
            return NOT_FOUND
        return _refunded(answer.body) if answer.succeeded else answer.untold()

    async def pay_out(self, *, key: str, body: bytes) -> RailAnswer:
        """Transfer to a beneficiary under our ``transfer_id``; the first answer is RECEIVED, not an end."""
        request = PayoutInstruction.model_validate_json(body)
        transfer = {
            "transfer_id": request.reference,
            "transfer_currency": request.currency,
            "beneficiary_details": {"beneficiary_id": request.destination},
        }
        answer = await self._post("/payout/transfers", transfer, key, transfer_amount=_written(request))
        if isinstance(answer, Unknown):
            return answer
        if answer.succeeded:
            return _transferred(answer.body)
        known = await self.look_up_payout(request.reference)
        return _refused(answer) if isinstance(known, Unknown) and known.not_found else known

    async def look_up_payout(self, reference: str) -> RailAnswer:
        """Read the transfer by its ``transfer_id``."""
        answer = await self._get("/payout/transfers", params={"transfer_id": reference})
        if isinstance(answer, Unknown):
            return answer
        if answer.status == 404:
            return NOT_FOUND
        return _transferred(answer.body) if answer.succeeded else answer.untold()

    async def _resolve(
        self, reference: str, action: str, key: str, request: RailRequest | None
    ) -> RailAnswer:
        path = f"/pg/orders/{quote(reference, safe='')}/authorization"
        amounts = {} if request is None else {"amount": _written(request)}
        answer = await self._post(path, {"action": action}, key, **amounts)
        if isinstance(answer, Unknown):
            return answer
        payments = await self._payments(reference)
        if isinstance(payments, Unknown):
            return payments
        known = _voided(payments) if request is None else _captured(payments)
        if isinstance(known, Unknown) and not known.not_found and not answer.succeeded:
            return _refused(answer)
        return known

    async def _payments(self, reference: str) -> list[dict[str, Any]] | Unknown:
        answer = await self._get(f"/pg/orders/{quote(reference, safe='')}/payments")
        if isinstance(answer, Unknown):
            return answer
        if answer.status == 404:
            return []
        items = answer.body.get("items")
        if not answer.succeeded or not isinstance(items, list):
            return answer.untold()
        return [item for item in items if isinstance(item, dict) and item.get("order_id") == reference]

    async def _get(self, path: str, params: dict[str, str] | None = None) -> Answered | Unknown:
        return await self._client.call("GET", path, params=params, headers=_version(path))

    async def _post(self, path: str, fields: dict[str, Any], key: str, **amounts: str) -> Answered | Unknown:
        """Post JSON whose ``amounts`` are decimal literals, written into the bytes as they are."""
        content = canonical_json(fields)
        for name, literal in sorted(amounts.items()):
            content = content[:-1] + f',"{name}":{literal}}}'.encode()
        # Cashfree wants a UUID: this one follows from our key.
        headers = _version(path) | {"x-idempotency-key": str(uuid.uuid5(uuid.NAMESPACE_OID, key))}
        return await self._client.call("POST", path, content=content, headers=headers)


def _version(path: str) -> dict[str, str]:
    return {"x-api-version": PAYOUTS_VERSION if path.startswith("/payout") else PAYMENTS_VERSION}


def rupees(amount: int, currency: str) -> str:
    """Write minor units as the decimal literal that Cashfree takes: 50 INR paise are ``0.50``."""
    return f"{to_major(amount, currency):f}"


def minor_units(value: object, currency: object) -> int | None:
    """Read an amount of Cashfree's exactly; None for what is no whole number of minor units."""
    if not isinstance(currency, str) or isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    try:
        scaled = Decimal(value).scaleb(exponent_of(currency))
    except (ValueError, ArithmeticError):
        return None
    return (
        int(scaled) if scaled.is_finite() and scaled == scaled.to_integral_value() and scaled >= 0 else None
    )


def _written(request: RailRequest | RefundInstruction | PayoutInstruction) -> str:
    return rupees(request.amount, request.currency)


def _settled(reference: object, value: object, currency: object) -> RailAnswer:
    amount = minor_units(value, currency)
    if amount is None or not isinstance(reference, str | int):
        return Unknown(reason="the answer has no exact amount or no reference")
    return Settled(provider_ref=str(reference), amount=amount)


def _amount(payments: list[dict[str, Any]], field: str) -> RailAnswer:
    if len(payments) != 1:
        return Unknown(reason="the order was paid more than once")
    [payment] = payments
    return _settled(payment.get("cf_payment_id"), payment.get(field), payment.get("payment_currency"))


def _captured(payments: list[dict[str, Any]]) -> RailAnswer:
    captured = [item for item in payments if item.get("is_captured") is True]
    if captured:
        if len(captured) != 1 or not isinstance(captured[0].get("authorization"), dict):
            return Unknown(reason="the captures of the order cannot be read")
        payment = captured[0]
        amount = payment["authorization"].get("captured_amount")
        return _settled(payment.get("cf_payment_id"), amount, payment.get("payment_currency"))
    if any(item.get("payment_status") == "VOID" for item in payments):
        return Declined(code="hold_voided", message="The hold was given back.")
    if any(item.get("payment_status") == "SUCCESS" for item in payments):
        return Unknown(reason="held, not captured yet")
    return NOT_FOUND


def _voided(payments: list[dict[str, Any]]) -> RailAnswer:
    if any(item.get("is_captured") is True for item in payments):
        return Declined(code="hold_captured", message="The hold was captured.")
    void = [item for item in payments if item.get("payment_status") == "VOID"]
    if void:
        return Settled(provider_ref=str(void[0].get("cf_payment_id")), amount=0)
    return Unknown(reason="not void yet")


def _refunded(refund: dict[str, Any]) -> RailAnswer:
    status = refund.get("refund_status")
    if status == "SUCCESS":
        currency = refund.get("refund_currency")
        return _settled(refund.get("cf_refund_id"), refund.get("refund_amount"), currency)
    if status in {"CANCELLED", "FAILED"}:
        return Declined(code=f"refund_{str(status).lower()}")
    return Unknown(reason=f"the rail works on it ({str(status)[:50]})")


def _transferred(transfer: dict[str, Any]) -> RailAnswer:
    status = transfer.get("status")
    if status == "SUCCESS":
        currency = transfer.get("transfer_currency", "INR")
        return _settled(transfer.get("cf_transfer_id"), transfer.get("transfer_amount"), currency)
    if status in {"FAILED", "REJECTED", "REVERSED"}:
        return Declined(code=str(transfer.get("status_code") or status)[:100])
    return Unknown(reason=f"the rail works on it ({str(status)[:50]})")


def _why(payments: list[dict[str, Any]]) -> str:
    return "; ".join(
        str(item.get("payment_message") or item.get("payment_status"))[:200] for item in payments
    )


def _refused(answer: Answered) -> RailAnswer:
    """Read an error object: Cashfree names what was wrong; anything else decides nothing."""
    code = answer.body.get("code")
    if answer.status not in {400, 402, 422} or not isinstance(code, str):
        return answer.untold()
    return Declined(code=code[:100], message=str(answer.body.get("message") or "")[:2000])
