"""The rail ``stripe``: PaymentIntents with manual capture, over its HTTP API.

Spoken directly rather than with Stripe's library, because keys, bytes and repetitions are the settle
protocol's: the form that is sent follows from the stored request alone, and nothing is retried behind it.
Our reference travels as ``metadata[reference]``; look-ups search for it and then read the object itself,
because the search index is behind (docs.stripe.com/search: under a minute, as a rule). Stripe replays the
first answer of a key, 500s included, and forgets keys after 24 hours.
"""

from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from activities.rails.transport import Answered, RailClient
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

API_VERSION = "2024-06-20"

NOT_FOUND = Unknown(reason="the rail knows nothing under the reference yet", not_found=True)

_NEVER_AUTHORISED = frozenset({"requires_payment_method", "requires_confirmation", "canceled"})


class StripeRail:
    """Answers of Stripe, as settled, declined or unknown."""

    name = RailName.STRIPE
    key_lifetime = timedelta(hours=23)

    def __init__(self, base_url: str, api_key: str) -> None:
        """Call the API at ``base_url`` (``https://api.stripe.com``) with a secret or restricted key."""
        self._client = RailClient(
            base_url, {"Authorization": f"Bearer {api_key}", "Stripe-Version": API_VERSION}
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def look_up_method(self, *, customer: str, method: str, user_id: str) -> RailAnswer:
        """Read the customer, whose ``metadata[user_id]`` says who it is, and the method attached to it."""
        for path, named in (
            (f"/v1/customers/{quote(customer, safe='')}", "customer"),
            (f"/v1/payment_methods/{quote(method, safe='')}", "payment method"),
        ):
            answer = await self._client.call("GET", path)
            if isinstance(answer, Unknown):
                return answer
            if not answer.succeeded or answer.body.get("deleted") is True:
                return Declined(code="not_found", message=f"there is no such {named}")
            if named == "customer":
                metadata = answer.body.get("metadata")
                owner = metadata.get("user_id") if isinstance(metadata, dict) else None
                if owner != user_id:
                    return Declined(code="not_yours", message="the customer's metadata[user_id] is not yours")
            elif answer.body.get("customer") != customer:
                return Declined(code="not_attached", message="the method is not attached to the customer")
        return Settled(provider_ref=method, amount=0)

    async def authorise(self, *, key: str, body: bytes) -> RailAnswer:
        """Hold an amount on the customer's stored payment method, without the customer being there."""
        request = AuthoriseRequest.model_validate_json(body)
        form = {
            "amount": str(request.amount),
            "currency": request.currency.lower(),
            "capture_method": "manual",
            "confirm": "true",
            "off_session": "true",
            "customer": request.customer,
            "payment_method": request.method,
            "description": request.description,
            "metadata[reference]": request.reference,
        }
        answer = await self._post("/v1/payment_intents", form, key)
        if isinstance(answer, Unknown):
            return answer
        if answer.succeeded:
            return _authorised(answer.body)
        return _refused(answer)

    async def look_up_authorisation(self, reference: str) -> RailAnswer:
        """Read the intent's present state."""
        intent = await self._find(reference)
        return intent if isinstance(intent, Unknown) else _authorised(intent)

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        """Capture at most what is held; Stripe releases the rest."""
        request = RailRequest.model_validate_json(body)
        intent = await self._find(request.reference)
        if isinstance(intent, Unknown):
            return intent
        known = _captured(intent)
        if not isinstance(known, Unknown):
            return known
        if intent.get("currency") != request.currency.lower():
            return Declined(code="currency_mismatch", message="The hold is in another currency.")
        path = f"/v1/payment_intents/{quote(str(intent['id']), safe='')}/capture"
        answer = await self._post(path, {"amount_to_capture": str(request.amount)}, key)
        return await self._resolved(answer, request.reference, _captured)

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        """Cancel the intent."""
        intent = await self._find(reference)
        if isinstance(intent, Unknown):
            return intent
        known = _voided(intent)
        if not isinstance(known, Unknown):
            return known
        path = f"/v1/payment_intents/{quote(str(intent['id']), safe='')}/cancel"
        return await self._resolved(await self._post(path, {}, key), reference, _voided)

    async def look_up(self, reference: str) -> RailAnswer:
        """Read whether the intent was captured."""
        intent = await self._find(reference)
        return intent if isinstance(intent, Unknown) else _captured(intent)

    async def refund(self, *, key: str, body: bytes) -> RailAnswer:
        """Refund a part of a captured intent."""
        request = RefundInstruction.model_validate_json(body)
        intent = await self._find(request.capture_reference)
        if isinstance(intent, Unknown):
            return intent
        form = {
            "payment_intent": str(intent["id"]),
            "amount": str(request.amount),
            "metadata[reference]": request.reference,
        }
        answer = await self._post("/v1/refunds", form, key)
        if isinstance(answer, Unknown):
            return answer
        return _moved(answer.body) if answer.succeeded else _refused(answer)

    async def look_up_refund(self, *, capture_reference: str, reference: str) -> RailAnswer:
        """Find the refund among those of the capture."""
        intent = await self._find(capture_reference)
        if isinstance(intent, Unknown):
            return intent
        params = {"payment_intent": str(intent["id"]), "limit": "100"}
        return _one_of(await self._client.call("GET", "/v1/refunds", params=params), reference)

    async def pay_out(self, *, key: str, body: bytes) -> RailAnswer:
        """Transfer to a developer's connected account."""
        request = PayoutInstruction.model_validate_json(body)
        form = {
            "amount": str(request.amount),
            "currency": request.currency.lower(),
            "destination": request.destination,
            "transfer_group": request.reference,
            "metadata[reference]": request.reference,
        }
        answer = await self._post("/v1/transfers", form, key)
        if isinstance(answer, Unknown):
            return answer
        return _moved(answer.body) if answer.succeeded else _refused(answer)

    async def look_up_payout(self, reference: str) -> RailAnswer:
        """Find the transfer by its group."""
        params = {"transfer_group": reference, "limit": "100"}
        return _one_of(await self._client.call("GET", "/v1/transfers", params=params), reference)

    async def _post(self, path: str, form: dict[str, str], key: str) -> Answered | Unknown:
        headers = {"Idempotency-Key": key, "Content-Type": "application/x-www-form-urlencoded"}
        return await self._client.call("POST", path, content=urlencode(form).encode(), headers=headers)

    async def _find(self, reference: str) -> dict[str, Any] | Unknown:
        """Search for our reference, then read the object: the index may be behind."""
        quoted = reference.replace("\\", "").replace("'", "")
        params = {"query": f"metadata['reference']:'{quoted}'", "limit": "10"}
        found = await self._client.call("GET", "/v1/payment_intents/search", params=params)
        if isinstance(found, Unknown):
            return found
        if not found.succeeded:
            return found.untold()
        ids = [item["id"] for item in _objects(found.body) if _reference_of(item) == reference]
        if len(ids) != 1:
            return NOT_FOUND if not ids else Unknown(reason="the rail has the reference more than once")
        intent = await self._client.call("GET", f"/v1/payment_intents/{quote(str(ids[0]), safe='')}")
        if isinstance(intent, Unknown):
            return intent
        if not intent.succeeded or _reference_of(intent.body) != reference:
            return intent.untold()
        return intent.body

    async def _resolved(self, answer: Answered | Unknown, reference: str, read: Any) -> RailAnswer:
        """Read an answer to a change; what is no success is decided by the object's present state."""
        if isinstance(answer, Unknown):
            return answer
        if answer.succeeded and _reference_of(answer.body) == reference:
            return read(answer.body)
        intent = await self._find(reference)
        if isinstance(intent, Unknown):
            return intent
        known = read(intent)
        if isinstance(known, Unknown) and not answer.succeeded:
            # Still held, and the rail says why it would not: final under this key.
            return _refused(answer)
        return known


def _objects(body: dict[str, Any]) -> list[dict[str, Any]]:
    data = body.get("data")
    return (
        [item for item in data if isinstance(item, dict) and "id" in item] if isinstance(data, list) else []
    )


def _reference_of(item: dict[str, Any]) -> object:
    metadata = item.get("metadata")
    return metadata.get("reference") if isinstance(metadata, dict) else None


def _settled(item: dict[str, Any], field: str) -> RailAnswer:
    amount = item.get(field)
    if type(amount) is not int or amount < 0 or not isinstance(item.get("id"), str):
        return Unknown(reason=f"the answer has no whole {field}")
    return Settled(provider_ref=item["id"], amount=amount)


def _authorised(intent: dict[str, Any]) -> RailAnswer:
    status = intent.get("status")
    if status == "requires_capture":
        return _settled(intent, "amount_capturable")
    if status == "succeeded":
        return _settled(intent, "amount")
    if status in _NEVER_AUTHORISED:
        return Declined(code="authorisation_declined", message=f"The intent is {status}.")
    return Unknown(reason=f"the intent is {str(status)[:50]}")


def _captured(intent: dict[str, Any]) -> RailAnswer:
    status = intent.get("status")
    if status == "succeeded":
        return _settled(intent, "amount_received")
    if status == "canceled":
        return Declined(code="hold_voided", message="The hold was given back.")
    return Unknown(reason=f"held, not captured yet ({str(status)[:50]})")


def _voided(intent: dict[str, Any]) -> RailAnswer:
    status = intent.get("status")
    if status == "canceled":
        return Settled(provider_ref=str(intent.get("id")), amount=0)
    if status == "succeeded":
        return Declined(code="hold_captured", message="The hold was captured.")
    return Unknown(reason=f"not void yet ({str(status)[:50]})")


def _moved(item: dict[str, Any]) -> RailAnswer:
    """Read a refund or a transfer; a transfer has no status: it is there or it is not."""
    if item.get("reversed") is True:
        return Declined(code="reversed", message="The transfer was reversed.")
    status = item.get("status", "succeeded")
    if status == "succeeded":
        return _settled(item, "amount")
    if status in {"failed", "canceled"}:
        return Declined(code=str(item.get("failure_reason") or status)[:100])
    return Unknown(reason=f"the rail works on it ({str(status)[:50]})")


def _one_of(answer: Answered | Unknown, reference: str) -> RailAnswer:
    if isinstance(answer, Unknown):
        return answer
    if not answer.succeeded:
        return answer.untold()
    found = [item for item in _objects(answer.body) if _reference_of(item) == reference]
    if len(found) == 1:
        return _moved(found[0])
    return NOT_FOUND if not found else Unknown(reason="the rail has the reference more than once")


def _refused(answer: Answered) -> RailAnswer:
    """Read an error object: a decline where Stripe says what was wrong with the request or the card."""
    error = answer.body.get("error")
    if not isinstance(error, dict) or error.get("type") not in {"card_error", "invalid_request_error"}:
        return answer.untold()
    if answer.status in {404, 409}:
        # Not visible yet, or the same key is under way.
        return answer.untold()
    code = error.get("decline_code") or error.get("code") or "refused"
    return Declined(code=str(code)[:100], message=str(error.get("message") or "")[:2000])
