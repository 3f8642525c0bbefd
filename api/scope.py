"""Whose money records a caller sees within the tenant: their own, or everybody's."""

from models.identity import Principal, Role

WHOLE_TENANT = frozenset({Role.FINANCE, Role.ADMIN})


def owner_filter(caller: Principal) -> str | None:
    """Return the user to whom reading is limited; None for finance and administrators."""
    return None if caller.roles & WHOLE_TENANT else caller.user_id


def may_see(caller: Principal, owner_id: str) -> bool:
    """Tell whether the caller may see something of ``owner_id``'s in the same tenant."""
    return owner_filter(caller) in (None, owner_id)
