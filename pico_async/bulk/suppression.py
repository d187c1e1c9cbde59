"""Who has opted out, and gets nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Set
from typing import Any, TypeAlias

from pico_async._cancellation import cancellations, unless_cancelled
from pico_async.bulk.source import is_cancelled
from pico_async.errors import ConfigurationError, InvalidMessageError, NotSentError, PicoError, SuppressedError
from pico_async.numbers import e164

Suppression: TypeAlias = Container[str] | Callable[[str], Awaitable[bool] | bool]


class NoAnswerError(TypeError):
    """The function answered neither True nor False. One that forgets to answer would let nobody opt out."""


class OptOuts:
    """
    Answer whether a number has opted out.

    A set, or another collection, is read once, here, and its numbers may be spelled as those of messages. A number that
    is added to a set or a mapping later counts, too, where it is written as digits, with or without "+"; one that is
    taken away still counts. A function, and a container that cannot be read through, are asked for each message, with
    the digits alone.

    Raises:
        ConfigurationError: It is neither, or holds what is no number: somebody who opted out would get the message.
    """

    def __init__(self, suppression: object) -> None:
        self._ask: Callable[[str], Any]
        if callable(suppression):
            self._ask = suppression
        elif isinstance(suppression, Container) and not isinstance(suppression, str | bytes | bytearray):
            self._ask = _looked_up(suppression)
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


def _looked_up(suppression: Container[str]) -> Callable[[str], bool]:
    if not isinstance(suppression, Collection):
        return suppression.__contains__
    known = _numbers(suppression)
    if isinstance(suppression, Set | Mapping):
        return lambda number: number in known or number in suppression or f"+{number}" in suppression
    return known.__contains__


def _numbers(suppression: Collection[object]) -> frozenset[str]:
    try:
        return frozenset(map(e164, suppression))
    except InvalidMessageError as error:
        fault = str(error)
    raise ConfigurationError(
        f"`suppression` holds what is no number, so that it may lack somebody who opted out: {fault} For numbers as "
        "people of a region write them, use `destination(…, region=…)`. Nothing was sent."
    )
