"""How far one call has come: told by the engine, asked by whoever may have to end the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pico_async._engine.permission import Permission
from pico_async._engine.verdict import StaleToken, Verdict
from pico_async.errors import PicoError


class Scope(Protocol):
    """What ends a call: anyio's CancelScope, which this pure file does not know."""

    def cancel(self) -> None:
        """End it."""


class Story(Protocol):
    """What hears of each step of a call, where somebody listens."""

    def waits(self) -> None:
        """It asks for a turn."""

    def takes_turn(self) -> None:
        """It has one."""

    def tries(self, attempt: int) -> None:
        """A request is begun."""

    def hears(self, status_code: int, secrets: Sequence[str]) -> None:
        """A reply came, for a request that was made with these."""

    def judges(self, verdict: Verdict) -> None:
        """The request is over."""

    def retries(self, error: PicoError | StaleToken, delay_s: float) -> None:
        """It sleeps before the next turn."""


class CallProgress:
    """
    How far one call has come, for whoever may have to end it.

    Attributes:
        attempts: Requests that were begun.
        on_the_wire: A request is written and its reply awaited: it can only be settled or left in doubt.
        in_doubt: If the call ended now, nobody could say whether it was carried out.
        ending: Set it to settle the attempt under way and begin no other.
        scope: Ends the call by its cancellation. Whoever makes many calls in one scope gives that one, for to make one
            for each costs as much as to encode it.
        blast: Which blast the call is part of, by the number that its events have.
        permission: Asked before each wait for a turn, and after a long one, whether the message may go out; what it
            raises ends the call, as not sent. None where nothing is to be asked.
        story: Hears of each step; None where nobody listens, and then no step costs more than to look.
    """

    def __init__(self, scope: Scope | None = None) -> None:
        self.scope = scope
        self.attempts = 0
        self.on_the_wire = False
        self.in_doubt = False
        self.ending = False
        self.blast: int | None = None
        self.permission: Permission | None = None
        self.story: Story | None = None

    async def prepare(self) -> None:
        """Called before each wait for a turn. Whatever it raises ends the call, as not sent."""

    def note_wait(self) -> None:
        """It asks for a turn."""
        if self.story is not None:
            self.story.waits()

    def note_turn(self) -> None:
        """The turn has come."""
        if self.story is not None:
            self.story.takes_turn()

    def note_attempt(self) -> None:
        """A request is begun."""
        self.attempts += 1
        if self.story is not None:
            self.story.tries(self.attempts)

    def note_write(self) -> None:
        """The first byte may be on its way."""
        self.on_the_wire = self.in_doubt = True

    def note_reply(self, status_code: int, secrets: Sequence[str]) -> None:
        """A reply came, for a request that was made with these secrets."""
        if self.story is not None:
            self.story.hears(status_code, secrets)

    def note_verdict(self, verdict: Verdict, *, in_doubt: bool) -> None:
        """The request is over; the call is *in_doubt* by it, or by an earlier one."""
        # Told first: where a listener is interrupted, nobody hears the verdict, and the call is in doubt.
        if self.story is not None:
            self.story.judges(verdict)
        self.on_the_wire, self.in_doubt = False, in_doubt

    def note_retry(self, error: PicoError | StaleToken, delay_s: float) -> None:
        """It sleeps before the next turn."""
        if self.story is not None:
            self.story.retries(error, delay_s)
