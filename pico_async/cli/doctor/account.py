"""Check the account: its token, its balance, and this machine's clock."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from pico_async._settings import WHITELIST_BASE_URL
from pico_async.cli.doctor.configuration import Configuration
from pico_async.cli.doctor.connection import make_transport
from pico_async.cli.doctor.finding import Finding, failed, not_checked, ok, warning
from pico_async.coordination.rates import Rates
from pico_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    PicoError,
    RateLimitError,
    ServerError,
    UnexpectedResponseError,
)
from pico_async.session import PicoSession

CLOCK_S = 30.0

_CREDENTIALS = "Compare PICO_USERNAME and PICO_API_KEY with the Pico platform, letter by letter."
_WHITELISTED = (
    "This is the host for accounts with the IP whitelist: is this machine's public address on the platform's \"HTTP IP "
    'Whitelist" page, and has Pico enabled it? v0.4 does not document the reply to other machines.'
)
_NOT_WHITELISTED = (
    "Does the account have the IP whitelist? Then it needs the host api.picotw.com. v0.4 documents a 400 for a wrong "
    "username or key, so the reason may be this machine's address."
)
_NOT_PICO = (
    "The server may not be Pico, but a gateway or a network's log-in page. Is PICO_BASE_URL right, and its path?"
)
_TOO_SOON = "Another process requested a token in the same second: try again."
_SERVER_PROBLEM = (
    "Pico or a gateway before it has a problem: try again in a minute, and ask Pico's support if it persists."
)


class OnceTransport(httpx.AsyncHTTPTransport):
    """
    A session's transport that sends each request only once, and records the server's clock.

    Attributes:
        server: The server's time; None where no reply had a date.
        ahead_s: How far this machine's clock is ahead of the server's, in seconds.
        answered: Whether there was a reply.
        repeated: Whether the session repeated a request: after a refusal of its token, or because it came too fast.
    """

    server: datetime | None = None
    ahead_s: float = 0.0
    answered: bool = False
    repeated: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent: set[bytes] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the first request for a path, and refuse a second one."""
        if request.url.raw_path in self._sent:
            self.repeated = True
            raise httpx.ConnectError("pico doctor sends each request once")
        self._sent.add(request.url.raw_path)
        before = time.time()
        response = await super().handle_async_request(request)
        self.answered = True
        self._compare_clocks(response.headers.get("date"), (before + time.time()) / 2)
        return response

    def _compare_clocks(self, date: str | None, here: float) -> None:
        try:
            server = parsedate_to_datetime(date or "")
        except (ValueError, TypeError, OverflowError):
            return
        self.server = server if server.tzinfo else server.replace(tzinfo=UTC)
        # The date has whole seconds, rounded down.
        self.ahead_s = here - (self.server.timestamp() + 0.5)


async def check_account(settings: Configuration, tls: ssl.SSLContext, *, timeout_s: float) -> AsyncIterator[Finding]:
    """
    Request a token, compare the clocks, and request the balance: at most two requests, and no message.

    The requests ignore a fleet's rate limit, because they are no sends.
    """
    if settings.username is None or settings.api_key is None or settings.base_url is None:
        raise ConfigurationError("There is no account to check.")
    transport: OnceTransport = make_transport(settings.proxy, tls, OnceTransport)
    async with PicoSession(
        username=settings.username,
        api_key=settings.api_key.value,
        base_url=settings.base_url,
        timeout=timeout_s,
        retries=0,
        # Each request is sent once, so there is no rate to keep, and a repetition fails at once.
        rates=Rates(token=None, balance=None),
        transport=transport,
    ) as pico:
        try:
            token = await pico.token.get()
        except PicoError as error:
            refused: PicoError | None = error
        else:
            refused = None
        yield _clock(transport)
        if refused is not None:
            # A session repeats a token request only if Pico refused it because it came too fast.
            if transport.repeated:
                yield failed("token", "Pico gives one token per second, and refused this request.", _TOO_SOON)
            else:
                yield failed("token", str(refused), _remedy(refused, settings.base_url), **_facts(refused))
            yield not_checked("balance", "there is no token")
            return
        length = len(token.token)
        yield ok("token", f"Pico gave {settings.username} a token of {length} characters.", length=length)
        yield await _balance(pico, transport, settings.base_url)


def _clock(transport: OnceTransport) -> Finding:
    ahead_s = transport.ahead_s
    if transport.server is None:
        reason = "the reply has no date" if transport.answered else "there was no reply"
        return not_checked("clock", reason)
    facts = {"ahead_s": round(ahead_s, 1), "server": transport.server.isoformat()}
    if abs(ahead_s) <= CLOCK_S:
        return ok("clock", f"It agrees with the server's clock within {CLOCK_S:g} s.", **facts)
    direction = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        "clock",
        f"This machine's clock is {abs(ahead_s):,.0f} s {direction} the server's.",
        "Tokens, certificates and the expiry of callback URLs depend on it: let NTP set it, for example with "
        "`timedatectl set-ntp true`. If it is right, the server's is wrong.",
        **facts,
    )


def _remedy(error: PicoError, base_url: str) -> str:
    whitelist = _WHITELISTED if base_url == WHITELIST_BASE_URL else _NOT_WHITELISTED
    if isinstance(error, BadRequestError):
        return f"The username or the API key is wrong. {_CREDENTIALS}"
    if isinstance(error, AuthenticationError) or error.status_code in (401, 403):
        return f"{_CREDENTIALS} {whitelist}"
    if isinstance(error, RateLimitError):
        return _TOO_SOON
    if isinstance(error, UnexpectedResponseError | ConfigurationError):
        return _NOT_PICO
    if isinstance(error, ServerError):
        return _SERVER_PROBLEM
    if error.status_code is not None:
        return _NOT_PICO
    return "The host was reachable a moment ago: try again, and with a longer --timeout if it is slow."


async def _balance(pico: PicoSession, transport: OnceTransport, base_url: str) -> Finding:
    try:
        account = await pico.balance.get()
    except PicoError as error:
        if transport.repeated:
            return failed(
                "balance",
                "Pico gave a token, and refused it a moment later (401).",
                f"Every send would fail. {_WHITELISTED if base_url == WHITELIST_BASE_URL else _NOT_WHITELISTED}",
            )
        return failed("balance", str(error), _remedy(error, base_url), **_facts(error))
    value = str(account.balance)
    if account.balance <= 0:
        advice = "Top it up, or Pico may refuse to send: v0.4 does not document what happens without a balance."
        return warning("balance", f"{value}: nothing is left.", advice, balance=value)
    return ok("balance", f"{value} (its unit is not documented in v0.4)", balance=value)


def _facts(error: PicoError) -> dict[str, Any]:
    return {"status_code": error.status_code, "request_id": error.request_id}
