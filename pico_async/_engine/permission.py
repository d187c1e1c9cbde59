"""The question whether one message may be sent, asked of the functions that know the opt-outs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Allow: TypeAlias = Callable[[str], Awaitable[None]]

# A slot may be used this long after its grant (`SLOT_FRESH_S` of the exchange). So functions that answer faster may
# still be asked after the slot was granted.
QUICK_S = 0.003
# After a slower answer, a message needs another slot. So slow functions are asked again only if their last answer is
# older than this. The 64 messages that a bulk send has begun wait for their slots for 2 s.
SLOW_ANSWER_VALID_S = 10.0


class Permission:
    """
    Ask whether a message may be sent: before the wait for a slot, and again after a long one.

    Args:
        number: The message's destination.
        functions: Called with the number, one after the other. Each raises if the message must not be sent.
    """

    __slots__ = ("_functions", "_number", "_valid_until")

    def __init__(self, number: str, *functions: Allow | None) -> None:
        self._number = number
        self._functions = functions
        self._valid_until = float("-inf")

    async def ask(self) -> bool:
        """
        Return whether the functions were slow: then a slot that was granted before is too old.

        Raises:
            PicoError: The message must not be sent, or one of the functions failed. Nothing was sent.
        """
        asked_at = time.monotonic()
        for allow in self._functions:
            if allow is not None:
                await allow(self._number)
        answered_at = time.monotonic()
        was_slow = answered_at - asked_at > QUICK_S
        self._valid_until = answered_at + (SLOW_ANSWER_VALID_S if was_slow else QUICK_S)
        return was_slow

    async def ask_again(self) -> bool:
        """Ask again if the last answer is too old, as `ask` does; otherwise return False."""
        return time.monotonic() > self._valid_until and await self.ask()
