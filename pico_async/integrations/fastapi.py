"""
FastAPI: one session for the app's life, a typed dependency, errors as JSON problems, and delivery receipts.

    app = FastAPI(lifespan=pico_lifespan())
    handle_errors(app)
    app.include_router(receipts_router(on_receipt=delivered))

    @app.post("/codes")
    async def code(phone: Annotated[str, Body(embed=True)], pico: PicoDep) -> None:  # a URL would be logged
        await pico.sms.send(phone, "Your code is 1234", expires_in=60)

Needs the extra: `pip install 'pico-async[fastapi]'`. In a test, replace the session by
`app.dependency_overrides[get_pico]`.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

try:
    from fastapi import APIRouter, Depends
except ImportError as _error:
    raise ImportError("pico_async.integrations.fastapi needs fastapi: pip install 'pico-async[fastapi]'") from _error

from pico_async.integrations.starlette import get_pico, handle_errors, open_pico, pico_lifespan, receipts_route
from pico_async.receipts.callbacks import CallbackSigner
from pico_async.receipts.deduplication import SeenReceipts
from pico_async.receipts.handler import METHODS, ConfirmingJournal, OnReceipt
from pico_async.session import PicoSession

__all__ = ["PicoDep", "get_pico", "handle_errors", "open_pico", "pico_lifespan", "receipts_router"]

PicoDep: TypeAlias = Annotated[PicoSession, Depends(get_pico)]
"""The app's session, as a parameter of a path operation, another dependency, or a websocket."""


def receipts_router(
    signer: CallbackSigner | None = None,
    path: str = "/receipts",
    *,
    on_receipt: OnReceipt | None = None,
    journal: ConfirmingJournal | None = None,
    seen_receipts: SeenReceipts | None = None,
    public_path: str | None = None,
) -> APIRouter:
    """
    Return a router that receives delivery receipts. It is not in the schema, because only Pico calls it.

    Dependencies of the app or of `include_router`, such as a check of the client's address, run before the signature is
    checked. The arguments are those of `receipts_route` in `pico_async.integrations.starlette`.
    """
    route = receipts_route(
        signer, path, on_receipt=on_receipt, journal=journal, seen_receipts=seen_receipts, public_path=public_path
    )
    router = APIRouter()
    # FastAPI would accept a route of Starlette's, but silently skip the app's dependencies for it.
    router.add_api_route(
        route.path, route.endpoint, methods=list(METHODS), response_model=None, include_in_schema=False
    )
    return router
