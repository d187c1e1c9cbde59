"""
Delivery receipts: signed callback URLs, parsing, deduplication, and the handler that serves them.

    signer = CallbackSigner([os.environ["RECEIPT_SECRET"]])
    handler = ReceiptHandler(signer, on_receipt=delivered)
    verdict = await handler.handle(method, path, query, body, content_type)

The integrations for FastAPI, Starlette and aiohttp contain this handler. `RedisSeenReceipts` needs the extra `redis`.
"""

from typing import TYPE_CHECKING, Any

from pico_async.receipts.callbacks import (
    CallbackFault as CallbackFault,
    CallbackSigner as CallbackSigner,
    SignedCallback as SignedCallback,
)
from pico_async.receipts.deduplication import (
    LocalSeenReceipts as LocalSeenReceipts,
    ReceiptHistory as ReceiptHistory,
    SeenReceipts as SeenReceipts,
)
from pico_async.receipts.handler import ReceiptHandler as ReceiptHandler, ReceiptVerdict as ReceiptVerdict
from pico_async.receipts.receipt import DeliveryReceipt as DeliveryReceipt
from pico_async.receipts.status import DeliveryStatus as DeliveryStatus

if TYPE_CHECKING:
    from pico_async.receipts.redis_deduplication import RedisSeenReceipts as RedisSeenReceipts
else:

    def __getattr__(name: str) -> Any:
        if name != "RedisSeenReceipts":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pico_async.receipts.redis_deduplication import RedisSeenReceipts

        return RedisSeenReceipts
