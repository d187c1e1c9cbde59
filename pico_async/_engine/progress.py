"""How far one call is: written by the engine, read by the code that may have to end the call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from attrs import define, field

from pico_async._engine.permission import Permission
from pico_async._engine.verdict import StaleToken, Verdict
from pico_async.coordination.protocols import Priority
from pico_async.errors import PicoError


class Scope(Protocol):
    """Ends a call: anyio's CancelScope, which this file does not import."""

    def cancel(self) -> None:
        """Cancel the call."""


class ObservedCall(Protocol):
    """Emits the events of one call. Exists only if something listens."""

    def slot_requested(self) -> None:
        """The call waits for a slot."""

    def slot_granted(self, *, is_another: bool = True) -> None:
        """The wait ended. Without *is_another*, the call kept its slot."""

    def attempt_started(self, attempt: int) -> None:
        """A request is begun."""

    def replied(self, status_code: int, secrets: Sequence[str]) -> None:
        """A reply came, for a request that contained these secrets."""

    def attempt_ended(self, verdict: Verdict) -> None:
        """The request is over."""

    def retrying(self, error: PicoError | StaleToken, delay_s: float) -> None:
        """The call sleeps before its next attempt."""


@define(eq=False, repr=False)
class CallProgress:
    """
    The limits and hooks of one call, and how far it is.

    Attributes:
        attempts: Number of requests that were begun.
        exchanging: A request may have been written, and its reply has not come.
        in_doubt: If the call ended now, it would be in doubt whether it was carried out.
        ending: Set to end the call after the present attempt.
        scope: Cancels the call. Set by a caller that has a scope already, because a scope for each call costs as much
            as encoding it.
        blast: Number of the bulk send that the call belongs to.
        priority: Decides which waiting call gets the next slot and the next connection.
        deadline: Time on the monotonic clock after which the request must not be sent; None if there is none.
        permission: Asked whether the message may be sent; what it raises ends the call as not sent.
        before_send: Awaited before each slot is acquired, to commit the intent to send (write-ahead). What it raises
            ends the call as not sent.
        on_attempt: Called when an attempt begins, because the wait for its slot is over.
        observed: Emits the call's events; None if nothing listens.
    """

    scope: Scope | None = None
    before_send: Callable[[], Awaitable[object]] | None = field(default=None, kw_only=True)
    on_attempt: Callable[[], object] | None = field(default=None, kw_only=True)
    priority: Priority = field(default=Priority.INTERACTIVE, init=False)
    deadline: float | None = field(default=None, init=False)
    attempts: int = field(default=0, init=False)
    exchanging: bool = field(default=False, init=False)
    in_doubt: bool = field(default=False, init=False)
    ending: bool = field(default=False, init=False)
    blast: int | None = field(default=None, init=False)
    permission: Permission | None = field(default=None, init=False)
    observed: ObservedCall | None = field(default=None, init=False)
