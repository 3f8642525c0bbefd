"""Wallets: open, read, top up."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from activities.records.wallets import find_wallet, list_wallets, open_wallet, top_up
from api.authentication import requires
from api.envelope import Success, errors, success
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.pagination import InvalidCursorError, Page, PageDep
from api.scope import owner_filter
from api.state import Services, ServicesDep
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.ledger import AccountLimitError
from models.wallet import (
    OpenWallet,
    TopUpRequest,
    TopUpsDisabledError,
    TopUpView,
    WalletCurrencyError,
    WalletNotFoundError,
    WalletView,
)

router = APIRouter(prefix="/wallets", tags=["wallets"])

Reader = Annotated[Principal, Depends(requires(Permission.WALLETS_READ))]
Funder = Annotated[Principal, Depends(requires(Permission.WALLETS_TOP_UP))]


@router.post(
    "",
    status_code=201,
    response_model=Success[WalletView],
    responses=errors(IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def open_one(body: OpenWallet, caller: Funder, services: ServicesDep, once: OnceDep) -> Response:
    """Open your wallet in a currency; opening it again answers the same wallet."""

    async def work(_: str) -> Success[WalletView]:
        async with services.database.platform() as connection:
            return success(await open_wallet(connection, caller.tenant_id, caller.user_id, body.currency))

    return await once.answer("ledger_account", work)


@router.get("", responses=errors(InvalidCursorError))
async def list_all(caller: Reader, services: ServicesDep, page: PageDep) -> Success[Page[WalletView]]:
    """List your wallets; finance and administrators see those of the whole tenant."""
    async with services.database.tenant(caller.tenant_id) as connection:
        found = await list_wallets(
            connection, owner_id=owner_filter(caller), before=page.before, limit=page.fetch
        )
    return success(page.page(found, lambda wallet: wallet))


@router.get("/{wallet_id}", responses=errors(WalletNotFoundError))
async def read(wallet_id: Identifier, caller: Reader, services: ServicesDep) -> Success[WalletView]:
    """Read what a wallet holds: available and on hold, in minor units."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(await find_wallet(connection, wallet_id, owner_id=owner_filter(caller)))


@router.post(
    "/{wallet_id}/top-ups",
    status_code=201,
    response_model=Success[TopUpView],
    responses=errors(
        WalletNotFoundError,
        WalletCurrencyError,
        TopUpsDisabledError,
        AccountLimitError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def top_up_wallet(
    wallet_id: Identifier, body: TopUpRequest, caller: Funder, services: ServicesDep, once: OnceDep
) -> Response:
    """Put money into a wallet without paying for it: where ``WALLET_TOP_UPS`` allows it only."""
    if not top_ups_allowed(services):
        raise TopUpsDisabledError

    async def work(top_up_id: str) -> Success[TopUpView]:
        async with services.database.tenant(caller.tenant_id) as connection:
            wallet = await find_wallet(connection, wallet_id, owner_id=owner_filter(caller))
        if body.currency not in (None, wallet.currency):
            raise WalletCurrencyError(wallet.currency)
        async with services.database.platform() as connection:
            await top_up(connection, top_up_id, wallet, caller.tenant_id, body.amount)
            after = await find_wallet(connection, wallet_id, owner_id=None)
        return success(
            TopUpView(top_up_id=top_up_id, amount=body.amount, currency=wallet.currency, wallet=after)
        )

    return await once.answer("top_up", work)


def top_ups_allowed(services: Services) -> bool:
    """Tell whether top-ups without a payment are allowed: `WALLET_TOP_UPS`, and only in an embedded stack,
    which issues its own tokens and nobody else does."""
    settings = services.settings
    return settings.wallet_top_ups and services.issuer_key is not None and not settings.jwt_jwks_url
