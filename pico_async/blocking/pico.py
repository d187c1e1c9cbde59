"""The client for synchronous code."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pico_async._boundary import boundary
from pico_async._engine.http.httpx_library import AsyncTransport, library_of
from pico_async._engine.http.selection import stays_in_process
from pico_async._engine.progress import Listener
from pico_async.blocking.bulk import BulkStream
from pico_async.blocking.callbacks import asked_in_caller, called_in_caller, read_in_caller
from pico_async.blocking.loop_thread import LoopThread
from pico_async.blocking.operations import Running, blocking, documented_as
from pico_async.blocking.resources import (
    BalanceResource,
    CampaignsResource,
    MmsResource,
    SmsResource,
    TemplatesResource,
    TokenResource,
    VoiceResource,
)
from pico_async.bulk import sender
from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.preflight import Price
from pico_async.bulk.preflight_report import Preflight
from pico_async.bulk.report import BulkReport
from pico_async.bulk.sender import OnResult
from pico_async.bulk.source import Input
from pico_async.bulk.suppression import Suppression
from pico_async.coordination.protocols import Coordinator, Priority
from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError, PicoError
from pico_async.messages import Message
from pico_async.models import Accepted
from pico_async.receipts.callbacks import CallbackSigner
from pico_async.resources._member import Resource
from pico_async.session import PicoSession

if TYPE_CHECKING:
    from pico_async._engine.http.aiohttp_transport import AiohttpTransport

# One event loop for all that a process makes: so those of one API key share their limiters, as sessions do.
_thread = LoopThread()
# To be closed at the exit, and opened again after a fork.
_picos: weakref.WeakSet[Pico] = weakref.WeakSet()
# What a forked process has of its parent. It is kept, because its finalizers could write on the parent's sockets.
_inherited: list[object] = []


@documented_as(PicoSession)
@boundary
class Pico:
    """
    One account at Pico, for synchronous code: the operations of `PicoSession`, which return when they are done.

        with Pico() as pico:
            pico.sms.send(to="8612345678901", text="Your code is 1234")

    Or make one for the whole program, as a global variable: any number of threads may use it. `close()` ends it;
    otherwise the exit of the program does. All calls of a process go through one event loop in one thread, which the
    first call starts. So those of one API key share their limiters.

    - After a fork, the child has a thread, a token and connections of its own. Each process keeps to the rate by
      itself: give the processes of one key a `RedisCoordinator`, which shares the rate among them.
    - An exception that a signal raises in a waiting thread, as KeyboardInterrupt, cancels the call. It has a note that
      says whether the message was sent.
    - An input, a `suppression` function and an `on_result` function run in the thread that made the call. `on_event`
      runs in the thread of the event loop.

    It is not for a thread that runs an event loop for others, as an `async def` view: use `PicoSession` there.

    All arguments are those of `PicoSession`, and so are the environment variables.

    Raises:
        ConfigurationError: An argument is missing or wrong. The error names it and repeats no secret.
    """

    sms: Resource[SmsResource] = Resource(SmsResource, made_from="_open")
    mms: Resource[MmsResource] = Resource(MmsResource, made_from="_open")
    voice: Resource[VoiceResource] = Resource(VoiceResource, made_from="_open")
    campaigns: Resource[CampaignsResource] = Resource(CampaignsResource, made_from="_open")
    templates: Resource[TemplatesResource] = Resource(TemplatesResource, made_from="_open")
    balance: Resource[BalanceResource] = Resource(BalanceResource, made_from="_open")
    token: Resource[TokenResource] = Resource(TokenResource, made_from="_open")

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
        def make_session() -> PicoSession:
            return PicoSession(
                username=username,
                api_key=api_key,
                sender=sender,
                callback=callback,
                callback_signer=callback_signer,
                allow_private_urls=allow_private_urls,
                base_url=base_url,
                timeout=timeout,
                retries=retries,
                retry_in_doubt=retry_in_doubt,
                rates=rates,
                coordinator=coordinator,
                transport=transport,
                ssl=ssl,
                suppression=asked_in_caller(suppression),
                on_event=on_event,
            )

        self._make_session = make_session
        self._transport = transport
        self._closed = self._is_used = False
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._run(make_session())
        _picos.add(self)

    @blocking
    async def send(self, message: Message, *, priority: Priority = Priority.INTERACTIVE) -> Accepted:
        return await self._open().session.send(message, priority=priority)

    @blocking
    async def preflight(
        self, messages: Input, *, price: Price | None = None, suppression: Suppression | None = None
    ) -> Preflight:
        return await self._open().session.preflight(
            read_in_caller(messages), price=price, suppression=asked_in_caller(suppression)
        )

    @blocking
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
        return await self._open().session.send_bulk(
            read_in_caller(messages),
            concurrency=concurrency,
            journal=journal,
            suppression=asked_in_caller(suppression),
            on_result=called_in_caller(on_result),
            stop_after=stop_after,
            outage_s=outage_s,
            priority=priority,
        )

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
        running = self._open()

        async def make() -> sender.BulkStream:
            return running.session.stream_bulk(
                read_in_caller(messages),
                concurrency=concurrency,
                journal=journal,
                suppression=asked_in_caller(suppression),
                stop_after=stop_after,
                outage_s=outage_s,
                priority=priority,
            )

        stream = BulkStream(running.thread, running.thread.run(make()))
        running.streams.add(stream)
        return stream

    def close(self) -> None:
        """
        Close it. Bulk sends stop, waiting calls of other threads end as not sent, and exchanges complete.

        Closing twice does nothing. In a forked child, this closes nothing of the parent's.
        """
        running = self._running
        if self._closed or running is None:
            self._closed = True
            return
        self._closed = True
        for stream in list(running.streams):
            stream.end()
        running.thread.run(running.session.aclose())

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        running = self.__dict__.get("_running")
        if running is None:
            return "<Pico, not used in this process>"
        return str(running.thread.get(running.session.__repr__)).replace("PicoSession", "Pico", 1)

    def _open(self) -> Running:
        """Return the session and the thread of this process."""
        self._require_open()
        self._is_used = True
        return self._running or self._run_in_child()

    def _require_open(self) -> None:
        if self._closed:
            raise ConfigurationError("This Pico is closed. Make another one.")

    def _run(self, session: PicoSession) -> Running:
        self._running = running = Running(session, _thread)
        # For a Pico that is dropped. Garbage is collected at any point of any thread, so nothing waits for it.
        weakref.finalize(self, _abandon, running).atexit = False
        return running

    def _forget_parent(self) -> None:
        """Use nothing of the parent process, in a child that was forked from it."""
        self._lock = threading.Lock()
        if self._running is None:
            return
        _inherited.append(self._running)
        if self._is_used:
            self._running = None
        else:
            self._run(self._running.session)

    def _run_in_child(self) -> Running:
        with self._lock:
            if self._running is not None:
                return self._running
            if library_of(self._transport) is not None and not stays_in_process(self._transport):
                raise ConfigurationError(
                    "This process was forked from one that has used this Pico, and may not use the connections of its "
                    "`transport`. Make another Pico in each process."
                )
            return self._run(self._make_session())


def _abandon(running: Running) -> None:
    running.thread.start_soon(running.session.aclose())


def _forked() -> None:
    """Start a new thread in a child: of its parent's threads, it has only the one that forked."""
    global _thread
    _inherited.append(_thread)
    _thread = LoopThread()
    for pico in list(_picos):
        pico._forget_parent()


def _exit() -> None:
    """Close everything before Python ends the daemon threads, and the event loop with them."""
    for pico in list(_picos):
        with suppress(PicoError):
            pico.close()
    _thread.stop()


atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
