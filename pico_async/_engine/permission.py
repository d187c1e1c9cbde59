"""Whether one message may go out, as those say who know the opt-outs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

Allow: TypeAlias = Callable[[str], Awaitable[None]]

# A slot is still good after this time (`LATE_S` of an attempt), so a question that takes no longer may come after it.
QUICK_S = 0.003
# After a slower question the slot has passed, and the message needs another one. So it is asked once more only where
# its answer is old: 64 messages, which is the default of a blast, wait for their slots for 2 s.
SLOW_HOLDS_S = 10.0


class Permission:
    """
    Ask whether a message may go out: before the wait for a slot, and again after a wait.

    Args:
        number: The message's destination.
        asked: Asked with the number, one after the other; each raises where the message must not be sent.
    """

    __slots__ = ("_answered_at", "_asked", "_number", "_took_s")

    def __init__(self, number: str, asked: Sequence[Allow]) -> None:
        self._number = number
        self._asked = asked
        self._answered_at = self._took_s = float("-inf")

    async def ask(self) -> None:
        """
        Return where the message may go out.

        Raises:
            PicoError: It must not, or nobody can say. Nothing was sent.
        """
        began_at = time.monotonic()
        for allow in self._asked:
            await allow(self._number)
        self._answered_at = time.monotonic()
        self._took_s = self._answered_at - began_at

    @property
    def was_quick(self) -> bool:
        """Whether the last answer came so soon that a slot is still good after it."""
        return self._took_s <= QUICK_S

    @property
    def is_stale(self) -> bool:
        """Whether somebody may have opted out since the last answer, so that it is to be asked again."""
        return time.monotonic() - self._answered_at > (QUICK_S if self.was_quick else SLOW_HOLDS_S)
