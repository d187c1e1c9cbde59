"""`PicoSandbox`: the sandbox for tests, without a socket, and with sessions that are closed with it."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from attrs import field, frozen

from pico_async._masking import mask
from pico_async._redirection import BASE_URL, SENDER, UNLIMITED, Redirection, close_session, serve_each_loop
from pico_async.numbers import e164
from pico_async.sandbox import Fault, FaultRule, Message, RateRule, Sandbox, Verdict
from pico_async.session import PicoSession

CODE = r"(?<![0-9])[0-9]{4,8}(?![0-9])"


class Clock:
    """Seconds since the clock was made, plus what `advance` added."""

    def __init__(self) -> None:
        self._zero = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._zero

    def advance(self, seconds: float) -> None:
        """Add seconds to the clock. It cannot go back: a token would be used before it was made."""
        if not seconds >= 0:
            raise ValueError(f"advance({seconds!r}): the clock cannot go back. Pass 0 seconds or more.")
        self._zero -= seconds


@frozen
class _PassingFault(FaultRule):
    """A rule that ends with its `with` block."""

    over: threading.Event = field(factory=threading.Event, kw_only=True, eq=False, repr=False)

    def matches(self, operation: str, to: str | None) -> bool:
        return not self.over.is_set() and super().matches(operation, to)


class PicoSandbox(Sandbox):
    """
    A stand-in for Pico Cloud for one test: it shows what was sent to whom, and injects faults.

    The pytest fixture `pico_sandbox` is one. Elsewhere, as in unittest, make one and close it after the test:

        sandbox = PicoSandbox()
        self.addCleanup(sandbox.close)

    It has all that `Sandbox` has, as `ledger`, `balance`, `expire_tokens()` and `transport()`. These differ:

    - No rate is enforced unless *rate_rule* names a rule, so that no test waits.
    - Each one has an API key of its own.
    - Its clock can be advanced.

    Args:
        rate_rule: Window rule of the rates, such as "sliding-log"; None enforces none.
        api_key: None makes a new one, so that the sessions of two sandboxes share no limiter.
        settings: Any other argument of `Sandbox` except `clock`.
    """

    def __init__(self, *, rate_rule: RateRule | str | None = None, api_key: str | None = None, **settings: Any) -> None:
        if "clock" in settings:
            raise TypeError("PicoSandbox has a clock of its own. Advance it, as `pico_sandbox.clock.advance(60)`.")
        self.clock: Clock = Clock()
        super().__init__(
            rate_rule=rate_rule, api_key=api_key or f"sandbox-{secrets.token_hex(8)}", clock=self.clock, **settings
        )
        self._forgotten = 0
        self._sessions: list[PicoSession] = []
        self._redirection = Redirection(self)

    def session(self, **settings: Any) -> PicoSession:
        """
        Make a session that sends to this sandbox, and is closed with it.

        `PICO_*` variables are ignored, and the limiter is off, so that no test waits. It works in any event loop.

        Args:
            settings: Any argument of `PicoSession`, as `retries=0`, `timeout=0.1`, or `rates=Rates()` for Pico's own.
        """
        defaults: dict[str, Any] = {
            "username": self.username,
            "api_key": self.api_key,
            "sender": SENDER,
            "base_url": BASE_URL,
            "transport": self.transport(),
        }
        if settings.get("coordinator") is None:
            defaults["rates"] = UNLIMITED
        with _without_pico_variables():
            session = PicoSession(**defaults | settings)
        if "transport" not in settings:
            serve_each_loop(session, self.transport)
        self._sessions.append(session)
        return session

    def install(self) -> None:
        """
        Send every session that would reach Pico to this sandbox, until it is closed.

            @pytest.fixture(autouse=True)
            def installed(pico_sandbox):
                pico_sandbox.install()

        This holds in all threads, for sessions that the app makes by `PicoSession()`, for those that were made before,
        and for those that its lifespan opens. They need no credentials, work in any event loop, and wait for no
        limiter; their other settings are the app's own. FastAPI and Starlette apps have a session even if a test client
        did not run their lifespan.

        A session with a `transport=` for tests, or with a loopback host as its `base_url=`, is left as it is.
        """
        self._redirection.begin()

    @property
    def messages(self) -> list[Message]:
        """The messages accepted since the last `clear`, oldest first; also those that the client calls in doubt."""
        return self.ledger.accepted[self._forgotten :]

    def sent_to(self, number: str) -> list[Message]:
        """
        Return the messages of any kind to one number since the last `clear`, oldest first.

        Args:
            number: As a user would write it, such as "+86 123-4567-8901".

        Raises:
            InvalidMessageError: This is not a number in E.164.
        """
        to = e164(number)
        return [message for message in self.messages if message.to == to]

    def otp_for(self, number: str, *, pattern: str = CODE) -> str:
        """
        Return the code in the newest message to one number.

        It is the last run of 4 to 8 digits in the text: 4711 in "Order 12345678: your code is 4711". If other digits
        come last, as a year, pass a *pattern*.

        Args:
            number: As a user would write it, such as "+86 123-4567-8901".
            pattern: A regular expression. Its last match is the code, or the first group of that match.

        Raises:
            AssertionError: No message was sent there, or the newest contains no code. It shows no text and no number.
            InvalidMessageError: This is not a number in E.164.
        """
        __tracebackhide__ = True
        sent = self.sent_to(number)
        if not sent:
            raise AssertionError(f"No message was sent to {self._explained(e164(number))}")
        newest = sent[-1]
        what = f"The newest message to {mask(newest.to)}, {'a' if newest.kind == 'voice' else 'an'} {newest.kind}"
        if newest.text is None:
            source = f"sent by template {newest.template_id}" if newest.template_id else "without a text"
            raise AssertionError(f"{what} {source}, so it contains no code: the text is not in the request.")
        found = list(re.finditer(pattern, newest.text))
        if not found:
            looked_for = "no run of 4 to 8 digits" if pattern == CODE else f"nothing that matches {pattern!r}"
            raise AssertionError(
                f"{what} of {len(newest.text)} characters, contains {looked_for}. If its code looks different, pass "
                "`pattern=`, as r'code: ([A-Z0-9-]+)'."
            )
        code: str = found[-1][1] if found[-1].re.groups else found[-1][0]
        return code

    @contextmanager
    def fault(
        self,
        fault: Fault | str,
        operation: str = "sms.send",
        *,
        to: str | None = None,
        times: int | None = None,
        after: int = 0,
        delay_s: float = 30.0,
        retry_after_s: float | None = None,
    ) -> Iterator[FaultRule]:
        """
        Inject a fault for the duration of a `with` block.

            with pico_sandbox.fault("accept-then-drop", times=1): ...

        The arguments are those of `FaultRule`; `Fault` lists the faults.

        Args:
            fault: As "accept-then-drop" or `Fault.ACCEPT_THEN_DROP`.
            operation: As "sms.send", "voice.send" or "token.get"; "*" is any.
            to: Only sends to this number, as a user would write it; None is any.
            times: How many requests fail; None is all.
            after: Number of requests that succeed first.
            delay_s: Duration of a hang in real seconds; give the session a shorter `timeout`.
            retry_after_s: Retry-After of an "unavailable" or "rate-limited" reply.
        """
        rule = _PassingFault(
            Fault(fault),
            operation,
            to=None if to is None else e164(to),
            times=times,
            after=after,
            delay_s=delay_s,
            retry_after_s=retry_after_s,
        )
        self.inject(rule)
        try:
            yield rule
        finally:
            rule.over.set()

    def clear(self) -> None:
        """Forget the messages so far. The ledger, the balance, the tokens and the faults stay as they are."""
        self._forgotten = len(self.ledger.accepted)

    def close(self) -> None:
        """
        Close the sessions, and end what `install` began. Closing twice does nothing.

        Calls that are under way get half a second to end, and are then cancelled.
        """
        while self._sessions:
            close_session(self._sessions.pop())
        self._redirection.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PicoSandbox, messages: {len(self.messages)}, requests: {len(self.ledger.arrivals)}>"

    def _explained(self, to: str) -> str:
        """Return a masked number that nothing was sent to, and what happened instead."""
        failed = [sent for sent in self.ledger.arrivals if sent.to == to and sent.verdict is not Verdict.ACCEPTED]
        others = Counter(mask(message.to) for message in self.messages)
        parts = [mask(to)]
        if failed:
            reasons = Counter(sent.fault or sent.verdict for sent in failed)
            parts.append("Refused or lost: " + _counted(reasons))
        parts.append("Sent to others: " + _counted(others) if others else "Nothing was sent to others")
        return ". ".join(parts) + "."


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common(5))


@contextmanager
def _without_pico_variables() -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PICO_")}
    try:
        yield
    finally:
        os.environ.update(hidden)
