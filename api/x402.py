"""HTTP 402: offering to be paid with the request, and reading the payment that came with it (x402, v2)."""

import base64
import json
import time
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import Response

from activities.purchase import means_of
from activities.rails.registry import configured_rails
from activities.records.routing import current_routing
from api.errors import error_response
from api.state import Services
from models.errors import PlatformError
from models.identity import Principal
from models.rail import RailName
from models.x402 import (
    MAX_HEADER_CHARACTERS,
    X402_VERSION,
    PaymentRequiredError,
    X402PaymentInvalidError,
    X402Terms,
    read_payment,
)

PaymentSignature = Annotated[str | None, Header(alias="PAYMENT-SIGNATURE", max_length=MAX_HEADER_CHARACTERS)]
"""A signed payment, base64 of JSON, as ``PAYMENT-REQUIRED`` asks for."""


async def x402_offer(
    services: Services, caller: Principal, amount: int, currency: str, enclosed: str | None
) -> Response | None:
    """Return the 402 that a request for something that costs ``amount`` gets; None where it may go on.

    That is an offer where the routing would take x402 and no payment is enclosed, and a refusal, with the
    offer again, where the one that is enclosed is not the one that is wanted. An enclosed payment that the
    routing does not take is left unused.
    """
    terms = X402Terms.from_settings(services.settings)
    wanted = None if terms is None else terms.requirements(amount, currency)
    if wanted is None:
        return None
    configured = configured_rails(services.settings)
    async with services.database.platform() as connection:
        routing = await current_routing(connection)
        means = await means_of(
            connection, caller.tenant_id, caller.user_id, amount, currency, configured, enclosed=True
        )
    if routing.rules.choose(amount, currency, means) is not RailName.X402:
        return None
    if enclosed is None:
        return _offer(PaymentRequiredError([wanted]), wanted)
    try:
        read_payment(enclosed, wanted, now=time.time())
    except X402PaymentInvalidError as error:
        return _offer(error, wanted)
    return None


def _offer(error: PlatformError, wanted: dict[str, Any]) -> Response:
    response = error_response(error)
    required = {"x402Version": X402_VERSION, "error": error.message, "accepts": [wanted]}
    response.headers["PAYMENT-REQUIRED"] = base64.b64encode(json.dumps(required).encode()).decode()
    return response
