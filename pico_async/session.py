"""The session: builds the parts from one account's settings, and owns their lives."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import Awaitable, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async._engine.hosts import is_loopback, is_nowhere
from pico_async._engine.http.httpx_transport import HttpTransport
from pico_async._engine.http.selection import carrier_for, stays_in_process
from pico_async._engine.http.transport import Transport
from pico_async._engine.progress import CallProgress
from pico_async._engine.wire import Account, send_request
from pico_async._logger import Logger
from pico_async._membership import Membership
from pico_async._settings import (
    DEFAULT_BASE_URL,
    checked_account,
    checked_api_key,
    checked_base_url,
    checked_callback,
    checked_listeners,
    checked_log_level,
    checked_retries,
    checked_retry_in_doubt,
    checked_sender,
    checked_timeout,
    checked_username,
    place,
)
from pico_async.coordination.protocols import Coordinator, Priority
from pico_async.coordination.rates import RateGroup, Rates
from pico_async.errors import ConfigurationError
from pico_async.messages import Message
from pico_async.models import Accepted
from pico_async.receipts.callbacks import checked_signer
from pico_async.resources._send import deliver
from pico_async.resources.mms import MmsResource
from pico_async.resources.sms import SmsResource
from pico_async.resources.token import TokenResource
from pico_async.resources.voice import VoiceResource

if TYPE_CHECKING:
    from pico_async._engine.http.aiohttp_transport import AiohttpTransport
    from pico_async._engine.observer import Listener, Observer
    from pico_async.bulk.blast_events import BlastEvents
    from pico_async.bulk.journal.protocols import Journal
    from pico_async.bulk.preflight import Preflight, Price
    from pico_async.bulk.report import BulkReport
    from pico_async.bulk.sender import BulkStream, OnResult
    from pico_async.bulk.source import Input
    from pico_async.bulk.suppression import OptOuts, Suppression
    from pico_async.receipts.callbacks import CallbackSigner
    from pico_async.resources.balance import BalanceResource
    from pico_async.resources.campaigns import CampaignsResource
    from pico_async.resources.templates import TemplatesResource


@boundary
class PicoSession:
    """
    One account's connection to Pico: the token, the pace and the sockets behind thirteen operations.

    Use it with `async with`, or end it with `aclose()`. It belongs to the event loop that first used it. Sessions of
    one API key in one loop share one pace, whatever account and host of Pico they name; those of one account and host
    share a token, too. All arguments are keyword-only; one that is left out comes from its environment variable, then
    from its default.

    Args:
        username: API account name (`PICO_USERNAME`).
        api_key: API key (`PICO_API_KEY`). No repr, log line or error shows it.
        sender: Sender ID or number of a message that names none (`PICO_SENDER`).
        callback: Address for the delivery receipt of a text message that names none (`PICO_CALLBACK`).
        callback_signer: Makes of *callback* a URL for each message, by which its receipt proves where it comes from
            (`PICO_CALLBACK_SECRETS`: the secrets, the newest first, with commas between them).
        allow_private_urls: Let `callback` and `media_url` name hosts that only this machine or its network reaches.
            Those on loopback may be named anyway where Pico itself is a stand-in on loopback.
        base_url: `DEFAULT_BASE_URL`, or `WHITELIST_BASE_URL` for accounts with an IP whitelist (`PICO_BASE_URL`).
            Plain http is refused unless the host is loopback.
        timeout: Seconds for one exchange, from the connection to the last byte of the reply; no more than a day. It
            bounds one try, not the whole call: see below.
        retries: Further tries of what may be repeated, from 0 to 10: what provably did not happen, and what does no
            harm twice. While too many fail, the session's calls do without, and their errors say so.
        retry_in_doubt: Repeat also a send that may have gone out; only where a double is harmless.
        rates: Requests a second that your contract allows.
        coordinator: What shares the pace and the token, in place of the one that the loop's sessions share: a
            `RedisCoordinator` shares them with other processes and hosts. One that you use beside the session, too, is
            yours to close.
        transport: `AiohttpTransport()`, or an httpx transport, in place of the session's own; closed with the session.
            A reply's certainty depends on it, and the pace, too: of httpx's, only `httpx.AsyncHTTPTransport` tells when
            it begins to write. One that speaks HTTP/2 is refused.
        suppression: Numbers that opted out, or a function, async or not, that says of a number whether it has. It is
            asked last thing before each try of each message that the session sends, single ones, blasts and jobs of a
            queue alike, but for those with `promotional=False`. What is suppressed raises `SuppressedError`. Where the
            function raises, nothing is sent either: `NotSentError`. A set is read once; see `OptOuts` for what is added
            to it later. A function should answer soon, or bound itself, for its message waits.
        on_event: Called with each event of `pico_async.events` as it happens: a plain function, or several. Some come
            between a turn and its request, so a slow one spoils the pace. It sees no number, text, key or token, and
            what it raises is logged, once, and changes no call; but for KeyboardInterrupt and SystemExit. For
            OpenTelemetry, see `pico_async.integrations`.

    `PICO_LOG=info` or `PICO_LOG=debug` writes the events to stderr, in words.

    How long a call may take: each of its 1 + `retries` tries up to `timeout`, and the waits between them 60 seconds
    together; a retry that would have to wait longer is not begun, and the error has `retry_after` where Pico asked for
    it. That is 90 seconds as the session comes. The same once more where a token has to be fetched first; and where
    Pico refuses the token, one `timeout` and another fetch. Pico gives one token a second to all processes of an API
    key: where a request for one comes too fast, it is repeated for up to 60 seconds whatever `retries` says, and a
    fetch may last one `timeout` longer. The wait for the pace comes on top, before each try: it is that of the queue
    before the call, and of a pause that Pico asked for, and has no bound of its own. A message's `expires_in` bounds
    the whole, but for the exchange that it finds under way.

    Raises:
        ConfigurationError: An argument is missing or wrong; it is named, a secret is not repeated.
    """

    def __init__(
        self,
        *,
        username: str | None = None,
        api_key: str | None = None,
        sender: str | None = None,
        callback: str | None = None,
        callback_signer: CallbackSigner | None = None,
        allow_private_urls: bool = False,
        base_url: str | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        retry_in_doubt: bool = False,
        rates: Rates | None = None,
        coordinator: Coordinator | None = None,
        transport: HttpTransport | AiohttpTransport | None = None,
        suppression: Suppression | None = None,
        on_event: Listener | Sequence[Listener] | None = None,
    ) -> None:
        self._api_key = checked_api_key(api_key or os.environ.get("PICO_API_KEY"))
        del api_key  # an error report that prints locals would show it
        self._base_url = checked_base_url(base_url or os.environ.get("PICO_BASE_URL") or DEFAULT_BASE_URL)
        self._account = checked_account(
            Account(
                username=checked_username(username or os.environ.get("PICO_USERNAME")),
                sender=checked_sender(sender or os.environ.get("PICO_SENDER")),
                callback=checked_callback(callback or os.environ.get("PICO_CALLBACK")),
                signer=checked_signer(callback_signer, os.environ.get("PICO_CALLBACK_SECRETS")),
                private_urls=allow_private_urls,
                loopback_urls=is_loopback(urlsplit(self._base_url).hostname),
            )
        )
        self._retries = checked_retries(retries)
        self._retry_in_doubt = checked_retry_in_doubt(retry_in_doubt)
        self._opt_outs = _opt_outs(suppression)
        self._membership = Membership(self._base_url, self._account.username, self._api_key, rates, coordinator)
        self._listeners = checked_listeners(on_event)
        self._log_level = checked_log_level(os.environ.get("PICO_LOG"))
        self._observer: Observer | None = None
        self._transport = Transport(self._base_url, checked_timeout(timeout), carrier_for(transport))
        host = urlsplit(self._base_url).hostname
        self._reaches_pico = not (is_loopback(host) or is_nowhere(host) or stays_in_process(transport))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._streams: weakref.WeakSet[BulkStream] = weakref.WeakSet()
        self._closed = False
        self.sms = SmsResource(self._open)
        self.mms = MmsResource(self._open)
        self.voice = VoiceResource(self._open)
        self.token = TokenResource(self._open)

    # Made by their first use: most sessions only send, and the import would cost them these and their values.

    @cached_property
    def campaigns(self) -> CampaignsResource:
        """Campaigns: create, list, update, delete."""
        from pico_async.resources.campaigns import CampaignsResource

        return CampaignsResource(self._open)

    @cached_property
    def templates(self) -> TemplatesResource:
        """Templates: create, list, delete."""
        from pico_async.resources.templates import TemplatesResource

        return TemplatesResource(self._open)

    @cached_property
    def balance(self) -> BalanceResource:
        """The account's credit."""
        from pico_async.resources.balance import BalanceResource

        return BalanceResource(self._open)

    async def send(self, message: Message, *, priority: Priority = Priority.INTERACTIVE) -> Accepted:
        """
        Hand any one message value to Pico, as `sms.send`, `mms.send` and `voice.send` do.

        Raises:
            InvalidMessageError: It is no message, or it has no sender; nothing was sent.
            SuppressedError: The number has opted out; it was not sent.
            NotSentError: Pico was not reached, or nobody could say whether the number has opted out; safe to send
                again.
            RejectedError: Pico refused it.
            InDoubtError: It may have gone out; it was not repeated.
        """
        return await deliver(self._open(), message, priority=priority)

    async def preflight(
        self, messages: Input, *, price: Price | None = None, suppression: Suppression | None = None
    ) -> Preflight:
        """
        Look at what `send_bulk` would send, and send nothing: what is valid, how many parts it has, how long it takes.

        It is read to its end, so give something that can be read again for the sending. The memory is flat for any
        length. How long it takes is told at the session's pace of now.

        Args:
            messages: Any iterable or async iterable of messages, as `send_bulk` takes it.
            price: For one part, in the balance's own unit, as "0.04". With it Pico is asked once for the balance.
            suppression: Numbers that opted out, or a function that is asked for each, as `send_bulk` takes it. The
                session's own is asked, too.

        Raises:
            ConfigurationError: An argument is wrong, or the session is closed.
            NotSentError, RejectedError, UnexpectedResponseError: The balance could not be learned.
            Exception: What *messages* or *suppression* raised.
        """
        engine = self._open()
        # Not with the session, for most never blast.
        from pico_async.bulk.preflight import checked_price, preflight

        cost = checked_price(price)
        asked = [opt_outs for opt_outs in (self._opt_outs, _opt_outs(suppression)) if opt_outs is not None]

        async def has_opted_out(number: str) -> bool:
            return any([await opt_outs.has(number) for opt_outs in asked])

        return await preflight(
            messages,
            price=cost,
            balance=None if cost is None else (await self.balance.get()).balance,
            per_s=self._pace(),
            suppression=has_opted_out if asked else None,
            check=lambda message: send_request(message, engine.account),
        )

    async def send_bulk(
        self,
        messages: Input,
        *,
        concurrency: int = 64,
        journal: str | os.PathLike[str] | Journal | None = None,
        suppression: Suppression | None = None,
        on_result: OnResult | None = None,
        stop_after: int | None = None,
        outage_s: float = 60.0,
        priority: Priority = Priority.BULK,
    ) -> BulkReport:
        """
        Send many messages as fast as the pace allows, and give the numbers.

        No message is given up at once for a cause that is not its own: no token, no Redis, no connection. The messages
        in flight are tried again, after pauses that grow to 5 seconds, and hardly any others are read until one reaches
        Pico. Where nothing could be sent for *outage_s*, the blast stops: the rest is not sent, and `report.stopped`
        names the cause. Where Pico refuses the account (a wrong key), the blast stops at once; where it refuses 30
        messages in a row by a status that is about no single message, as HTTP 403, it stops, too.

        Where it is cancelled, *on_result* still hears of each message that was in flight: those on the wire are in
        doubt, the others not sent.

        Args:
            messages: Any iterable or async iterable of messages, of one or a million; it is read as it is sent. A bad
                item is a result with its error and ends nothing.
            concurrency: Messages in flight at once, waiting for the pace or for Pico.
            journal: Remember in this file what became of each message, so that the same call again, after a crash
                too, sends only what was not sent. What it has already is `SKIPPED`; what may have been sent is
                `IN_DOUBT` until you decide: see `SqliteJournal`. A message is known by its `key`, else by its content.
            suppression: Numbers that opted out of this blast, or a function, as the session takes them: asked beside
                the session's own, in the same place. Such a message is not sent: its error is a `SuppressedError`, and
                it is no failure. Where the function raises, it is not sent either; the others wait until it answers
                again, as above.
            on_result: Called, and awaited where it is async, with each `SendResult` as it finishes.
            stop_after: So many failures in a row end the blast; the rest is not sent.
            outage_s: Seconds to wait while nothing can be sent; 0 to stop at the first such failure.
            priority: Who goes first where several wait for the pace; single sends overtake a blast.

        Raises:
            ConfigurationError: An argument is wrong, or the session is closed.
            JournalError: The journal is in use, damaged, another account's, that of other messages, or cannot be
                written. Nothing was sent.
            Exception: What *messages* or *on_result* raised, after what was in flight was settled or ended.
        """
        stream = self.stream_bulk(
            messages,
            concurrency=concurrency,
            journal=journal,
            suppression=suppression,
            stop_after=stop_after,
            outage_s=outage_s,
            priority=priority,
        )
        from pico_async.bulk.sender import send_all

        return await send_all(stream, on_result)

    def stream_bulk(
        self,
        messages: Input,
        *,
        concurrency: int = 64,
        journal: str | os.PathLike[str] | Journal | None = None,
        suppression: Suppression | None = None,
        stop_after: int | None = None,
        outage_s: float = 60.0,
        priority: Priority = Priority.BULK,
    ) -> BulkStream:
        """
        Send many messages as fast as the pace allows, and iterate the results as they finish.

            async with pico.stream_bulk(messages) as results:
                async for result in results: ...

        Leaving the `async with` early stops the blast. The arguments are those of `send_bulk`.
        """
        if not isinstance(priority, Priority):
            raise ConfigurationError("`priority` must be a Priority, as Priority.INTERACTIVE or Priority.BULK.")
        engine = self._open()
        engine.check_live()
        # Not with the session, for most never blast.
        from pico_async.bulk.sender import BulkStream

        own = _opt_outs(suppression)
        opt_outs = None if own is None else own.let_pass

        def send(message: Message, trace: CallProgress) -> Awaitable[Accepted]:
            return deliver(engine, message, priority=priority, trace=trace, opt_outs=opt_outs)

        stream = BulkStream(
            messages,
            send,
            concurrency=concurrency,
            stop_after=stop_after,
            outage_s=outage_s,
            journal=journal,
            account=f"{self._account.username} at {place(self._base_url)}",
            pace=self._pace,
            told=self._told_blast(),
        )
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """
        End the session: blasts stop, what waits is not sent, what is on the wire is settled within `timeout`.

        Closing twice does nothing.
        """
        if self._closed:
            return
        if self._engine is None:
            self._closed = True
            await self._transport.aclose()
            return
        engine = self._open()
        self._closed = True
        for stream in list(self._streams):
            stream.stop("the session was closed")
        try:
            await engine.aclose()
        finally:
            await self._membership.leave()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "token"):
            return "<PicoSession, not made>"
        state = "closed" if self._closed else "open" if self._engine is not None else "not opened"
        pace = self._pace()
        at_pace = "" if pace is None else f", {pace:.2f} text messages a second"
        return f"<PicoSession {self._account.username!r} at {self._base_url}, {state}{at_pace}>"

    def _pace(self) -> float | None:
        return None if self._engine is None or self._closed else self._engine.per_s(RateGroup.SMS)

    def _open(self) -> Engine:
        """Give the engine, made on first use, for only then is the loop known."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError("PicoSession needs a running event loop: use it in a coroutine.") from None
        if self._closed:
            raise ConfigurationError("This session is closed: make another one.")
        if self._engine is None:
            self._loop = loop
            self._observer = self._observe()
            self._engine = Engine(
                account=self._account,
                api_key=self._api_key,
                transport=self._transport,
                coordinator=self._membership.join(),
                retries=self._retries,
                retry_in_doubt=self._retry_in_doubt,
                opt_outs=None if self._opt_outs is None else self._opt_outs.let_pass,
                observer=self._observer,
                reaches_pico=self._reaches_pico,
            )
        if self._loop is not loop:
            raise ConfigurationError("This session belongs to another event loop: make one in each loop that sends.")
        return self._engine

    def _observe(self) -> Observer | None:
        """Give what tells whoever listens; None where nobody does, and then no event is made."""
        listeners = list(self._listeners)
        # On first use, and not with the session: by then, whoever sets up logging has done so.
        if self._log_level is not None or Logger("pico_async").isEnabledFor(logging.INFO):
            from pico_async._event_log import listener

            listeners.append(listener(self._log_level))
        if not listeners:
            return None
        from pico_async._engine.observer import Observer

        return Observer(listeners, self._base_url)

    def _told_blast(self) -> BlastEvents | None:
        if self._observer is None:
            return None
        from pico_async.bulk.blast_events import BlastEvents

        return BlastEvents(self._observer)


def _opt_outs(suppression: Suppression | None) -> OptOuts | None:
    if suppression is None:
        return None
    # Not with the session, for many know of no opt-outs.
    from pico_async.bulk.suppression import OptOuts

    return OptOuts(suppression)
