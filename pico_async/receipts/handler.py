"""The handler of delivery receipts for any web framework: one request in, one verdict out."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import AsyncIterable, Awaitable, Callable
from enum import StrEnum
from typing import Protocol, TypeAlias, runtime_checkable

import anyio

from pico_async._boundary import boundary
from pico_async._logger import Logger
from pico_async.errors import ConfigurationError, NotInDoubtError
from pico_async.receipts.callbacks import LONGEST_QUERY, CallbackFault, CallbackSigner, SignedCallback, checked_signer
from pico_async.receipts.deduplication import LocalSeenReceipts, ReceiptHistory, SeenReceipts
from pico_async.receipts.form import boundary_of
from pico_async.receipts.receipt import LONGEST_BODY, DeliveryReceipt, decompressed
from pico_async.receipts.status import DeliveryStatus

METHODS = ("GET", "POST", "PUT")
"""v0.4 does not document the method of a receipt."""

OnReceipt: TypeAlias = Callable[[DeliveryReceipt], Awaitable[object] | object]
"""What `on_receipt` takes: called with each receipt, and awaited if it is async."""

_log = Logger("pico_async.receipts")
_LONGEST_READ_S = 10.0
# A sender of more different receipts for one message is not believed to report anything new.
_MAX_DIGESTS = 16


class ReceiptVerdict(StrEnum):
    """The result of handling one request."""

    HANDLED = "handled"
    """The receipt was new. The journal was updated and *on_receipt* was called."""
    DUPLICATE = "duplicate"
    """The receipt was handled before."""
    LATE = "late"
    """A later status is already known."""
    CONTRADICTED = "contradicted"
    """Another final status is already known."""
    UNSIGNED = "unsigned"
    FORGED = "forged"
    EXPIRED = "expired"
    TOO_LARGE = "too large"
    TOO_SLOW = "too slow"
    NOT_ALLOWED = "method not allowed"
    UNREADABLE = "unreadable"
    FAILED = "failed"
    """The journal or *on_receipt* failed, or is slow. The receipt should be sent again."""

    @property
    def status_code(self) -> int:
        """Return the HTTP status of the answer."""
        return _STATUS_CODES[self]

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that an answer with this status must have (RFC 9110, 15.5.6)."""
        return {"Allow": ", ".join(METHODS)} if self is ReceiptVerdict.NOT_ALLOWED else {}


_STATUS_CODES = {
    ReceiptVerdict.HANDLED: 200,
    ReceiptVerdict.DUPLICATE: 200,
    ReceiptVerdict.LATE: 200,
    ReceiptVerdict.CONTRADICTED: 409,
    ReceiptVerdict.UNSIGNED: 403,
    ReceiptVerdict.FORGED: 403,
    ReceiptVerdict.EXPIRED: 410,
    ReceiptVerdict.TOO_LARGE: 413,
    ReceiptVerdict.TOO_SLOW: 408,
    ReceiptVerdict.NOT_ALLOWED: 405,
    ReceiptVerdict.UNREADABLE: 400,
    ReceiptVerdict.FAILED: 503,
}


@runtime_checkable
class ConfirmingJournal(Protocol):
    """A journal in which a receipt can confirm a message: `SqliteJournal` or `PostgresLedger`."""

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        """Record that the message with this key was sent."""


