"""The commerce API: buying without running an agent here (frameos-agent-runtime-flows, "Payment
Pre-Authorization" and "Payment Processing Flow").

A purchase is a run of its own: its identifier stands where an execution's would in intent, mandate and
receipt, and its payment takes the same path as an execution's.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described

from models.errors import ConflictError, NotFoundError
from models.identifiers import Identifier
from models.money import Currency, PositiveMinorUnits
from models.payment import ReserveRequest, SettlementOutcome
from models.policy import Vendor

PURCHASE_LIFETIME = timedelta(hours=1)
"""How long a purchase waits to be executed; then its price is given back."""


class CreatePurchaseIntent(BaseModel):
    """Body of ``POST /purchase-intents``."""

    model_config = ConfigDict(extra="forbid")

    agent_id: Identifier
    """The published agent that is paid; its developer is the payee."""
    vendor: Vendor
    amount: PositiveMinorUnits
    currency: Currency
    description: Annotated[str, Described(max_length=500)] = ""
    metadata: Annotated[dict[str, str | int | bool | None], Described(max_length=50)] = Described(
        default_factory=dict
    )
    """``execution_id`` of one of your executions: answers the intent that it has already."""


class CreateMandate(BaseModel):
    """Body of ``POST /mandates``."""

    model_config = ConfigDict(extra="forbid")

    intent_id: Identifier


class ExecuteMandate(BaseModel):
    """Body of ``POST /execute``."""

    model_config = ConfigDict(extra="forbid")

    mandate_id: Identifier


class PurchaseStart(BaseModel):
    """What the workflow ``Purchase`` starts with."""

    purchase_id: str
    reserve: ReserveRequest
    correlation_id: str


class PurchaseOpened(BaseModel):
    """A purchase whose price is reserved; held, unless an outside rail has to be asked."""

    purchase_id: str
    intent_id: str
    authorising: bool = False


class PurchaseEnd(BaseModel):
    """How a purchase ended."""

    purchase_id: str
    outcome: SettlementOutcome | None = None
    """None: nobody collected."""
    reason: str = ""


class CancelPurchase(BaseModel):
    """A wish to give the price back."""

    requested_by: str


class PurchasedAgentNotFoundError(NotFoundError):
    """There is no published agent to pay."""

    code = "AGENT_NOT_FOUND"

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            f"There is no published agent {agent_id}; GET /agents lists them.", details={"agent_id": agent_id}
        )


class PurchaseOfExecutionError(ConflictError):
    """The intent or mandate belongs to an execution, which mints, executes and gives back by itself."""

    code = "PURCHASE_OF_EXECUTION"

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"This pays for execution {execution_id}, which mints its mandate when it is dispatched and "
            "settles when its agent has finished; follow it with GET /executions/{id}.",
            details={"execution_id": execution_id},
        )


class PurchaseEndedError(ConflictError):
    """The purchase was collected, given back, or declined."""

    code = "PURCHASE_ENDED"

    def __init__(self, purchase_id: str) -> None:
        super().__init__(
            f"Purchase {purchase_id} has ended; nothing more is collected. Make a new purchase intent.",
            details={"purchase_id": purchase_id},
        )
