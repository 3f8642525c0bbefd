"""Stripe's side of the protocol: intents, refunds and transfers, idempotency keys as documented."""

import re
import uuid
from typing import Any
from urllib.parse import parse_qsl

from tests.rails.hostile import Call


def _error(status: int, code: str, kind: str = "invalid_request_error") -> tuple[int, Any]:
    return status, {"error": {"type": kind, "code": code, "message": code}}


class StripeBooks:
    """What happened at the rail."""

    def __init__(self) -> None:
        """Begin with nothing, and with cards that pay unless their name says otherwise."""
        self.intents: dict[str, dict[str, Any]] = {}
        self.moves: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, tuple[bytes, tuple[int, Any]]] = {}
        self.hidden_reads = 0
        self.captures: list[tuple[str, int]] = []
        self.customers: dict[str, str] = {}
        """Customer → our user, as its metadata says."""
        self.methods: dict[str, str] = {}
        """Stored method → customer."""
        self.pending_refunds = False

    def card_of(self, reference: str) -> str:
        """Which stored method was charged for a reference of ours."""
        [found] = [each for each in self.intents.values() if each["metadata"]["reference"] == reference]
        card: str = found["payment_method"]
        return card

    def finish_refunds(self) -> None:
        """Let the bank finish what it works on."""
        for move in self.moves.values():
            if move.get("status") == "pending":
                move["status"] = "succeeded"

    def holds(self) -> int:
        """How often money was held."""
        return len(self.intents)

    def payouts(self) -> int:
        """How often money was sent."""
        return len(self.moves)

    def handle(self, call: Call) -> tuple[int, Any]:
        """Answer a request that arrived."""
        assert call.headers["authorization"] == "Bearer sk_test"
        if call.method == "GET":
            return self._read(call)
        key = call.headers["idempotency-key"]
        if key in self.keys:
            body, answer = self.keys[key]
            return answer if body == call.body else _error(400, "idempotency_mismatch", "idempotency_error")
        answer = self._change(call.path, dict(parse_qsl(call.body.decode())))
        self.keys[key] = (call.body, answer)
        return answer

    def _read(self, call: Call) -> tuple[int, Any]:
        if call.path == "/v1/payment_intents/search":
            if self.hidden_reads:
                self.hidden_reads -= 1
                return 200, {"data": []}
            wanted = re.fullmatch(r"metadata\['reference'\]:'(.*)'", call.query["query"])
            assert wanted is not None
            found = [i for i in self.intents.values() if i["metadata"]["reference"] == wanted[1]]
            return 200, {"data": [dict(item) | {"status": "stale"} for item in found]}
        if call.path in {"/v1/refunds", "/v1/transfers"}:
            field = "payment_intent" if call.path == "/v1/refunds" else "transfer_group"
            found = [i for i in self.moves.values() if i.get(field) == call.query[field]]
            return 200, {"data": found}
        name = call.path.rsplit("/", 1)[1]
        if call.path.startswith("/v1/customers/"):
            owner = self.customers.get(name)
            return (200, {"id": name, "metadata": {"user_id": owner}}) if owner else _error(404, "missing")
        if call.path.startswith("/v1/payment_methods/"):
            customer = self.methods.get(name)
            return (200, {"id": name, "customer": customer}) if customer else _error(404, "missing")
        intent = self.intents.get(name)
        return (200, dict(intent)) if intent else _error(404, "resource_missing")

    def _change(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        if path == "/v1/payment_intents":
            return self._create(form)
        if path in {"/v1/refunds", "/v1/transfers"}:
            return self._move(form)
        intent = self.intents[path.split("/")[3]]
        if intent["status"] != "requires_capture":
            return _error(400, "payment_intent_unexpected_state")
        if path.endswith("/cancel"):
            intent.update(status="canceled", amount_capturable=0)
            return 200, dict(intent)
        amount = int(form["amount_to_capture"])
        if amount > intent["amount_capturable"]:
            return _error(400, "amount_too_large")
        intent.update(status="succeeded", amount_capturable=0, amount_received=amount)
        self.captures.append((intent["metadata"]["reference"], amount))
        return 200, dict(intent)

    def _create(self, form: dict[str, str]) -> tuple[int, Any]:
        amount = int(form["amount"])
        assert (form["capture_method"], form["confirm"], form["off_session"]) == ("manual", "true", "true")
        declined = form["payment_method"] == "pm_declined"
        intent: dict[str, Any] = {
            "id": f"pi_{uuid.uuid4().hex}",
            "status": "requires_payment_method" if declined else "requires_capture",
            "amount": amount,
            "amount_capturable": 0 if declined else amount,
            "amount_received": 0,
            "currency": form["currency"],
            "metadata": {"reference": form["metadata[reference]"]},
            "payment_method": form["payment_method"],
        }
        self.intents[intent["id"]] = intent
        if declined:
            return 402, {"error": {"type": "card_error", "decline_code": "do_not_honor", "message": "no"}}
        return 200, dict(intent)

    def _move(self, form: dict[str, str]) -> tuple[int, Any]:
        amount = int(form["amount"])
        source = form.get("payment_intent")
        if source is not None:
            given = sum(m["amount"] for m in self.moves.values() if m.get("payment_intent") == source)
            if amount + given > self.intents[source]["amount_received"]:
                return _error(400, "charge_already_refunded")
        moved: dict[str, Any] = {
            "id": f"mv_{uuid.uuid4().hex}",
            "amount": amount,
            "metadata": {"reference": form["metadata[reference]"]},
        }
        if source is not None:
            status = "pending" if self.pending_refunds else "succeeded"
            moved |= {"payment_intent": source, "status": status}
        else:
            moved |= {"transfer_group": form["transfer_group"], "reversed": False}
        self.moves[moved["id"]] = moved
        return 200, dict(moved)
