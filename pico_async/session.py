"""The session: builds the parts from one account's settings, and owns their lives."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Awaitable, Sequence
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pico_async import _event_log, _settings
from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async._engine.event_loop import FROM_SYNCHRONOUS_CODE
from pico_async._engine.hosts import is_loopback, is_unresolvable
from pico_async._engine.http.exchange import HttpClient
from pico_async._engine.http.httpx_library import AsyncTransport
from pico_async._engine.http.selection import http_transport_for, stays_in_process
from pico_async._engine.progress import CallProgress, Listener, Observer
from pico_async._engine.wire import Account, send_request
from pico_async._logger import Logger
from pico_async.bulk.bulk_events import BulkEvents
from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.preflight import Price, checked_price, preflight
from pico_async.bulk.preflight_report import Preflight
from pico_async.bulk.report import BulkReport
from pico_async.bulk.sender import BulkStream, OnResult, send_all
from pico_async.bulk.source import Input
from pico_async.bulk.suppression import OptOuts, Suppression
from pico_async.coordination import registry
from pico_async.coordination.protocols import Coordinator, Priority
from pico_async.coordination.rates import RateGroup, Rates
from pico_async.errors import ConfigurationError
from pico_async.messages import Message
from pico_async.models import Accepted
from pico_async.receipts.callbacks import CallbackSigner, checked_signer
from pico_async.resources._member import Resource
from pico_async.resources.balance import BalanceResource
from pico_async.resources.campaigns import CampaignsResource
from pico_async.resources.mms import MmsResource
from pico_async.resources.sms import SmsResource
from pico_async.resources.templates import TemplatesResource
from pico_async.resources.token import TokenResource
from pico_async.resources.voice import VoiceResource

if TYPE_CHECKING:
    from pico_async._engine.http.aiohttp_transport import AiohttpTransport


@boundary
class PicoSession:
    """
    One account at Pico: its token, its limiters and its connections, behind thirteen operations.

    Use it with `async with`, or close it with `aclose()`. It belongs to the event loop that first uses it. In one loop,
    sessions of one API key share their limiters, and sessions of one account and host share their token.

    All arguments are keyword-only. A missing argument is read from its environment variable.

    Args:
        username: API account name (`PICO_USERNAME`).
        api_key: API key (`PICO_API_KEY`). No repr, log line or error shows it.
        sender: Sender ID or number for messages that name none (`PICO_SENDER`).
        callback: URL for the delivery receipts of text messages that name none (`PICO_CALLBACK`).
        callback_signer: Makes a signed URL of *callback* for each message, so that its receipt can be verified
            (`PICO_CALLBACK_SECRETS`: the secrets, separated by commas, the newest first).
        allow_private_urls: Accept a `callback` or `media_url` on a host that only this machine or its network reaches.
            Loopback hosts are accepted anyway if *base_url* is one.
        base_url: `DEFAULT_BASE_URL`, or `WHITELIST_BASE_URL` for accounts with an IP whitelist (`PICO_BASE_URL`).
            Plain http is refused unless the host is loopback.
        timeout: Seconds for one attempt, from connecting to the last byte of the reply; at most a day.
        retries: Number of retries, from 0 to 10. Only a request that provably was not carried out, or that may safely
            be repeated, is retried. While many retries fail, calls of the session are not retried; their errors say so.
        retry_in_doubt: Retry also a send that may have been carried out. Only where a duplicate is harmless.
        rates: Requests per second that your contract allows.
        coordinator: Shares the limiters and the token, in place of the coordinator that each event loop has by default.
            `RedisCoordinator` shares them with other processes and hosts.
        transport: `AiohttpTransport()`, or a transport of httpx or httpx2, in place of the session's own; closed with
            the session. With another one of these libraries than `AsyncHTTPTransport`, the session cannot know when a
            request is written, so more failures are in doubt. HTTP/2 is refused.
        ssl: Trusted certificate authorities, and a client certificate if you need one, for the session's own transport
            and `AiohttpTransport`. None uses those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else the public ones.
        suppression: Numbers that opted out, or a function, async or not, that returns whether a number has. It is asked
            before each attempt of each message, unless the message has `promotional=False`. A suppressed message raises
            `SuppressedError`. If the function raises, the message is not sent (`NotSentError`). A set is read once; to
            add to it later, pass an `OptOuts`.
        on_event: A plain function, or several, called with each event of `pico_async.events`. Keep it fast: some events
            come between a slot and its request. What it raises is logged once and changes no call.

    `PICO_LOG=info` or `PICO_LOG=debug` writes the events to stderr.

    How long a call may take, at most:

        its attempts                    (1 + retries) x timeout
        waits between them, in total    60 s; a retry that would wait longer is not begun
        fetching a token first          the two above once more, and 60 s if token requests come too fast
        replacing a refused token       one timeout, and another fetch
        waiting for slots               without bound; a message's `expires_in` bounds everything before its exchange

    Raises:
        ConfigurationError: An argument is missing or wrong. The error names it and repeats no secret.
    """

    sms: Resource[SmsResource] = Resource(SmsResource)
    mms: Resource[MmsResource] = Resource(MmsResource)
    voice: Resource[VoiceResource] = Resource(VoiceResource)
    campaigns: Resource[CampaignsResource] = Resource(CampaignsResource)
    templates: Resource[TemplatesResource] = Resource(TemplatesResource)
    balance: Resource[BalanceResource] = Resource(BalanceResource)
    token: Resource[TokenResource] = Resource(TokenResource)

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
        transport: AsyncTransport | AiohttpTransport | None = None,
        ssl: SSLContext | None = None,
        suppression: Suppression | None = None,
        on_event: Listener | Sequence[Listener] | None = None,
    ) -> None:
        key = _settings.checked_api_key(api_key or os.environ.get("PICO_API_KEY"))
        del api_key  # an error report that prints locals would show it
        self._base_url = _settings.checked_base_url(
            base_url or os.environ.get("PICO_BASE_URL") or _settings.DEFAULT_BASE_URL
        )
        account = _settings.checked_account(
            Account(
                username=_settings.checked_username(username or os.environ.get("PICO_USERNAME")),
                sender=_settings.checked_sender(sender or os.environ.get("PICO_SENDER")),
                callback=_settings.checked_callback(callback or os.environ.get("PICO_CALLBACK")),
                signer=checked_signer(callback_signer, os.environ.get("PICO_CALLBACK_SECRETS")),
                private_urls=allow_private_urls,
                loopback_urls=is_loopback(urlsplit(self._base_url).hostname),
            )
        )
        self._opt_outs = _opt_outs(suppression)
        self._coordinator = _settings.checked_coordinator(coordinator, rates)
        self._rates = rates or Rates()
        self._identity = _settings.identity(self._base_url, account.username, key)
        self._listeners = _settings.checked_listeners(on_event)
        self._log_level = _settings.checked_log_level(os.environ.get("PICO_LOG"))
        host = urlsplit(self._base_url).hostname
        self._engine = Engine(
            account=account,
            api_key=key,
            client=HttpClient(
                self._base_url,
                _settings.checked_timeout(timeout),
                http_transport_for(transport),
                _settings.checked_tls(ssl, transport),
            ),
            join=self._join,
            observe=self._observe,
            retries=_settings.checked_retries(retries),
            retry_in_doubt=_settings.checked_retry_in_doubt(retry_in_doubt),
            opt_outs=None if self._opt_outs is None else self._opt_outs.require_allowed,
            reaches_pico=not (is_loopback(host) or is_unresolvable(host) or stays_in_process(transport)),
        )
        self._streams: weakref.WeakSet[BulkStream] = weakref.WeakSet()

    async def send(self, message: Message, *, priority: Priority = Priority.INTERACTIVE) -> Accepted:
        """
        Hand one message of any kind to Pico, as `sms.send`, `mms.send` and `voice.send` do.

        Raises:
            InvalidMessageError: This is not a message, or it has no sender. Nothing was sent.
            SuppressedError: The number has opted out. Nothing was sent.
            NotSentError: Pico was not reached, or `suppression` failed. It is safe to send the message again.
            RejectedError: Pico refused the message.
            InDoubtError: The message may have been sent, so it was not repeated.
        """
        return await self._engine.send(message, priority=priority)

    async def preflight(
        self, messages: Input, *, price: Price | None = None, suppression: Suppression | None = None
    ) -> Preflight:
        """
        Report what `send_bulk` would send, without sending it: valid messages, their parts, cost and duration.

        The input is read to its end, so pass one that can be read again. Memory use does not grow with its length. The
        duration is estimated from the limiter's present rate.

        Args:
            messages: Any iterable or async iterable of messages, as for `send_bulk`.
            price: Price of one part in the balance's unit, such as "0.04". With it, the balance is requested once.
            suppression: As for `send_bulk`. The session's own is asked as well.

        Raises:
            ConfigurationError: An argument is wrong, or the session is closed.
            NotSentError, RejectedError, UnexpectedResponseError: The balance could not be requested.
            Exception: Raised by *messages* or *suppression*.
        """
        self._engine.open()
        cost = checked_price(price)
        asked = [opt_outs for opt_outs in (self._opt_outs, _opt_outs(suppression)) if opt_outs is not None]

        async def has_opted_out(number: str) -> bool:
            return any([await opt_outs.has(number) for opt_outs in asked])

        return await preflight(
            messages,
            price=cost,
            balance=None if cost is None else (await self.balance.get()).balance,
            per_s=self._per_s(),
            suppression=has_opted_out if asked else None,
            check=lambda message: send_request(message, self._engine.account),
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
        Send many messages as fast as the limiter allows, and return the numbers.

        A cause that concerns all messages fails none of them: no token, no Redis, no connection, too many requests.
        Those that were begun are retried, after pauses that grow to 5 seconds, and meanwhile at most one more is read
        for each pause. The bulk send stops early, and `report.stopped` says why, if

        - nothing could be sent for *outage_s*,
        - Pico refuses the account, such as for a wrong key, or
        - 30 messages in a row are refused by a status that concerns no single message, such as HTTP 403.

        If the call is cancelled, *on_result* is still called for each message that was begun: it is in doubt if its
        request was being exchanged, else not sent.

        Args:
            messages: Any iterable or async iterable of messages, of any length; it is read while it is sent. An invalid
                item becomes a result with its error.
            concurrency: Maximum number of messages that are begun at a time: they wait for a slot or for Pico.
            journal: File that remembers what happened to each message. The same call again, also after a crash, sends
                only what was not sent. Messages that were accepted are `SKIPPED`. Those that may have been sent are
                `IN_DOUBT` until you decide (see `SqliteJournal`). A message is recognized by its `key`, or without one
                by its content.
            suppression: Numbers that opted out of this bulk send, or a function, as for the session. The session's own
                is asked, too. A suppressed message has a `SuppressedError` and is no failure. If the function raises,
                its message is not sent, and the others wait until it works again.
            on_result: Called with each `SendResult` as it finishes; awaited if it is async.
            stop_after: Number of failures in a row that stop the bulk send.
            outage_s: Seconds to wait while nothing can be sent; 0 stops at the first such failure.
            priority: Which messages get a slot first; single sends overtake a bulk send by default.

        Raises:
            ConfigurationError: An argument is wrong, or the session is closed.
            JournalError: The journal is in use, damaged, of another account or of other messages, or cannot be written.
                Nothing was sent.
            Exception: Raised by *messages* or *on_result*. Messages that were begun were completed or ended before.
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
        Send many messages as fast as the limiter allows, and yield the results as they finish.

            async with pico.stream_bulk(messages) as results:
                async for result in results: ...

        Leaving the `async with` early stops the bulk send. The arguments are those of `send_bulk`.
        """
        return self._stream(
            messages,
            concurrency=concurrency,
            journal=journal,
            suppression=suppression,
            stop_after=stop_after,
            outage_s=outage_s,
            priority=priority,
            is_blast=True,
        )

    def _stream(
        self, messages: Input, *, suppression: Suppression | None, priority: Priority, is_blast: bool, **options: Any
    ) -> BulkStream:
        """Return the stream of a bulk send. Without *is_blast*, its calls are single calls to listeners and logs."""
        if not isinstance(priority, Priority):
            raise ConfigurationError("`priority` must be a Priority, such as Priority.INTERACTIVE or Priority.BULK.")
        self._engine.open()
        self._engine.check_live()
        own = _opt_outs(suppression)
        opt_outs = None if own is None else own.require_allowed

        def send(message: Message, progress: CallProgress) -> Awaitable[Accepted]:
            return self._engine.send(message, priority=priority, progress=progress, opt_outs=opt_outs)

        stream = BulkStream(
            messages,
            send,
            account=f"{self._engine.account.username} at {_settings.place(self._base_url)}",
            per_s=self._per_s,
            events=BulkEvents(observer) if is_blast and (observer := self._engine.observer) is not None else None,
            **options,
        )
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """
        Close the session. Bulk sends stop, waiting calls end as not sent, and exchanges complete within `timeout`.

        Closing twice does nothing.
        """
        if self._engine.closed:
            return
        if self._engine.loop is not None:
            self._engine.open()  # Raises in another event loop, before anything is stopped.
        for stream in list(self._streams):
            stream.stop("the session was closed")
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        self._engine.open()
        return self

    # Hidden from type checkers, which find the mistake by the missing methods.
    if not TYPE_CHECKING:

        def __enter__(self):
            raise ConfigurationError(
                f"Use `async with PicoSession() as pico:` in a coroutine; or {FROM_SYNCHRONOUS_CODE}."
            )

        def __exit__(self, *_):
            raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_streams"):  # __init__ raised
            return "<PicoSession, not made>"
        state = "closed" if self._engine.closed else "open" if self._engine.loop is not None else "not opened"
        per_s = self._per_s()
        rate = "" if per_s is None else f", {per_s:.2f} text messages a second"
        return f"<PicoSession {self._engine.account.username!r} at {self._base_url}, {state}{rate}>"

    def _per_s(self) -> float | None:
        return None if self._engine.closed else self._engine.per_s(RateGroup.SMS)

    def _join(self) -> Coordinator:
        if self._coordinator is None:
            return registry.join_shared(self._identity, self._rates)
        self._coordinator.join(self._identity)
        return self._coordinator

    def _observe(self) -> Observer | None:
        """Return the observer, or None if nothing listens: then no event is made."""
        listeners = list(self._listeners)
        # Not in __init__: the application may set up logging later.
        if self._log_level is not None or Logger("pico_async").isEnabledFor(logging.INFO):
            listeners.append(_event_log.listener(self._log_level))
        return Observer(listeners, self._base_url) if listeners else None


def _opt_outs(suppression: Suppression | None) -> OptOuts | None:
    return None if suppression is None else OptOuts(suppression)
