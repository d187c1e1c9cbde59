"""One call, from a request to a value or an error: token, turn, exchange, verdict, decision."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from pico_async._engine import live
from pico_async._engine.attempt import Attempt, expired
from pico_async._engine.endpoints import GET_TOKEN, Request
from pico_async._engine.http.transport import Outgoing, Transport
from pico_async._engine.permission import Allow
from pico_async._engine.progress import CallProgress, Scope
from pico_async._engine.retry import BACKOFF, MAX_WAIT_S, TOKEN_BACKOFF, next_delay_s
from pico_async._engine.retry_budget import RetryBudget
from pico_async._engine.token import Secret, TokenCache, fits_in_header
from pico_async._engine.verdict import (
    StaleToken,
    Success,
    Verdict,
    doubt_about,
    found_nothing,
    judge,
    judge_failure,
    unexpected,
)
from pico_async._engine.wire import Account, DecodeError, Failure, decode, encode
from pico_async._version import __version__
from pico_async.coordination.protocols import Coordinator, LearningCoordinator, Priority
from pico_async.coordination.rates import RateGroup
from pico_async.errors import (
    AuthenticationError,
    ConfigurationError,
    InDoubtError,
    NoResponseError,
    NotSentError,
    PicoError,
    RateLimitError,
    RejectedError,
)
from pico_async.models import UserToken

if TYPE_CHECKING:
    from pico_async._engine.observer import Observer

Value = TypeVar("Value")

_ENTERED = nullcontext()


class Engine:
    """
    Make calls with one account's credentials.

    Args:
        account: Whose credentials they are, and what its messages share.
        retries: Further tries of what may be repeated.
        retry_in_doubt: Repeat also what may have been carried out.
        opt_outs: Asked for each message with its number; raises where it must not be sent. None where nobody can.
        observer: Tells whoever listens; None where nobody does.
        reaches_pico: The host may be Pico itself, and no stand-in.
    """

    def __init__(
        self,
        *,
        account: Account,
        api_key: Secret,
        transport: Transport,
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
        self._transport = transport
        self._coordinator = coordinator
        self._retries = retries
        self._retry_in_doubt = retry_in_doubt
        self._observer = observer
        self._learner = coordinator if isinstance(coordinator, LearningCoordinator) else None
        self._quota = RetryBudget()
        # Of requests with and without a body: for which token, and what they are.
        self._headers: dict[bool, tuple[str | None, Mapping[str, str]]] = {}
        self._tokens = TokenCache(coordinator.token, self._fetch_token, longest_s=MAX_WAIT_S)
        self._calls: dict[CallProgress, Scope] = {}
        self._idle = asyncio.Event()
        self._closing = False

    def call(
        self,
        request: Request,
        read: Callable[[object], Value],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        trace: CallProgress | None = None,
    ) -> Coroutine[Any, Any, Value]:
        """
        Carry out one request, and tell whoever listens.

        Args:
            read: Makes the value of the reply's payload; raises DecodeError where it cannot.
            deadline: Moment on the monotonic clock after which the request must not leave.
            trace: Tells the caller how far the call has come, also when it is cancelled.

        Raises:
            PicoError: One of the tree in `errors`, with the outcome.
        """
        trace = trace or CallProgress()
        called = self._call_until_closed(request, read, priority, deadline, trace)
        return called if self._observer is None else self._observer.follow(request, trace, self.per_s, called)

    async def _call_until_closed(
        self,
        request: Request,
        read: Callable[[object], Value],
        priority: Priority,
        deadline: float | None,
        trace: CallProgress,
    ) -> Value:
        """Carry out one request within a scope that the closing of the session cancels."""
        if self._closing:
            raise ConfigurationError(f"{request}: the session is closed. Make the call inside its `async with`.")
        self.check_live()
        own: Any = anyio.CancelScope() if trace.scope is None else _ENTERED
        with own:
            self._calls[trace] = trace.scope or own
            try:
                return await self._call(request, read, priority, deadline, trace)
            except asyncio.CancelledError as cancelled:
                # Python shows it where a timeout of the caller's ends the call, too.
                cancelled.add_note(f"{request}: {doubt_about(request) if trace.in_doubt else 'nothing was sent.'}")
                raise
            finally:
                del self._calls[trace]
                self._idle.set()
        # Only the closing of the session cancels this scope.
        if trace.in_doubt:
            raise NoResponseError(f"{request}: the session was closed before the reply came. {doubt_about(request)}")
        raise _ended(request)

    async def _call(
        self,
        request: Request,
        read: Callable[[object], Value],
        priority: Priority,
        deadline: float | None,
        trace: CallProgress,
    ) -> Value:
        doubt: InDoubtError | None = None
        authenticated_again = False
        tries, refusals, waited_s = 0, 0, 0.0
        while True:
            if trace.ending:
                raise _final(doubt or _ended(request), trace)
            try:
                token = await self._turn(request, priority, deadline, trace)
            except PicoError as error:
                # That there is no token does not undo what an earlier try may have done.
                raise _final(doubt or error, trace) from None
            attempt = Attempt(
                request, trace, self._coordinator, learner=self._learner, priority=priority, deadline=deadline
            )
            verdict = await self._exchange(request, token, read, trace, attempt)
            trace.note_verdict(verdict, in_doubt=isinstance(verdict, InDoubtError) or doubt is not None)
            if isinstance(verdict, Success):
                self._quota.give_back(retried=tries > refusals)
                value: Value = verdict.payload
                return value
            if isinstance(verdict, StaleToken):
                if token is not None and not authenticated_again:
                    await self._tokens.reject(token)
                    authenticated_again = True
                    trace.note_retry(verdict, 0.0)
                    continue
                verdict = _refused_twice(request, verdict.error)
            tries += 1
            if doubt is not None and found_nothing(request, verdict):
                self._quota.give_back(retried=True)
                return read({"request_id": verdict.request_id})
            if isinstance(verdict, InDoubtError) and request.endpoint.method != "GET":
                doubt = verdict
            if isinstance(verdict, RateLimitError):
                await self._coordinator.refused(request.endpoint.rate_group, verdict.retry_after)
            # Pico gives all processes of a key one token a second, so to be refused one is no failure: the try is part
            # of the wait for a token, and costs no retry.
            queued = isinstance(verdict, RateLimitError) and request.endpoint.rate_group is RateGroup.TOKEN
            refusals += queued
            delay_s = next_delay_s(
                verdict,
                tries,
                repeatable=request.endpoint.repeatable or self._retry_in_doubt,
                retries=0 if trace.ending else self._retries + refusals,
                waited_s=waited_s,
                backoff=TOKEN_BACKOFF if queued else BACKOFF,
            )
            if delay_s is None or (deadline is not None and time.monotonic() + delay_s[1] >= deadline):
                # Nor does a later try that was refused, or never left.
                raise _final(doubt or verdict, trace)
            if not queued and not self._quota.take():
                raise _final(_unrepeated(doubt or verdict), trace)
            wait_s = random.uniform(*delay_s)  # noqa: S311  jitter is no secret
            trace.note_retry(verdict, wait_s)
            await asyncio.sleep(wait_s)
            waited_s += time.monotonic() - attempt.turn_at if queued else wait_s

    async def _turn(
        self, request: Request, priority: Priority, deadline: float | None, trace: CallProgress
    ) -> Secret | None:
        """
        Wait until the request may go out, and give the token to send it with.

        Raises:
            MessageExpiredError: That took too long.
        """
        if deadline is None:
            return await self._token_and_turn(request, priority, trace)
        with anyio.move_on_after(deadline - time.monotonic()):
            token = await self._token_and_turn(request, priority, trace)
            if time.monotonic() < deadline:
                return token
        raise expired(request)

    async def _token_and_turn(self, request: Request, priority: Priority, trace: CallProgress) -> Secret | None:
        while True:
            # The token before the turn: a slow refresh would let turns pile up, and then leave in a bunch.
            token = await self._token_for(request)
            if trace.permission is not None:
                # Anew before each try. Who is asked may be slow, and turns would leave in a bunch: so before the turn,
                # and after it only where the answer has become old.
                await trace.permission.ask()
            # Before the turn as well, for the same reason: a write-ahead log takes as long as its disk.
            await trace.prepare()
            trace.note_wait()
            await self._coordinator.turn(request.endpoint.rate_group, priority)
            trace.note_turn()
            if token is None:
                return None
            # A crowd waits for its turns with one token. Once that is refused, it is not offered again.
            if token := await self._tokens.current():
                return token

    def per_s(self, rate_group: RateGroup) -> float | None:
        """Say how many requests a second the rate group gives now; None where nothing limits it, or nobody knows."""
        return None if self._learner is None else self._learner.per_s(rate_group)

    def check_live(self) -> None:
        """
        Make sure that the session may reach Pico itself, if that is where its requests go.

        Raises:
            ConfigurationError: This is a test run, and the test is not one that sends for real.
        """
        if self._reaches_pico and (fault := live.refusal()) is not None:
            raise ConfigurationError(fault)

    async def ensure_token(self) -> None:
        """Have a token to send with; fetch one where there is none to trust."""
        await self._tokens.get()

    async def fetch_token(self) -> UserToken:
        """Fetch a fresh token; the cache takes it."""
        token = await self.call(self._token_request(), _read_token)
        await self._tokens.keep(token.token)
        return token

    async def aclose(self) -> None:
        """
        End all calls, then the connections.

        What waits is ended as not sent. What is on the wire is settled, for as long as `timeout` allows; where the
        closing itself is cancelled, it is in doubt.
        """
        self._closing = True
        for trace, scope in list(self._calls.items()):
            trace.ending = True
            if not trace.on_the_wire:
                scope.cancel()
        try:
            # The calls that would have used what it brings are ended.
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
                    await self._transport.aclose()

    async def _all_ended(self) -> None:
        while self._calls:
            self._idle.clear()
            await self._idle.wait()

    async def _exchange(
        self,
        request: Request,
        token: Secret | None,
        read: Callable[[object], object],
        trace: CallProgress,
        attempt: Attempt,
    ) -> Verdict:
        trace.note_attempt()
        try:
            reply = await self._transport.exchange(self._outgoing(request, token), attempt)
        except PicoError as error:
            return error
        if isinstance(reply, Failure):
            return judge_failure(request, reply)
        if self._learner is not None:
            self._learner.heard(request.endpoint.rate_group, time.monotonic() - attempt.turn_at)
        secrets = [self._api_key.value] + ([token.value] if token else [])
        trace.note_reply(reply.status, secrets)
        verdict = judge(request, reply, secrets=secrets)
        if not isinstance(verdict, Success):
            return verdict
        try:
            return Success(read(verdict.payload))
        except DecodeError as fault:
            return unexpected(request, f"the reply is not what v0.4 promises: {fault}", status_code=reply.status)

    def _outgoing(self, request: Request, token: Secret | None) -> Outgoing:
        content = b"" if request.body is None else encode(request.body)
        headers = self._headers_with(token, json=request.body is not None)
        return Outgoing(request.endpoint.method, request.path, request.query, headers, content)

    def _headers_with(self, token: Secret | None, *, json: bool) -> Mapping[str, str]:
        bearer = None if token is None else token.value
        known_for, headers = self._headers.get(json, ("", {}))
        if known_for != bearer:
            headers = {
                "X-API-Key": self._api_key.value,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"pico-async/{__version__}",
            }
            if bearer is not None:
                headers["Authorization"] = f"Bearer {bearer}"
            if json:
                headers["Content-Type"] = "application/json; charset=utf-8"
            self._headers[json] = (bearer, headers)
        return headers

    def _token_request(self) -> Request:
        return Request(GET_TOKEN, GET_TOKEN.path_with(username=self.account.username))

    async def _fetch_token(self) -> str:
        return (await self.call(self._token_request(), _read_token)).token

    async def _token_for(self, request: Request) -> Secret | None:
        if request.endpoint.rate_group is RateGroup.TOKEN:
            return None
        try:
            return await self._tokens.get()
        except PicoError as error:
            cause = error
        if isinstance(cause, ConfigurationError):
            raise cause
        told: dict[str, Any] = {
            "status_code": cause.status_code,
            "request_id": cause.request_id,
            "errors": cause.errors,
            "retry_after": cause.retry_after,
        }
        if isinstance(cause, RejectedError) and not isinstance(cause, RateLimitError):
            raise AuthenticationError(
                f"{request}: Pico gave no token, check the username and the API key. Nothing was sent. ({cause})",
                **told,
            )
        raise NotSentError(f"{request}: there is no token to send it with. Nothing was sent. ({cause})", **told)


def _read_token(payload: object) -> UserToken:
    token = decode(payload, UserToken)
    if not fits_in_header(token.token):
        raise DecodeError("`token`: it cannot stand in a header")
    return token


def _refused_twice(request: Request, refusal: PicoError) -> AuthenticationError:
    what = "the API key" if request.endpoint.rate_group is RateGroup.TOKEN else "a fresh token either"
    return AuthenticationError(
        f"{request}: Pico did not take {what}. It was not carried out. Check that the username belongs "
        "to the API key, and that this host's IP address is allowed.",
        status_code=refusal.status_code,
        request_id=refusal.request_id,
        errors=refusal.errors,
    )


def _final(error: PicoError, trace: CallProgress) -> PicoError:
    error.attempts = trace.attempts
    return error


def _unrepeated(error: PicoError) -> PicoError:
    # In the message and not in a note: a blast's report and most logs show only the message.
    error.args = (
        f"{error} It was not tried again: too many tries of this session failed of late, so Pico is spared more of "
        "them until some succeed.",
    )
    return error


def _ended(request: Request) -> NotSentError:
    return NotSentError(f"{request}: it was ended, or its session closed, while it waited. Nothing was sent.")
