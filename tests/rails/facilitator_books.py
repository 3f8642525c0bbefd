"""A facilitator's side of x402: verify and settle, with a ledger of nonces as the network keeps it."""

import uuid
from json import loads
from typing import Any

from tests.rails.hostile import Call


class FacilitatorBooks:
    """What happened on the network: one nonce moves money once."""

    def __init__(self) -> None:
        """Begin with nothing; signatures are good unless they say ``forged``."""
        self.transfers: dict[str, tuple[str, int]] = {}
        """Nonce → transaction and atomic units."""
        self.hidden_reads = 0
        self.pending = 0
        """So many settlements are broadcast and not confirmed."""
        self.forgets = False
        """Whether settling again says that the nonce was used, and no more."""
        self.broke = False

    def handle(self, call: Call) -> tuple[int, Any]:
        """Answer a request that arrived."""
        body = loads(call.body)
        assert body["x402Version"] == 2
        payment, wanted = body["paymentPayload"], body["paymentRequirements"]
        if payment["payload"]["signature"] == "forged" or payment["accepted"] != wanted:
            return 200, self._refused(call.path, "invalid_exact_evm_payload_signature", wanted)
        if self.broke:
            return 200, self._refused(call.path, "insufficient_funds", wanted)
        if call.path == "/verify":
            return 200, {"isValid": True, "payer": payment["payload"]["authorization"]["from"]}
        nonce = payment["payload"]["authorization"]["nonce"]
        known = nonce in self.transfers
        if known and self.forgets:
            return 200, self._refused(call.path, "invalid_exact_evm_nonce_already_used", wanted)
        if not known:
            self.transfers[nonce] = (f"0x{uuid.uuid4().hex}", int(wanted["amount"]))
        transaction, _ = self.transfers[nonce]
        if self.pending:
            self.pending -= 1
            return 200, {
                "success": False,
                "errorReason": "settlement_pending",
                "transaction": transaction,
                "network": wanted["network"],
            }
        return 200, {"success": True, "transaction": transaction, "network": wanted["network"]}

    def _refused(self, path: str, reason: str, wanted: dict[str, Any]) -> dict[str, Any]:
        if path == "/verify":
            return {"isValid": False, "invalidReason": reason}
        return {"success": False, "errorReason": reason, "transaction": "", "network": wanted["network"]}
