"""Importing this module makes every table known to the metadata, for Alembic and its drift test."""

import models.approval_records
import models.calendar
import models.channel
import models.event
import models.execution
import models.identity
import models.ledger
import models.mandate
import models.marketplace
import models.monitoring
import models.payment
import models.payment_method
import models.payout
import models.policy
import models.process
import models.process_state
import models.publishing
import models.rate_limit
import models.receipt
import models.reconciliation
import models.refund
import models.routing
import models.run
import models.stream
import models.trigger
import models.wallet
import models.x402
from models.table import metadata as metadata

_ = (
    models.approval_records,
    models.calendar,
    models.channel,
    models.event,
    models.execution,
    models.identity,
    models.ledger,
    models.mandate,
    models.marketplace,
    models.monitoring,
    models.payment,
    models.payment_method,
    models.payout,
    models.policy,
    models.process,
    models.process_state,
    models.publishing,
    models.rate_limit,
    models.receipt,
    models.reconciliation,
    models.refund,
    models.routing,
    models.run,
    models.stream,
    models.trigger,
    models.wallet,
    models.x402,
)
