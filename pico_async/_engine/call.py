"""One call, from a request to a value or an error. Read `Engine._run` from top to bottom."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar, cast

import anyio

from pico_async._engine import live
from pico_async._engine.decision import Fail, History, ReplaceToken, Retry, Return, decide
from pico_async._engine.endpoints import GET_TOKEN, Request
from pico_async._engine.http.exchange import Departure, HttpClient, HttpRequest, expired
from pico_async._engine.observer import Observer
from pico_async._engine.permission import Allow
from pico_async._engine.progress import CallProgress, Scope
from pico_async._engine.retry import MAX_WAIT_S
from pico_async._engine.retry_budget import RetryBudget
from pico_async._engine.verdict import Success, Verdict, doubt_about, judge, judge_failure, unexpected, without_token
from pico_async._engine.wire import Account, DecodeError, Failure, decode, encode
from pico_async._version import __version__
from pico_async.coordination.protocols import Coordinator, Priority
from pico_async.coordination.rates import RateGroup
from pico_async.coordination.token_cache import Secret, TokenCache, fits_in_header
from pico_async.errors import (
    ConfigurationError,
    InDoubtError,
    NoResponseError,
    NotSentError,
    PicoError,
    RateLimitError,
)
from pico_async.models import UserToken

Value = TypeVar("Value")

_NO_SCOPE = nullcontext()


class Engine:
    """
    Makes the calls of one session.

    Args:
        account: The account, and what its messages share.
        retries: Number of retries of a call.
        retry_in_doubt: Retry also a request that may have been carried out.
        opt_outs: Called with the number of each message; raises if it must not be sent. None if there are none.
        observer: Emits events; None if nothing listens.
        reaches_pico: The host may be Pico, and no stand-in.
    """

    def __init__(
        self,
        *,
        account: Account,
        api_key: Secret,
        client: HttpClient,
        coordinator: Coordinator,
        retries: int,
        retry_in_doubt: bool,
        opt_outs: Allow | None = None,
        observer: Observer | None = None,
        reaches_pico: bool = True,
    ) -> None:
        self.account = account
        self.opt_outs = opt_outs
        self._reaches_pico = reaches_pico
        self._api_key = api_key
        self._client = client
        self._limiters = {rate_group: coordinator.limiter(rate_group) for rate_group in RateGroup}
        self._retries = retries
        self._retry_in_doubt = retry_in_doubt
        self._observer = observer
        self._retry_budget = RetryBudget()
        # The headers of requests without and with a body, and their token.
        self._headers: dict[bool, tuple[str | None, Mapping[str, str]]] = {}
        self._tokens = TokenCache(coordinator.token, self._fetch_token, longest_s=MAX_WAIT_S)
        self._calls: dict[CallProgress, Scope] = {}
        self._idle = asyncio.Event()
        self._closing = False

    def __repr__(self) -> str:
        return f"<Engine {len(self._calls)} calls, {self._client!r}, {self._retry_budget!r}>"

    def call(
        self,
        request: Request,
        read: Callable[[object], Value],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        progress: CallProgress | None = None,
    ) -> Coroutine[Any, Any, Value]:
        """
        Carry out one request, and emit its events.

        Args:
            read: Makes the value of the reply's payload; raises DecodeError if it cannot.
            deadline: Time on the monotonic clock after which the request must not be sent.
            progress: Shows the caller how far the call is, also when it is cancelled.

        Raises:
            PicoError: One of the errors in `pico_async.errors`, with its outcome.
        """
        progress = progress or CallProgress()
        progress.priority, progress.deadline = priority, deadline
        called = self._run_until_closed(request, read, progress)
        return called if self._observer is None else self._observer.follow(request, progress, self.per_s, called)

    async def _run_until_closed(
        self, request: Request, read: Callable[[object], Value], progress: CallProgress
    ) -> Value:
        """Run a call within a scope that the closing of the session cancels."""
        if self._closing:
            raise ConfigurationError(f"{request}: the session is closed. Make the call inside its `async with`.")
        self.check_live()
        own: Any = anyio.CancelScope() if progress.scope is None else _NO_SCOPE
        with own:
            self._calls[progress] = progress.scope or own
            try:
                return await self._run(request, read, progress)
            except asyncio.CancelledError as cancelled:
                # Python shows the note also if a timeout of the caller ends the call.
                cancelled.add_note(f"{request}: {doubt_about(request) if progress.in_doubt else 'nothing was sent.'}")
                raise
            finally:
                del self._calls[progress]
                self._idle.set()
        # Only the closing of the session cancels this scope.
        if progress.in_doubt:
            raise NoResponseError(f"{request}: the session was closed before the reply came. {doubt_about(request)}")
        raise _ended(request)

    async def _run(self, request: Request, read: Callable[[object], Value], progress: CallProgress) -> Value:
        deadline, history = progress.deadline, History()
        while True:
            if progress.ending:
                raise _final(history.doubt or _ended(request), progress)
            try:
                token, departure = await self._acquire(request, progress)
            except PicoError as error:
                # A missing token does not undo what an earlier attempt may have done.
                raise _final(history.doubt or error, progress) from None
            verdict = await self._attempt(request, token, departure, read, progress)
            progress.exchanging = False
            progress.in_doubt = isinstance(verdict, InDoubtError) or history.doubt is not None
            if isinstance(verdict, RateLimitError):
                await departure.slot.refused(verdict.retry_after)
            action = decide(
                verdict,
                history,
                request,
                with_token=token is not None,
                retry_in_doubt=self._retry_in_doubt,
                retries=self._retries,
                ending=progress.ending,
            )
            match action:
                case Return():
                    if self._retry_budget.spent:
                        self._retry_budget.give_back(retried=action.retried)
                    return cast(Value, action.value) if isinstance(verdict, Success) else read(action.value)
                case ReplaceToken() if token is not None:
                    await self._tokens.reject(token)
                    history.token_replaced, wait_s = True, 0.0
                case Retry() if deadline is None or time.monotonic() + action.after_s[1] < deadline:
                    history.add(action)
                    if not action.is_queued and not self._retry_budget.take():
                        raise _final(_unrepeated(history.doubt or action.error), progress)
                    wait_s = random.uniform(*action.after_s)  # noqa: S311  jitter is no secret
                case Retry():
                    raise _final(action.doubt or action.error, progress)
                case Fail():
                    raise _final(action.error, progress)
            if progress.observed is not None:
                progress.observed.retrying(action.error, wait_s)
            if isinstance(action, Retry):
                await asyncio.sleep(wait_s)
                history.waited_s += time.monotonic() - departure.slot.granted_at if action.is_queued else wait_s

    async def _acquire(self, request: Request, progress: CallProgress) -> tuple[Secret | None, Departure]:
        """
        Wait until the request may be sent. Return its token, and its departure, which holds a slot and a connection.

        Raises:
            MessageExpiredError: The deadline passed.
        """
        limiter, deadline = self._limiters[request.endpoint.rate_group], progress.deadline
        connections, observed, permission = self._client.connections, progress.observed, progress.permission
        with _NO_SCOPE if deadline is None else anyio.move_on_after(deadline - time.monotonic()):
            while True:
                # Everything slow comes before the slot: else slots would pile up, and be used in a bunch.
                token = None if request.endpoint.rate_group is RateGroup.TOKEN else await self._token_for(request)
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
                if token is None or (token := await self._tokens.current()) is not None:
                    break
                slot.release()
            try:
                # Before a connection is acquired: a hundred answers that never come would hold all of them.
                late = permission is not None and await permission.ask_again()
                late = await connections.acquire(progress.priority) or late
            except BaseException:
                slot.release()
                raise
            if deadline is None or time.monotonic() < deadline:
                return token, Departure(request, slot, progress, late=late)
            connections.release()
            slot.release()
        raise expired(request)

    async def _attempt(
        self,
        request: Request,
        token: Secret | None,
        departure: Departure,
        read: Callable[[object], object],
        progress: CallProgress,
    ) -> Verdict:
        """Send the request once, and return the verdict of its reply."""
        observed = progress.observed
        progress.attempts += 1
        try:
            if progress.on_attempt is not None:
                progress.on_attempt()
            if observed is not None:
                observed.attempt_started(progress.attempts)
            verdict = await self._exchange(request, token, departure, read, progress)
        finally:
            self._client.connections.release()
        # Emitted first: if a listener is interrupted, the verdict is lost, and the call is in doubt.
        if observed is not None:
            observed.attempt_ended(verdict)
        return verdict

    async def _exchange(
        self,
        request: Request,
        token: Secret | None,
        departure: Departure,
        read: Callable[[object], object],
        progress: CallProgress,
    ) -> Verdict:
        try:
            reply = await self._client.exchange(self._http_request(request, token), departure)
        except PicoError as error:
            return error
        if isinstance(reply, Failure):
            return judge_failure(request, reply)
        departure.slot.answered(time.monotonic() - departure.slot.granted_at)
        secrets = [self._api_key.value] + ([token.value] if token else [])
        if progress.observed is not None:
            progress.observed.replied(reply.status, secrets)
        verdict = judge(request, reply, secrets=secrets)
        if not isinstance(verdict, Success):
            return verdict
        try:
            return Success(read(verdict.payload))
        except DecodeError as fault:
            return unexpected(request, f"the reply is not what v0.4 promises: {fault}", status_code=reply.status)

    def per_s(self, rate_group: RateGroup) -> float | None:
        """Return the requests per second that the limiter grants now; None if unlimited or unknown."""
        return self._limiters[rate_group].per_s

    def check_live(self) -> None:
        """
        Raise if the session would reach Pico, and must not.

        Raises:
            ConfigurationError: This is a test run, and the test is not marked as one that sends for real.
        """
        if self._reaches_pico and (fault := live.refusal()) is not None:
            raise ConfigurationError(fault)

    async def ensure_token(self) -> None:
        """Fetch a token, unless there is one to trust."""
        await self._tokens.get()

    async def fetch_token(self) -> UserToken:
        """Fetch a fresh token, and cache it."""
        token = await self.call(self._token_request(), _read_token)
        await self._tokens.keep(token.token)
        return token

    async def aclose(self) -> None:
        """
        End all calls, then close the connections.

        A waiting call ends as not sent. An exchange may complete within its timeout; if the closing is cancelled, it
        is in doubt.
        """
        self._closing = True
        for progress, scope in list(self._calls.items()):
            progress.ending = True
            if not progress.exchanging:
                scope.cancel()
        try:
            # The calls that would have used the new token are ended.
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

    def _http_request(self, request: Request, token: Secret | None) -> HttpRequest:
        has_body = request.body is not None
        bearer = None if token is None else token.value
        known_for, headers = self._headers.get(has_body, ("", {}))
        if known_for != bearer:
            headers = {
                "X-API-Key": self._api_key.value,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"pico-async/{__version__}",
            }
            if bearer is not None:
                headers["Authorization"] = f"Bearer {bearer}"
            if has_body:
                headers["Content-Type"] = "application/json; charset=utf-8"
            self._headers[has_body] = (bearer, headers)
        content = encode(request.body) if request.body is not None else b""
        return HttpRequest(request.endpoint.method, request.path, request.query, headers, content)

    def _token_request(self) -> Request:
        return Request(GET_TOKEN, GET_TOKEN.path_with(username=self.account.username))

    async def _fetch_token(self) -> str:
        return (await self.call(self._token_request(), _read_token)).token

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


def _final(error: PicoError, progress: CallProgress) -> PicoError:
    error.attempts = progress.attempts
    return error


def _unrepeated(error: PicoError) -> PicoError:
    # In the message and not in a note, because reports and most logs show only the message.
    error.args = (
        f"{error} It was not retried, because too many retries of this session failed recently. Retries resume once "
        "requests succeed again.",
    )
    return error


def _ended(request: Request) -> NotSentError:
    return NotSentError(f"{request}: the call was ended, or its session closed, while it waited. Nothing was sent.")
