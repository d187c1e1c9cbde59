"""One call, from a request to a value or an error. Read `Engine._run` from top to bottom."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar, cast

import anyio
from attrs import Factory, define, field

from pico_async._engine import live
from pico_async._engine.decision import MAX_WAIT_S, Fail, History, ReplaceToken, Retry, Return, decide
from pico_async._engine.endpoints import GET_TOKEN, Request
from pico_async._engine.event_loop import another_loop, no_loop
from pico_async._engine.http.exchange import Departure, Headers, HttpClient, expired
from pico_async._engine.permission import Allow, Permission
from pico_async._engine.progress import CallProgress, Observer
from pico_async._engine.retry_budget import RetryBudget
from pico_async._engine.verdict import (
    Success,
    Verdict,
    call_ended,
    doubt_about,
    judge,
    judge_failure,
    unexpected,
    without_token,
)
from pico_async._engine.wire import Account, DecodeError, Failure, decode, send_request
from pico_async.coordination.protocols import Coordinator, Limiter, Priority
from pico_async.coordination.rates import RateGroup
from pico_async.coordination.token_cache import Secret, TokenCache, fits_in_header
from pico_async.errors import (
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    NoResponseError,
    PicoError,
    RateLimitError,
    Reason,
)
from pico_async.messages import Message, deadline as message_deadline
from pico_async.models import Accepted, UserToken

Value = TypeVar("Value")
_NO_SCOPE = nullcontext()
_read_accepted = partial(decode, model=Accepted)


@define(eq=False, repr=False, kw_only=True, slots=False)
class Engine:
    """
    Makes the calls of one session, in the event loop of the first call.

    Attributes:
        account: The account, and what its messages share.
        join: Joins the coordinator and returns it. Called by the first call, because only then the loop is known.
        observe: Returns what emits the events; None if nothing listens. Called by the first call, too.
        retry_in_doubt: Retry also a request that may have been carried out.
        opt_outs: Called with the number of each message; raises if it must not be sent. None if there are none.
        reaches_pico: Requests may go to Pico itself, and not to a stand-in such as the sandbox.
    """

    account: Account
    _api_key: Secret
    _client: HttpClient
    _join: Callable[[], Coordinator]
    _observe: Callable[[], Observer | None]
    _retries: int
    _retry_in_doubt: bool
    _opt_outs: Allow | None
    _reaches_pico: bool
    loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    observer: Observer | None = field(default=None, init=False)
    closed: bool = field(default=False, init=False)
    _headers: Headers = field(default=Factory(lambda self: Headers(self._api_key), takes_self=True), init=False)
    _limiters: Mapping[RateGroup, Limiter] = field(factory=dict, init=False)
    _retry_budget: RetryBudget = field(factory=RetryBudget, init=False)
    _calls: dict[CallProgress, anyio.CancelScope] = field(factory=dict, init=False)
    _idle: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __repr__(self) -> str:
        return f"<Engine {len(self._calls)} calls, {self._client!r}, {self._retry_budget!r}>"

    def open(self) -> None:
        """
        Join the coordinator, unless that was done.

        Raises:
            ConfigurationError: The session is closed or belongs to another event loop, or no loop is running.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise no_loop() from None
        if self.closed:
            raise ConfigurationError("This session is closed. Make another one.")
        if self.loop is None:
            self.observer = self._observe()
            self._coordinator = self._join()
            self._limiters = {rate_group: self._coordinator.limiter(rate_group) for rate_group in RateGroup}
            self._tokens = TokenCache(self._coordinator.token, self._fetch_token, longest_s=MAX_WAIT_S)
            self.loop = loop
        if self.loop is not loop:
            raise another_loop(self.loop)

    def send(
        self,
        message: Message,
        *,
        priority: Priority,
        progress: CallProgress | None = None,
        opt_outs: Allow | None = None,
    ) -> Awaitable[Accepted]:
        """
        Return an awaitable that hands one message of any kind to Pico.

        Args:
            opt_outs: Called with the number, after the session's own. It raises if the message must not be sent.

        Raises:
            InvalidMessageError: This is not a message, it has no sender, or *priority* is wrong. Nothing was sent.
        """
        if not isinstance(priority, Priority):
            # A wrong value would be compared with others in a queue, and break its order.
            fault = "`priority` must be a Priority, such as Priority.INTERACTIVE or Priority.BULK."
            raise InvalidMessageError(fault, argument="priority", reason=Reason.TYPE)
        request = send_request(message, self.account)
        progress = progress or CallProgress()
        progress.priority = priority
        if message.expires_in is not None:
            progress.deadline = message_deadline(message)
        if message.promotional and (self._opt_outs is not None or opt_outs is not None):
            progress.permission = Permission(message.to, self._opt_outs, opt_outs)
        return self.call(request, _read_accepted, progress)

    def call(
        self, request: Request, read: Callable[[object], Value], progress: CallProgress | None = None
    ) -> Coroutine[Any, Any, Value]:
        """
        Carry out one request, and emit its events.

        Args:
            read: Converts the reply's payload to the value of the call; raises DecodeError if it cannot.
            progress: The limits of the call. It shows the caller how far the call is, also when it is cancelled.

        Raises:
            PicoError: One of the errors in `pico_async.errors`, with its outcome.
        """
        self.open()
        self.check_live()
        progress = progress or CallProgress()
        called = self._run_until_closed(request, read, progress)
        return called if self.observer is None else self.observer.follow(request, progress, self.per_s, called)

    async def _run_until_closed(
        self, request: Request, read: Callable[[object], Value], progress: CallProgress
    ) -> Value:
        """Run a call in a scope that the closing of the session cancels."""
        scope: Any = progress.scope or anyio.CancelScope()
        with scope if progress.scope is None else _NO_SCOPE:
            self._calls[progress] = scope
            try:
                return await self._run(request, read, progress)
            except asyncio.CancelledError as cancelled:
                # Python shows the note also if a timeout of the caller ends the call.
                cancelled.add_note(f"{request}: {doubt_about(request) if progress.in_doubt else 'nothing was sent.'}")
                raise
            except PicoError as error:
                error.attempts = progress.attempts
                raise
            finally:
                del self._calls[progress]
                self._idle.set()
        # The closing of the session cancelled the call's own scope.
        if progress.in_doubt:
            raise NoResponseError(f"{request}: the session was closed before the reply came. {doubt_about(request)}")
        raise call_ended(request)

    async def _run(self, request: Request, read: Callable[[object], Value], progress: CallProgress) -> Value:
        deadline, history = progress.deadline, History()
        while True:
            if progress.ending:
                raise history.doubt or call_ended(request)
            try:
                departure = await self._acquire(request, progress)
            except PicoError as error:
                # There is no further attempt, but an earlier one may have been carried out.
                raise (history.doubt or error) from None
            verdict = await self._attempt(departure, read)
            progress.exchanging = False
            progress.in_doubt = isinstance(verdict, InDoubtError) or history.doubt is not None
            if isinstance(verdict, RateLimitError):
                await departure.slot.refused(verdict.retry_after)
            if isinstance(verdict, Success):
                if self._retry_budget.spent:
                    self._retry_budget.give_back(retried=history.retried)
                return cast(Value, verdict.payload)
            action = decide(
                verdict,
                history,
                request,
                with_token=departure.token is not None,
                retry_in_doubt=self._retry_in_doubt,
                retries=self._retries,
                ending=progress.ending,
            )
            match action:
                case Return():
                    self._retry_budget.give_back(retried=True)
                    return read(action.value)
                case ReplaceToken() if departure.token is not None:
                    await self._tokens.reject(departure.token)
                    history.token_replaced, wait_s = True, 0.0
                case Retry() if deadline is None or time.monotonic() + action.after_s.most_s < deadline:
                    history.add(action)
                    if not action.is_token_rate_refusal and not self._retry_budget.take():
                        raise _not_retried(history.doubt or action.error)
                    wait_s = random.uniform(*action.after_s)  # noqa: S311  jitter is no secret
                case Retry():  # it could end after the deadline
                    raise action.doubt or action.error
                case Fail():
                    raise action.error
            if progress.observed is not None:
                progress.observed.retrying(action.error, wait_s)
            if isinstance(action, Retry):
                await asyncio.sleep(wait_s)
                if action.is_token_rate_refusal:  # the refused exchange counts as a part of the wait
                    wait_s = time.monotonic() - departure.slot.granted_at
                history.waited_s += wait_s

    async def _acquire(self, request: Request, progress: CallProgress) -> Departure:
        """
        Wait until the request may be sent. Return its departure, with a token and a slot, and hold a connection.

        Raises:
            MessageExpiredError: The deadline passed.
        """
        limiter, deadline = self._limiters[request.endpoint.rate_group], progress.deadline
        connections, observed, permission = self._client.connections, progress.observed, progress.permission
        needs_token = request.endpoint.rate_group is not RateGroup.TOKEN
        with _NO_SCOPE if deadline is None else anyio.move_on_after(deadline - time.monotonic()):
            while True:
                # All that is slow comes before the slot. Otherwise many calls would hold slots, and send at one time.
                token = await self._token_for(request) if needs_token else None
                if permission is not None:
                    await permission.ask()
                if progress.before_send is not None:
                    await progress.before_send()
                if observed is not None:
                    observed.slot_requested()
                slot = await limiter.acquire(progress.priority)
                if observed is not None:
                    observed.slot_granted()
                # Many calls may have waited with one token, which Pico has refused meanwhile.
                token = await self._tokens.current() if needs_token else None
                if token is not None or not needs_token:
                    break
                slot.give_back()
            try:
                # Before a connection is acquired: a hundred calls that wait for an answer would hold all of them.
                held_up = permission is not None and await permission.ask_again()
                held_up = await connections.acquire(progress.priority) or held_up
            except BaseException:
                slot.give_back()
                raise
            if deadline is None or time.monotonic() < deadline:
                return Departure(request, slot, progress, token=token, held_up=held_up)
            connections.release()
            slot.give_back()
        raise expired(request)

    async def _attempt(self, departure: Departure, read: Callable[[object], object]) -> Verdict:
        """Send the request once, release the connection, and return the verdict."""
        progress = departure.progress
        progress.attempts += 1
        try:
            if progress.on_attempt is not None:
                progress.on_attempt()
            if progress.observed is not None:
                progress.observed.attempt_started(progress.attempts)
            verdict = await self._exchange(departure, read)
        finally:
            self._client.connections.release()
        # Emitted while `in_doubt` is set: if a listener is interrupted, the verdict is lost.
        if progress.observed is not None:
            progress.observed.attempt_ended(verdict)
        return verdict

    async def _exchange(self, departure: Departure, read: Callable[[object], object]) -> Verdict:
        """Exchange the request for a reply, and return what the reply, or its absence, proves."""
        request, token, observed = departure.request, departure.token, departure.progress.observed
        try:
            reply = await self._client.exchange(self._headers.http_request(request, token), departure)
        except PicoError as error:
            return error
        if isinstance(reply, Failure):
            return judge_failure(request, reply)
        departure.slot.answered(time.monotonic() - departure.slot.granted_at)
        secrets = [self._api_key.value] + ([token.value] if token else [])
        if observed is not None:
            observed.replied(reply.status, secrets)
        verdict = judge(request, reply, secrets=secrets)
        if not isinstance(verdict, Success):
            return verdict
        try:
            return Success(read(verdict.payload))
        except DecodeError as fault:
            return unexpected(request, f"the reply is not what v0.4 promises: {fault}", status_code=reply.status)

    def per_s(self, rate_group: RateGroup) -> float | None:
        """Return the requests per second that the limiter grants now; None if unlimited, unknown or not open."""
        return self._limiters[rate_group].per_s if self._limiters else None

    def check_live(self) -> None:
        """Raise ConfigurationError if the session would reach Pico in a test that is not marked for that."""
        if self._reaches_pico and (fault := live.refusal()) is not None:
            raise ConfigurationError(fault)

    async def ensure_token(self) -> None:
        """Fetch a token, unless there is one to trust."""
        self.open()
        await self._tokens.get()

    async def fetch_token(self) -> UserToken:
        self.open()
        return await self._tokens.fetch()

    async def aclose(self) -> None:
        """
        End all calls, then close the connections, and leave the coordinator.

        A waiting call ends as not sent. An exchange may complete within its timeout; if the closing is cancelled, the
        call of such an exchange is in doubt.
        """
        self.closed = True
        if self.loop is None:
            await self._client.aclose()
            return
        try:
            await self._end_calls()
        finally:
            await self._coordinator.leave()

    async def _end_calls(self) -> None:
        for progress, scope in list(self._calls.items()):
            progress.ending = True
            if not progress.exchanging:
                scope.cancel()
        try:
            # A fetch of a token is cancelled: no call is left that would use it.
            await self._tokens.aclose()
            await self._all_ended()
        finally:
            with anyio.CancelScope(shield=True):
                for scope in list(self._calls.values()):
                    scope.cancel()
                # No scope shields from `task.cancel()`.
                try:
                    await self._all_ended()
                    await self._tokens.aclose()
                finally:
                    await self._client.aclose()

    async def _all_ended(self) -> None:
        while self._calls:
            self._idle.clear()
            await self._idle.wait()

    async def _fetch_token(self) -> UserToken:
        request = Request(GET_TOKEN, GET_TOKEN.path_with(username=self.account.username))
        return await self.call(request, _read_token)

    async def _token_for(self, request: Request) -> Secret:
        try:
            return await self._tokens.get()
        except PicoError as error:
            cause = error
        raise without_token(request, cause)


def _read_token(payload: object) -> UserToken:
    token = decode(payload, UserToken)
    if not fits_in_header(token.token):
        raise DecodeError("`token` does not fit into a header")
    return token


def _not_retried(error: PicoError) -> PicoError:
    # In the message and not in a note, because reports and most logs show only the message.
    error.args = (
        f"{error} It was not retried, because too many retries of this session failed recently. Retries resume once "
        "requests succeed again.",
    )
    return error
