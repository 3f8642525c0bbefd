"""Who is paid, and where: beneficiaries that developers register, and what finance decides about them."""

from activities.records.database import Connection
from models.identifiers import new_identifier
from models.payout import (
    Beneficiary,
    BeneficiaryNotFoundError,
    BeneficiaryStatus,
    BeneficiaryView,
    KycStatus,
    PayeeFlags,
    PayeeView,
    RegisterBeneficiary,
)

_REGISTER = """
INSERT INTO beneficiaries (id, tenant_id, user_id, currency, rail, destination, name, status)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(currency)s, %(rail)s, %(destination)s, %(name)s, 'unverified')
RETURNING *
"""

_FLAG = """
INSERT INTO payees (tenant_id, user_id, kyc_status, held, hold_reason, updated_by)
VALUES (%(tenant_id)s, %(user_id)s, coalesce(%(kyc_status)s, 'unverified'), coalesce(%(held)s, false),
        %(hold_reason)s, %(updated_by)s)
ON CONFLICT (tenant_id, user_id) DO UPDATE
SET kyc_status = coalesce(%(kyc_status)s, payees.kyc_status), held = coalesce(%(held)s, payees.held),
    hold_reason = CASE WHEN %(held)s THEN %(hold_reason)s WHEN NOT %(held)s THEN NULL
                       ELSE payees.hold_reason END,
    updated_by = %(updated_by)s, updated_at = now()
RETURNING *
"""


def _view(row: Beneficiary) -> BeneficiaryView:
    return BeneficiaryView(
        beneficiary_id=row.id,
        user_id=row.user_id,
        currency=row.currency,
        rail=row.rail,
        destination=row.destination,
        name=row.name,
        status=row.status,
        created_at=row.created_at,
    )


async def register_beneficiary(
    connection: Connection, tenant_id: str, user_id: str, wanted: RegisterBeneficiary
) -> BeneficiaryView:
    """Register where a developer's money goes, in their tenant's transaction; the one before retires.

    A new one is unverified: nothing is paid to it until finance has verified it. The same destination
    again is left as it is.
    """
    # Two registrations at once: the later one waits here for the earlier one's row.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{tenant_id}/{user_id}/{wanted.currency}"]
    )
    cursor = await connection.execute(
        "SELECT * FROM beneficiaries WHERE tenant_id = %s AND user_id = %s AND currency = %s "
        "AND status <> 'retired'",
        [tenant_id, user_id, wanted.currency],
    )
    found = await cursor.fetchone()
    if found is not None:
        row = Beneficiary.model_validate(found)
        if (row.rail, row.destination, row.name) == (wanted.rail, wanted.destination, wanted.name):
            return _view(row)
        await connection.execute("UPDATE beneficiaries SET status = 'retired' WHERE id = %s", [row.id])
    cursor = await connection.execute(
        _REGISTER,
        wanted.model_dump()
        | {"id": new_identifier("beneficiary"), "tenant_id": tenant_id, "user_id": user_id},
    )
    return _view(Beneficiary.model_validate(await cursor.fetchone()))


async def list_beneficiaries(connection: Connection, user_id: str | None) -> list[BeneficiaryView]:
    """Read the beneficiaries in use, of one user or of all that the transaction sees (at most 1 000)."""
    cursor = await connection.execute(
        "SELECT * FROM beneficiaries WHERE status <> 'retired' "
        "AND (%(user)s::text IS NULL OR user_id = %(user)s) ORDER BY created_at DESC, id DESC LIMIT 1000",
        {"user": user_id},
    )
    return [_view(Beneficiary.model_validate(row)) for row in await cursor.fetchall()]


async def verify_beneficiary(
    connection: Connection, beneficiary_id: str, verified_by: str
) -> BeneficiaryView:
    """Allow paying to an account, in a platform transaction; safe to repeat.

    Raises:
        BeneficiaryNotFoundError: It does not exist or was retired.
    """
    cursor = await connection.execute(
        "UPDATE beneficiaries SET status = %s, verified_at = coalesce(verified_at, now()), "
        "verified_by = coalesce(verified_by, %s) WHERE id = %s AND status <> 'retired' RETURNING *",
        [BeneficiaryStatus.VERIFIED, verified_by, beneficiary_id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise BeneficiaryNotFoundError(beneficiary_id)
    return _view(Beneficiary.model_validate(row))


async def flag_payee(
    connection: Connection, tenant_id: str, user_id: str, flags: PayeeFlags, updated_by: str
) -> PayeeView:
    """Write what finance decided about a developer, in a platform transaction; what is not given stays."""
    cursor = await connection.execute(
        _FLAG,
        {
            "tenant_id": tenant_id,
            "user_id": user_id,
            "kyc_status": flags.kyc_status,
            "held": flags.held,
            "hold_reason": flags.hold_reason,
            "updated_by": updated_by,
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    return PayeeView(
        tenant_id=tenant_id,
        user_id=user_id,
        kyc_status=KycStatus(row["kyc_status"]),
        held=row["held"],
        hold_reason=row["hold_reason"],
    )
