"""Time-outs and retry policies of activities and calls, each named once with its reason."""

from datetime import timedelta

from temporalio.common import RetryPolicy

RECORD_TIMEOUT = timedelta(seconds=15)
"""A database-only step takes milliseconds; past this the connection is dead."""

RECORD_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=5),
)
"""Unlimited: what a workflow decided must be recorded, however long the database is away. Refusals are
not retryable errors, so they end the retries."""

OBJECT_TIMEOUT = timedelta(seconds=60)
"""Moving at most 14 MB to or from S3."""

SCAN_TIMEOUT = timedelta(seconds=90)
"""The scanner's own deadline is shorter; this one fires only if its process cannot be waited for."""

RAIL_TIMEOUT = timedelta(seconds=60)
"""One request to a payment rail, connection included."""

RAIL_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
)
"""Unlimited: a rail call carries its idempotency key, so repeating it is safe, and giving up is not."""

MAIL_TIMEOUT = timedelta(seconds=30)
MAIL_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=5),
    maximum_attempts=12,
)
"""About half an hour of a mail server being away; a letter is never worth failing a run."""

SANDBOX_HEARTBEAT = timedelta(seconds=5)
"""A worker silent for this long is dead. Cancellation arrives with heartbeats, which are sent far more
often (``SANDBOX_HEARTBEAT_THROTTLE``), so a short stall of a busy machine is not taken for a death."""

SANDBOX_HEARTBEAT_THROTTLE = timedelta(milliseconds=700)
"""Bounds how long a cancellation takes to reach a container."""

SANDBOX_MARGIN = timedelta(seconds=45)
"""What fetching the code, starting the container and keeping the outputs may take beside the run."""

SANDBOX_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    maximum_attempts=3,
)
"""Three attempts at infrastructure failures; the agent's own failure is a result, not an error."""

PAUSE_LIMIT = timedelta(hours=24)
"""An execution paused for longer is cancelled: the hold on its price must not outlive what rails allow."""

UPDATE_RPC_TIMEOUT = timedelta(seconds=20)
"""How long the API waits for a workflow's answer before it says 503 with the identifier to poll."""

SERVICE_TIMEOUT = timedelta(minutes=5)
"""One attempt at a service task's work; longer work belongs to an agent or an outside worker."""

SERVICE_HEARTBEAT = timedelta(seconds=10)
"""Service tasks that take longer than a moment send heartbeats, so a dead worker is noticed."""
