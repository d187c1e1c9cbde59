"""Suppression: numbers that have opted out, and get no promotional message."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Collection, Container, KeysView, Mapping, Set
from typing import Any, TypeAlias

from pico_async._cancellation import cancellations, unless_cancelled
from pico_async.bulk.source import is_cancelled
from pico_async.errors import ConfigurationError, InvalidMessageError, NotSentError, PicoError, SuppressedError
from pico_async.numbers import e164, spellings

Suppression: TypeAlias = Container[str] | Callable[[str], Awaitable[bool] | bool]
"""What `suppression` takes: numbers that opted out, or a function, async or not, that returns whether one has."""

# A collection of unchanged size is read again after this time, because one number may have replaced another. A million
# numbers take some 50 ms.
READ_AGAIN_S = 1.0


class NoAnswerError(TypeError):
    """It is unknown who opted out: the answer was neither True nor False, or an item of the collection is no number."""


class NumberSet(Container[str]):
    """
    The numbers of a collection, in any spelling, and those added later to a set, a dict or a list.

    A number that is removed later stays suppressed. A set or mapping of another class is read once. Afterwards it is
    asked for the digits of each number, with and without "+". The error of an item that is no number does not show it.
    """

    def __init__(self, numbers: Collection[object]) -> None:
        self._known: set[str] = set()
        if (fault := self._read(numbers)) is not None:
            raise ConfigurationError(f"{fault} Nothing was sent.")
        # What may have grown is read again. Another class may look numbers up elsewhere, and a set may have changed a
        # moment ago, so these are asked as well.
        self._growing = numbers if isinstance(numbers, set | dict | list | KeysView) else None
        self._original = numbers if isinstance(numbers, Set | Mapping) and not isinstance(numbers, frozenset) else None

    def __contains__(self, number: object) -> bool:
        """Return whether a number in E.164 is in the collection; raise if an item was added that is no number."""
        if not isinstance(number, str):
            return False
        if self._may_have_grown() and (fault := self._read(self._growing or ())) is not None:
            raise NoAnswerError(fault)
        spelled = spellings(number)
        if spelled[0] in self._known:
            return True
        original = self._original
        return original is not None and any(way in original or f"+{way}" in original for way in spelled)

    def _may_have_grown(self) -> bool:
        if self._growing is None:
            return False
        return len(self._growing) != self._size or time.monotonic() - self._read_at >= READ_AGAIN_S

    def _read(self, numbers: Collection[object]) -> str | None:
        """Read the numbers that are new, and return what is wrong with them, or None."""
        size = len(numbers)
        for spelled in list(numbers):
            if isinstance(spelled, str) and spelled in self._known:
                continue
            try:
                number = e164(spelled)
            except InvalidMessageError as error:
                return (
                    "`suppression` contains an item that is no number, so a number that opted out may be missing: "
                    f"{error} For numbers in national spelling, use `destination(…, region=…)`."
                )
            self._known.add(spellings(number)[0])
            self._known.add(str(spelled))
        self._size, self._read_at = size, time.monotonic()
        return None


class OptOuts:
    """
    Finds out whether a number has opted out.

    - A set or other collection may contain the spellings that messages accept. Numbers added later to a set, a dict or
      a list count, too; removed numbers still count.
    - A function, or a container that cannot be iterated, is asked for each message, with the digits alone. If a number
      has two spellings, it is asked for both.
    """

    def __init__(self, suppression: object) -> None:
        self._ask: Callable[[str], Any]
        if callable(suppression):
            self._ask = suppression
        elif isinstance(suppression, Container) and not isinstance(suppression, str | bytes | bytearray):
            numbers = NumberSet(suppression) if isinstance(suppression, Collection) else suppression
            self._ask = numbers.__contains__
        else:
            raise ConfigurationError(
                "`suppression` must be a set of numbers, or a function, async or not, that returns whether a number "
                f"has opted out, not {type(suppression).__name__}."
            )

    async def has(self, number: str) -> bool:
        """Return whether the number has opted out; raise what the function raised, or that it gave no answer."""
        for spelled in dict.fromkeys([number, *spellings(number)]):
            if await self._answer(spelled):
                return True
        return False

    async def _answer(self, number: str) -> bool:
        answer = self._ask(number)
        if inspect.isawaitable(answer):
            answer = await unless_cancelled(answer)
        if not isinstance(answer, int):
            raise NoAnswerError(f"`suppression` must answer True or False, not {type(answer).__name__}.")
        return bool(answer)

    async def require_allowed(self, number: str) -> None:
        """Raise SuppressedError if the number has opted out, or NotSentError if that is unknown."""
        since = cancellations()
        try:
            fault = "The number has opted out" if await self.has(number) else None
            kind: type[PicoError] = SuppressedError
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and (cancellations() > since or is_cancelled()):
                raise
            # The error's text may contain the number. A cancellation inside the function does not cancel this call.
            cause = f"`suppression` raised {type(error).__name__}"
            if isinstance(error, NoAnswerError):
                cause = str(error).rstrip(".")
            fault, kind = f"It is unknown whether the number has opted out: {cause}", NotSentError
        if fault is not None:
            raise kind(f"{fault}. Nothing was sent.")
