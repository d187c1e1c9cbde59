"""How far one call has come: told by the engine, asked by whoever may have to end the call."""

from __future__ import annotations

from typing import Protocol


class Scope(Protocol):
    """What ends a call: anyio's CancelScope, which this pure file does not know."""

    def cancel(self) -> None:
        """End it."""


class CallTrace:
    """
    How far one call has come, for whoever may have to end it.

    Attributes:
        attempts: Requests that were begun.
        on_the_wire: A request is written and its reply awaited: it can only be settled or left in doubt.
        in_doubt: If the call ended now, nobody could say whether it was carried out.
        ending: Set it to settle the attempt under way and begin no other.
        scope: Ends the call by its cancellation. Whoever makes many calls in one scope gives that one, for to make one
            for each costs as much as to encode it.
    """

    def __init__(self, scope: Scope | None = None) -> None:
        self.scope = scope
        self.attempts = 0
        self.on_the_wire = False
        self.in_doubt = False
        self.ending = False

    async def prepare(self) -> None:
        """Called before each wait for a turn. Whatever it raises ends the call, as not sent."""

    def note_attempt(self) -> None:
        """The turn has come, and a request is begun."""
        self.attempts += 1

    def note_write(self) -> None:
        """The first byte may be on its way."""
        self.on_the_wire = self.in_doubt = True
