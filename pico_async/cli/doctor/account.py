"""The account: does Pico give it a token and take it, what credit is left, and do the clocks agree."""

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
from pico_async.cli.doctor.finding import Finding, State, failed, not_checked
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

_CREDENTIALS = "Check PICO_USERNAME and PICO_API_KEY against the Pico platform, letter by letter."
_WHITELISTED = (
    "This is the host for accounts with the IP whitelist: is this machine's public address on the platform's \"HTTP IP "
    'Whitelist" page, and has Pico enabled it? What a machine gets that is not on it is not documented in v0.4.'
)
_NOT_WHITELISTED = (
    "Does the account have the IP whitelist? Then it needs the host api.picotw.com. What v0.4 documents for a wrong "
    "username or key is a 400, so this may be about this machine's address."
)
_NOT_PICO = (
    "What answers there may be no Pico: a gateway, or a network's log-in page. Is PICO_BASE_URL right, and its path?"
)
_TOO_SOON = "Another process asked for one in the same second: try again."
_TROUBLE = "Pico, or a gateway before it, has trouble: try again in a minute, and ask Pico's support if it lasts."


class OnceTransport(httpx.AsyncHTTPTransport):
    """
    A session's connection that lets each address be asked once, and remembers the server's clock.

    Attributes:
        server: What time the server had; None where no reply told.
        ahead_s: By how much this machine's clock is ahead of it.
        answered: There was a reply.
        held_back: A session wanted to ask again: for a token, because it came too fast, or with a token that was not
            taken.
    """

    server: datetime | None = None
    ahead_s = 0.0
    answered = False
    held_back = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry the first request for an address, and refuse a second."""
        if request.url.raw_path in self._asked:
            self.held_back = True
            raise httpx.ConnectError("pico doctor asks once")
        self._asked.add(request.url.raw_path)
        before = time.time()
        response = await super().handle_async_request(request)
        self.answered = True
        self._compare(response.headers.get("date"), (before + time.time()) / 2)
        return response

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked: set[bytes] = set()

    def _compare(self, date: str | None, here: float) -> None:
        try:
            told = parsedate_to_datetime(date or "")
        except (ValueError, TypeError, OverflowError):
            return
        self.server = told if told.tzinfo else told.replace(tzinfo=UTC)
        # It tells whole seconds, with their fraction cut off.
        self.ahead_s = here - (self.server.timestamp() + 0.5)


async def account(of: Configuration, tls: ssl.SSLContext, *, timeout_s: float) -> AsyncIterator[Finding]:
    """
    Ask for a token, compare the clocks, ask for the balance: two requests at the most, and no message.

    It asks beside a fleet's pace: neither of the two is a send.
    """
    if of.username is None or of.api_key is None or of.base_url is None:
        raise ConfigurationError("There is no account to check.")
    transport: OnceTransport = make_transport(of.proxy, tls, OnceTransport)
    async with PicoSession(
        username=of.username,
        api_key=of.api_key.value,
        base_url=of.base_url,
        timeout=timeout_s,
        retries=0,
        # Each is asked once, so there is no pace to keep, and what is held back need not wait for its turn.
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
            yield _no_token(refused, transport, of.base_url)
            yield not_checked("balance", "there is no token")
            return
        yield Finding(
            check="token",
            state=State.OK,
            message=f"Pico gave {of.username} a token of {len(token.token)} characters.",
            facts={"length": len(token.token)},
        )
        yield await _balance(pico, transport, of.base_url)


def _clock(transport: OnceTransport) -> Finding:
    ahead_s = transport.ahead_s
    if transport.server is None:
        why = "the reply has no date to compare with" if transport.answered else "there was no reply to compare with"
        return not_checked("clock", why)
    facts = {"ahead_s": round(ahead_s, 1), "server": transport.server.isoformat()}
    if abs(ahead_s) <= CLOCK_S:
        return Finding(
            check="clock", state=State.OK, message=f"It agrees with Pico's, within {CLOCK_S:g} s.", facts=facts
        )
    direction = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        check="clock",
        state=State.WARNING,
        message=f"This machine's clock is {abs(ahead_s):,.0f} s {direction} the server's.",
        advice="Tokens, certificates and the expiry of callback URLs depend on it: let NTP set it, as by "
        "`timedatectl set-ntp true`. If it is right, the server's is wrong.",
        facts=facts,
    )


def _no_token(error: PicoError, transport: OnceTransport, base_url: str) -> Finding:
    # A session asks for a token again only where it came too fast.
    if transport.held_back:
        return failed("token", "Pico gives one token a second, and refused this one.", _TOO_SOON)
    return failed("token", str(error), _remedy(error, base_url), **_facts(error))


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
        return _TROUBLE
    if error.status_code is not None:
        return _NOT_PICO
    return "The host was there a moment ago: try again, and with --timeout if it is only slow."


async def _balance(pico: PicoSession, transport: OnceTransport, base_url: str) -> Finding:
    try:
        credit = await pico.balance.get()
    except PicoError as error:
        if transport.held_back:
            return failed(
                "balance",
                "Pico gave a token, and did not take it a moment later (401).",
                f"Every send would fail so. {_WHITELISTED if base_url == WHITELIST_BASE_URL else _NOT_WHITELISTED}",
            )
        return failed("balance", str(error), _remedy(error, base_url), **_facts(error))
    facts = {"balance": str(credit.balance)}
    if credit.balance <= 0:
        return Finding(
            check="balance",
            state=State.WARNING,
            message=f"{credit.balance}: nothing is left.",
            advice="Top it up, or sends may be refused: what Pico does without credit is not documented in v0.4.",
            facts=facts,
        )
    return Finding(
        check="balance",
        state=State.OK,
        message=f"{credit.balance} (its unit is not documented in v0.4)",
        facts=facts,
    )


def _facts(error: PicoError) -> dict[str, Any]:
    return {"status_code": error.status_code, "request_id": error.request_id}