@boundary
class ReceiptHandler:
    """
    Handle delivery receipts with a valid signature: each once, and only while the status advances.

    Every request gets an answer, and none raises. A new receipt first confirms its message in the *journal*, because it
    proves that Pico had the message. Then *on_receipt* is called. If either fails, the answer asks for the receipt
    again, so the receipt is not lost, and `on_receipt` may be called twice for one receipt.

    The time of *on_receipt* is not limited, and a function that is not async blocks the whole server. Pass long work to
    a queue. A handler serves one event loop at a time.

    Args:
        signer: The signer of the session that sends. Without one, it is made from `PICO_CALLBACK_SECRETS`, as the
            session's is.
        on_receipt: A function, async or not, that is called with each new `DeliveryReceipt`.
        journal: A `SqliteJournal` or a `PostgresLedger` in which the receipt's message is confirmed, so that it is no
            longer in doubt. A key must stand for one message among all that the signer's secrets sign.
        seen_receipts: The store that recognises duplicates. Without one, only this process's receipts are known. See
            `RedisSeenReceipts`.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(
        self,
        signer: CallbackSigner | None = None,
        *,
        on_receipt: OnReceipt | None = None,
        journal: ConfirmingJournal | None = None,
        seen_receipts: SeenReceipts | None = None,
    ) -> None:
        known = checked_signer(signer, os.environ.get("PICO_CALLBACK_SECRETS"))
        if known is None:
            raise ConfigurationError(
                "The receipt handler has no secret to check signatures with. Pass `signer=`, such as "
                "CallbackSigner([secret]), or set PICO_CALLBACK_SECRETS, here and where the session is made."
            )
        if on_receipt is not None and not callable(on_receipt):
            raise ConfigurationError("`on_receipt` must be a function, async or not, or None.")
        if journal is not None and not isinstance(journal, ConfirmingJournal):
            raise ConfigurationError(
                f"`journal` must be a SqliteJournal or a PostgresLedger, not {type(journal).__name__}."
            )
        if seen_receipts is not None and not isinstance(seen_receipts, SeenReceipts):
            raise ConfigurationError(f"`seen_receipts` must be a SeenReceipts, not {type(seen_receipts).__name__}.")
        self._signer = known
        self._on_receipt = on_receipt
        self._journal = journal
        self._seen_receipts = seen_receipts or LocalSeenReceipts()

    def __repr__(self) -> str:
        journal = "none" if self._journal is None else type(self._journal).__name__
        return f"<ReceiptHandler, journal: {journal}, seen receipts: {self._seen_receipts!r}>"

    async def handle(
        self, method: str, path: str, query: str, body: AsyncIterable[bytes], content_type: str = ""
    ) -> ReceiptVerdict:
        """
        Handle one request, and return the verdict for its answer.

        Args:
            path: The path as the server received it, including prefixes.
            query: The query as the server received it, without the "?".
            body: The body in pieces. It is not read if the URL's signature is not valid.
            content_type: The request's Content-Type header.
        """
        if method not in METHODS:
            return ReceiptVerdict.NOT_ALLOWED
        if len(query) > LONGEST_QUERY:
            return ReceiptVerdict.TOO_LARGE
        callback = self._signer.verify(path, query)
        if isinstance(callback, CallbackFault):
            return ReceiptVerdict(callback.value)
        try:
            with anyio.fail_after(_LONGEST_READ_S):
                content = await _read(body)
        except TimeoutError:
            return ReceiptVerdict.TOO_SLOW
        except Exception:  # noqa: BLE001  each framework has its own errors for a lost or malformed request
            return ReceiptVerdict.UNREADABLE
        if content is None:
            return ReceiptVerdict.TOO_LARGE
        receipt = DeliveryReceipt.parse(key=callback.key, query=query, body=content, content_type=content_type)
        # A receipt that is sent again has a new boundary, or another time in its gzip header.
        plain = decompressed(content)
        plain = plain.replace(boundary_of(plain) or b"", b"")
        digest = hashlib.blake2b(f"{query}\n".encode("utf-8", "replace") + plain, digest_size=16).digest()
        try:
            async with self._seen_receipts.lock(callback.id):
                return await self._process(callback, receipt, digest)
        except TimeoutError:
            _log.warning(
                "A delivery receipt waited too long for another one of its message. The answer asks for it again."
            )
        except Exception:  # noqa: BLE001  it is logged with its traceback
            _log.exception("A delivery receipt was not handled: it could not be locked. The answer asks for it again.")
        return ReceiptVerdict.FAILED

    async def _process(self, callback: SignedCallback, receipt: DeliveryReceipt, digest: bytes) -> ReceiptVerdict:
        try:
            history = await self._seen_receipts.get(callback.id)
            verdict = judge(history, receipt.status, digest)
            if verdict is not ReceiptVerdict.HANDLED:
                return verdict
            await self._confirm(receipt)
            if self._on_receipt is not None:
                answer = self._on_receipt(receipt)
                if inspect.isawaitable(answer):
                    await answer
            # Last, so that a receipt that failed is new when it is sent again.
            await self._seen_receipts.put(
                callback.id, add_receipt(history, receipt.status, digest), callback.expires_at
            )
        except Exception:  # noqa: BLE001  it is logged with its traceback
            _log.exception("A delivery receipt was not handled. The answer asks for it again.")
            return ReceiptVerdict.FAILED
        return ReceiptVerdict.HANDLED

    async def _confirm(self, receipt: DeliveryReceipt) -> None:
        if self._journal is None or receipt.key is None:
            return
        try:
            # Whatever the status is: the receipt proves that Pico had the message.
            await self._journal.confirm(receipt.key, receipt.request_id)
        except NotInDoubtError as error:
            # Most apps send some messages without a journal, so this is logged only for who looks for a wrong journal.
            _log.debug("A delivery receipt confirmed no message of the journal. %s", error)


def judge(history: ReceiptHistory | None, status: DeliveryStatus, digest: bytes) -> ReceiptVerdict:
    """
    Return HANDLED if a receipt is new, or why it is not.

    An UNKNOWN status has no order, so its receipt is new until a final status is known.
    """
    if history is None:
        return ReceiptVerdict.HANDLED
    if digest in history.digests:
        return ReceiptVerdict.DUPLICATE
    if history.status.is_final:
        if not status.is_final:
            return ReceiptVerdict.LATE
        return ReceiptVerdict.DUPLICATE if status is history.status else ReceiptVerdict.CONTRADICTED
    if status is DeliveryStatus.UNKNOWN:
        return ReceiptVerdict.HANDLED if len(history.digests) < _MAX_DIGESTS else ReceiptVerdict.LATE
    if status.progress > history.status.progress:
        return ReceiptVerdict.HANDLED
    return ReceiptVerdict.DUPLICATE if status is history.status else ReceiptVerdict.LATE


def add_receipt(history: ReceiptHistory | None, status: DeliveryStatus, digest: bytes) -> ReceiptHistory:
    """Return the history with one more receipt."""
    if history is None:
        return ReceiptHistory(status, (digest,))
    furthest = status if status.progress > history.status.progress else history.status
    return ReceiptHistory(furthest, (*history.digests, digest))


async def _read(body: AsyncIterable[bytes]) -> bytes | None:
    """Return the whole body, or None if it is longer than a receipt can be."""
    content = bytearray()
    async for piece in body:
        content += piece
        if len(content) > LONGEST_BODY:
            return None
    return bytes(content)
