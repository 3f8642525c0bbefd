"""Cashfree's side of the protocol: orders, pre-authorised payments, refunds and transfers, in rupees."""

import uuid
from decimal import Decimal
from json import dumps, loads
from typing import Any

from tests.rails.hostile import Call


def _error(status: int, code: str) -> tuple[int, Any]:
    return status, {"code": code, "message": code, "type": "invalid_request_error"}


class CashfreeBooks:
    """What happened at the rail. Amounts are kept as the decimals that were written."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.orders: dict[str, dict[str, Any]] = {}
        self.payments: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.transfers: dict[str, dict[str, Any]] = {}
        self.captures: list[tuple[str, Decimal]] = []
        self.hidden_reads = 0

    def holds(self) -> int:
        """How often money was held."""
        return len(self.payments)

    def payouts(self) -> int:
        """How often money was sent."""
        return len(self.transfers)

    def handle(self, call: Call) -> tuple[int, Any]:
        """Answer a request that arrived; numbers leave as literals, never as binary floats."""
        assert (call.headers["x-client-id"], call.headers["x-client-secret"]) == ("id", "secret")
        parts = call.path.strip("/").split("/")
        if call.method == "GET" and self.hidden_reads:
            self.hidden_reads -= 1
            return _error(404, "not_found")
        if call.method == "GET":
            status, answer = self._read(parts, call.query)
        else:
            status, answer = self._change(parts, loads(call.body, parse_float=Decimal))
        return status, _literal(answer).encode()

    def _read(self, parts: list[str], query: dict[str, str]) -> tuple[int, Any]:
        if parts[:2] == ["payout", "transfers"]:
            found = self.transfers.get(query["transfer_id"])
        elif parts[-1] == "payments":
            if parts[2] not in self.orders:
                return _error(404, "order_not_found")
            return 200, [self.payments[parts[2]]] if parts[2] in self.payments else []
        elif "refunds" in parts:
            found = self.refunds.get(parts[-1])
        else:
            found = self.orders.get(parts[2])
        return (200, found) if found else _error(404, "not_found")

    def _change(self, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if parts == ["pg", "orders"]:
            return self._open(body)
        if parts == ["pg", "orders", "sessions"]:
            return self._pay(body)
        if parts == ["payout", "transfers"]:
            return self._transfer(body)
        if parts[-1] == "refunds":
            return self._refund(parts[2], body)
        payment = self.payments.get(parts[2])
        if payment is None or payment["payment_status"] != "SUCCESS" or payment["is_captured"]:
            return _error(400, "authorization_invalid")
        if body["action"] == "VOID":
            payment["payment_status"] = "VOID"
            return 200, payment
        amount = Decimal(body["amount"])
        if amount > payment["payment_amount"]:
            return _error(400, "amount_invalid")
        payment["is_captured"] = True
        payment["authorization"] = {"action": "CAPTURE", "status": "SUCCESS", "captured_amount": amount}
        self.captures.append((parts[2], amount))
        return 200, payment

    def _open(self, body: dict[str, Any]) -> tuple[int, Any]:
        if not body["customer_details"]["customer_phone"]:
            return _error(400, "customer_details.customer_phone_missing")
        if body["order_id"] in self.orders:
            return _error(409, "order_already_exists")
        session = f"session_{body['order_id']}"
        self.orders[body["order_id"]] = body | {"order_status": "ACTIVE", "payment_session_id": session}
        return 200, self.orders[body["order_id"]]

    def _pay(self, body: dict[str, Any]) -> tuple[int, Any]:
        reference = body["payment_session_id"].removeprefix("session_")
        if reference in self.payments:
            return _error(400, "order_already_paid")
        order = self.orders[reference]
        declined = body["payment_method"]["card"]["instrument_id"] == "pm_declined"
        self.payments[reference] = {
            "cf_payment_id": f"cf_{uuid.uuid4().hex}",
            "order_id": reference,
            "payment_status": "FAILED" if declined else "SUCCESS",
            "payment_amount": Decimal(order["order_amount"]),
            "payment_currency": order["order_currency"],
            "payment_message": "declined by the bank" if declined else "authorised",
            "is_captured": False,
            "authorization": None,
        }
        return 200, {"cf_payment_id": "x"}

    def _refund(self, reference: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body["refund_id"] in self.refunds:
            return _error(409, "refund_already_exists")
        captured = sum(amount for order, amount in self.captures if order == reference)
        given = sum(r["refund_amount"] for r in self.refunds.values() if r["order_id"] == reference)
        if Decimal(body["refund_amount"]) + given > captured:
            return _error(400, "refund_amount_invalid")
        self.refunds[body["refund_id"]] = {
            "cf_refund_id": f"rf_{uuid.uuid4().hex}",
            "order_id": reference,
            "refund_amount": Decimal(body["refund_amount"]),
            "refund_currency": "INR",
            "refund_status": "SUCCESS",
        }
        return 200, self.refunds[body["refund_id"]]

    def _transfer(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["transfer_id"] in self.transfers:
            return _error(409, "transfer_id_exists")
        self.transfers[body["transfer_id"]] = {
            "cf_transfer_id": f"tr_{len(self.transfers)}",
            "transfer_amount": Decimal(body["transfer_amount"]),
            "transfer_currency": body["transfer_currency"],
            "status": "RECEIVED",
        }
        return 200, self.transfers[body["transfer_id"]]


def _literal(value: Any) -> str:
    """JSON with decimals written as they are."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(name)}:{_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_literal(item) for item in value) + "]"
    return dumps(value)
