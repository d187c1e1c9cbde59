"""Who has opted out, and gets nothing."""

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


# A collection whose size is as it was is read again after this time: something may have been put in the place of
# something else. A million numbers take some 50 ms.
READ_AGAIN_S = 1.0


class NoAnswerError(TypeError):
    """Nobody said True or False: a function that forgets to answer would let nobody opt out."""


class NumberSet(Container[str]):
    """
    Numbers in any spelling, also those that are added later to a set, a dict or a list.

    What is taken out stays. A set or a mapping of another make is read once, and then asked for the digits of a number,
    with and without "+".

    Raises:
        ConfigurationError: It holds what is no number; the number is not repeated.
    """

    def __init__(self, numbers: Collection[object]) -> None:
        self._known: set[str] = set()
        if (fault := self._read(numbers)) is not None:
            raise ConfigurationError(f"{fault} Nothing was sent.")
        self._growing = numbers if isinstance(numbers, set | dict | list | KeysView) else None
        self._asked_too = numbers if isinstance(numbers, Set | Mapping) and not isinstance(numbers, frozenset) else None

    def __contains__(self, number: object) -> bool:
        """
        Say whether a number in E.164 is among them.

        Raises:
            NoAnswerError: What was added to the collection is no number.
        """
        if not isinstance(number, str):
            return False
        if self._may_have_grown() and (fault := self._read(self._growing or ())) is not None:
            raise NoAnswerError(fault)
        ways = spellings(number)
        if ways[0] in self._known:
            return True
        # What is a table of the user's, or took the place of something else a moment ago.
        asked = self._asked_too
        return asked is not None and any(way in asked or f"+{way}" in asked for way in ways)

    def _may_have_grown(self) -> bool:
        if self._growing is None:
            return False
        return len(self._growing) != self._size or time.monotonic() - self._read_at >= READ_AGAIN_S

    def _read(self, numbers: Collection[object]) -> str | None:
        """Read what was not read before; return what is wrong with it, or None."""
        size = len(numbers)
        for spelled in list(numbers):
            if isinstance(spelled, str) and spelled in self._known:
                continue
            try:
                number = e164(spelled)
            except InvalidMessageError as error:
                return (
                    "`suppression` holds what is no number, so that it may lack somebody who opted out: "
                    f"{error} For numbers as people of a region write them, use `destination(…, region=…)`."
                )
            self._known.add(spellings(number)[0])
            self._known.add(str(spelled))
        self._size, self._read_at = size, time.monotonic()
        return None


class OptOuts:
    """
    Answer whether a number has opted out.

    The numbers of a set, or of another collection, may be spelled as those of messages. One that is added later to a
    set, a dict or a list counts, too; one that is taken away still counts. A function, and a container that cannot be
    read through, are asked for each message, with the digits alone: where a number is written in two ways, with both.

    Raises:
        ConfigurationError: It is neither, or holds what is no number: somebody who opted out would get the message.
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
                "`suppression` must be a set of numbers, or a function, async or not, that says of one whether it has "
                f"opted out, not {type(suppression).__name__}."
            )

    async def has(self, number: str) -> bool:
        """
        Say whether it has.

        Raises:
            NoAnswerError: The function said neither.
            Exception: What the function raised.
        """
        for way in dict.fromkeys([number, *spellings(number)]):
            if await self._says(way):
                return True
        return False

    async def _says(self, number: str) -> bool:
        answer = self._ask(number)
        if inspect.isawaitable(answer):
            answer = await unless_cancelled(answer)
        if not isinstance(answer, int):
            raise NoAnswerError(f"`suppression` must answer True or False, not {type(answer).__name__}.")
        return bool(answer)

    async def let_pass(self, number: str) -> None:
        """
        Raise where it must get nothing.

        Raises:
            SuppressedError: It has opted out.
            NotSentError: That could not be learned, so it must get nothing either.
        """
        since = cancellations()
        try:
            fault = "The number has opted out" if await self.has(number) else None
            kind: type[PicoError] = SuppressedError
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and (cancellations() > since or is_cancelled()):
                raise
            # Not the error's own words, which may hold the number. One that was cancelled is no end of this call.
            said = f"`suppression` raised {type(error).__name__}"
            if isinstance(error, NoAnswerError):
                said = str(error).rstrip(".")
            fault, kind = f"Whether the number has opted out is not known: {said}", NotSentError
        if fault is not None:
            raise kind(f"{fault}. Nothing was sent.")
