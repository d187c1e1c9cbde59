"""The handler where delivery receipts arrive, whatever the web framework: what is taken, and what is answered."""

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
from pico_async.receipts.receipt import LONGEST_BODY, DeliveryReceipt, DeliveryStatus, boundary_of, unpacked

METHODS = ("GET", "POST", "PUT")
"""The method of a receipt is not documented in v0.4."""

OnReceipt: TypeAlias = Callable[[DeliveryReceipt], Awaitable[object] | object]

_log = Logger("pico_async.receipts")
_LONGEST_READ_S = 10.0
# What else one message is told of: a sender that says more than that says nothing new.
_MAX_DIGESTS = 16


class ReceiptVerdict(StrEnum):
    """What became of one request at the handler."""

    TAKEN = "taken"
    """It was news: the journal and *on_receipt* were told."""
    DUPLICATE = "duplicate"
    """It came before. Whoever sent it need not send it again."""
    LATE = "late"
    """It says less than what is known already."""
    CONTRADICTED = "contradicted"
    """The message's fate was known, and this is another one."""
    UNSIGNED = "unsigned"
    FORGED = "forged"
    EXPIRED = "expired"
    TOO_LARGE = "too large"
    TOO_SLOW = "too slow"
    NOT_ALLOWED = "method not allowed"
    UNREADABLE = "unreadable"
    FAILED = "failed"
    """The journal or *on_receipt* failed, or is slow: whoever sent it should send it again."""

    @property
    def status_code(self) -> int:
        """Give the HTTP status to answer with."""
        return _STATUS_CODES[self]

    @property
    def headers(self) -> dict[str, str]:
        """Give the headers that an answer of this status must have (RFC 9110, 15.5.6)."""
        return {"Allow": ", ".join(METHODS)} if self is ReceiptVerdict.NOT_ALLOWED else {}


