"""Search attributes: what operators filter by in the Temporal Web UI (DESIGN §4).

They never authorise anything and never serve our own lists, which read PostgreSQL.
"""

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from models.run import RunKind, RunStatus

TENANT_ID = SearchAttributeKey.for_keyword("TenantId")
RUN_KIND = SearchAttributeKey.for_keyword("RunKind")
RUN_STATUS = SearchAttributeKey.for_keyword("RunStatus")
SUBJECT = SearchAttributeKey.for_keyword("Subject")
CORRELATION_ID = SearchAttributeKey.for_keyword("CorrelationId")

ALL_KEYS = (TENANT_ID, RUN_KIND, RUN_STATUS, SUBJECT, CORRELATION_ID)
"""What a Temporal namespace must have registered, all of type Keyword."""


def run_attributes(
    *, tenant_id: str, kind: RunKind, status: RunStatus, subject: str, correlation_id: str
) -> TypedSearchAttributes:
    """Return the attributes that every run's workflow starts with."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(TENANT_ID, tenant_id),
            SearchAttributePair(RUN_KIND, kind.value),
            SearchAttributePair(RUN_STATUS, status.value),
            SearchAttributePair(SUBJECT, subject),
            SearchAttributePair(CORRELATION_ID, correlation_id),
        ]
    )