_STATUS_CODES = {
    ReceiptVerdict.TAKEN: 200,
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
_FAULTS = {
    CallbackFault.UNSIGNED: ReceiptVerdict.UNSIGNED,
    CallbackFault.FORGED: ReceiptVerdict.FORGED,
    CallbackFault.EXPIRED: ReceiptVerdict.EXPIRED,
}


@runtime_checkable
class ConfirmingJournal(Protocol):
    """A journal that takes a proof: `SqliteJournal` and `PostgresLedger` do."""

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        """Note that the message of that key went out."""
        ...


@boundary
class ReceiptHandler:
    """
    Take delivery receipts: each once, only forward, and only those that prove where they come from.

    Whatever arrives, an answer is given and nothing is raised. A receipt that is taken settles its message in the
    *journal*, for it proves that Pico had it, and is then told to *on_receipt*. Where either fails, the answer asks for
    the receipt again, so it is not lost, and *on_receipt* may be told a receipt twice. How long *on_receipt* takes is
    not limited, and what is not async holds up the whole server: let a queue do what takes long. A handler serves one
    event loop at a time, and knows what came twice as far as its *seen_receipts* reaches.

    Args:
        signer: That of the session which sends; made of `PICO_CALLBACK_SECRETS` where None, as the session's is.
        on_receipt: Called, and awaited where it is async, with each `DeliveryReceipt` that is news.
        journal: A `SqliteJournal` or a `PostgresLedger`, whose message of the receipt's key is in doubt no more. A key
            must name one message there and in whatever else the signer's secrets sign for.
        seen_receipts: Where duplicates are recognised; in this process alone where None. See `RedisSeenReceipts`.

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
                "There is nothing to know receipts by: pass `signer=`, as CallbackSigner([secret]), or set "
                "PICO_CALLBACK_SECRETS, here and where the session is made."
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

    async def handle(
        self, method: str, path: str, query: str, body: AsyncIterable[bytes], content_type: str = ""
    ) -> ReceiptVerdict:
        """
        Judge one request, and act on it.

        Args:
            path: As the server got it, prefixes included.
            query: As the server got it, without the "?".
            body: Its pieces; nothing is read of a request whose URL is not ours.
            content_type: The request's header of that name.
        """
        if method not in METHODS:
            return ReceiptVerdict.NOT_ALLOWED
        if len(query) > LONGEST_QUERY:
            return ReceiptVerdict.TOO_LARGE
        callback = self._signer.verify(path, query)
        if isinstance(callback, CallbackFault):
            return _FAULTS[callback]
        try:
            with anyio.fail_after(_LONGEST_READ_S):
                content = await _read(body)
        except TimeoutError:
            return ReceiptVerdict.TOO_SLOW
        except Exception:  # noqa: BLE001  each framework has its own for a sender that leaves, or sends nonsense
            return ReceiptVerdict.UNREADABLE
        if content is None:
            return ReceiptVerdict.TOO_LARGE
        receipt = DeliveryReceipt.parse(key=callback.key, query=query, body=content, content_type=content_type)
        # The same receipt has another boundary when it is sent again, or another time in the head of its gzip.
        plain = unpacked(content)
        boundary = boundary_of(plain)
        said = plain if boundary is None else plain.replace(boundary, b"")
        digest = hashlib.blake2b(f"{query}\n".encode("utf-8", "replace") + said, digest_size=16).digest()
        try:
            async with self._seen_receipts.lock(callback.id):
                return await self._process(callback, receipt, digest)
        except TimeoutError:
            _log.warning("A delivery receipt waited too long for another one of its message.")
        except Exception:  # noqa: BLE001  it is logged whole, and asked for again
            _log.exception("A delivery receipt was not taken: its turn could not be had.")
        return ReceiptVerdict.FAILED

    async def _process(self, callback: SignedCallback, receipt: DeliveryReceipt, digest: bytes) -> ReceiptVerdict:
        try:
            history = await self._seen_receipts.get(callback.id)
            verdict = judge(history, receipt.status, digest)
            if verdict is not ReceiptVerdict.TAKEN:
                return verdict
            await self._confirm(receipt)
            if self._on_receipt is not None:
                answer = self._on_receipt(receipt)
                if inspect.isawaitable(answer):
                    await answer
            # Last, so that what failed comes again.
            await self._seen_receipts.put(
                callback.id, add_receipt(history, receipt.status, digest), callback.expires_at
            )
        except Exception:  # noqa: BLE001  it is logged whole, and asked for again
            _log.exception("A delivery receipt was not taken. The answer asks for it again.")
            return ReceiptVerdict.FAILED
        return ReceiptVerdict.TAKEN

    async def _confirm(self, receipt: DeliveryReceipt) -> None:
        if self._journal is None or receipt.key is None:
            return
        try:
            # Also where the receipt says that no handset got it: it proves that Pico had the message.
            await self._journal.confirm(receipt.key, receipt.request_id)
        except NotInDoubtError as error:
            # Most apps send some messages without a journal. Where it is the wrong one, this tells.
            _log.debug("A delivery receipt settled nothing. %s", error)


def judge(history: ReceiptHistory | None, status: DeliveryStatus, digest: bytes) -> ReceiptVerdict:
    """
    Say whether a receipt is news.

    A digest that is no common one cannot be put in order: it is news until the message's fate is known.
    """
    if history is None:
        return ReceiptVerdict.TAKEN
    if digest in history.digests:
        return ReceiptVerdict.DUPLICATE
    if history.status.is_final:
        if not status.is_final:
            return ReceiptVerdict.LATE
        return ReceiptVerdict.DUPLICATE if status is history.status else ReceiptVerdict.CONTRADICTED
    if status is DeliveryStatus.UNKNOWN:
        return ReceiptVerdict.TAKEN if len(history.digests) < _MAX_DIGESTS else ReceiptVerdict.LATE
    if status.progress > history.status.progress:
        return ReceiptVerdict.TAKEN
    return ReceiptVerdict.DUPLICATE if status is history.status else ReceiptVerdict.LATE


def add_receipt(history: ReceiptHistory | None, status: DeliveryStatus, digest: bytes) -> ReceiptHistory:
    """Give what is known after a receipt that was taken."""
    if history is None:
        return ReceiptHistory(status, (digest,))
    return ReceiptHistory(
        status if status.progress > history.status.progress else history.status, (*history.digests, digest)
    )


async def _read(body: AsyncIterable[bytes]) -> bytes | None:
    """Read the whole; None where it is longer than a receipt can be."""
    content = bytearray()
    async for piece in body:
        content += piece
        if len(content) > LONGEST_BODY:
            return None
    return bytes(content)
