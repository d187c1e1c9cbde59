"""
Remove the package's frames from errors that reach the caller.

Error reporters print the local variables of each frame. In the package's frames these are keys, tokens, numbers and
texts.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any, TypeVar

import attrs

from pico_async.errors import PicoError

Public = TypeVar("Public", bound=Callable[..., Any])

_PACKAGE = str(Path(__file__).parent)
# Methods that Python calls for a caller's statement.
_CALLED_BY_SYNTAX = ("__init__", "__enter__", "__exit__", "__next__", "__aenter__", "__aexit__", "__anext__")


def boundary(public: Public) -> Public:
    """
    Remove the package's frames from each error of a public function, or of the public methods of a class.

    A class with masked fields also masks them for `rich`, which does not use their repr.
    """
    if not isinstance(public, type):
        kept: Public = _kept(public)
        return kept
    for name, member in vars(public).copy().items():
        if not name.startswith("_") or name in _CALLED_BY_SYNTAX:
            if name == "__init__" and not _can_refuse(public):
                continue
            if isinstance(member, FunctionType):
                setattr(public, name, _kept(member))
            elif isinstance(member, classmethod):
                setattr(public, name, classmethod(_kept(member.__func__)))
    if attrs.has(public) and any(callable(field.repr) for field in attrs.fields(public)):
        public.__rich_repr__ = _masked_fields  # type: ignore[attr-defined]
    return public


def _can_refuse(public: type) -> bool:
    """Return whether the constructor may raise an error of the package: an attrs value without checks does not."""
    if not attrs.has(public) or hasattr(public, "__attrs_post_init__"):
        return True
    return any(field.validator or field.converter for field in attrs.fields(public))


def without_frames(error: BaseException) -> None:
    """Remove the package's frames from an error, its causes and its contexts."""
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        errors += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
        if not any(map(_is_own, _entries(one))):
            continue
        if isinstance(one, PicoError) or not isinstance(one, Exception):
            # Its message is complete, and the frames below the package's belong to libraries that hold headers.
            one.__traceback__ = None
            continue
        # A callback of the caller raised it, or the package has a fault, whose line is kept without variables.
        *_, innermost = _entries(one)
        if _is_own(innermost):
            one.add_note("".join(traceback.format_tb(innermost)).rstrip())
        one.__traceback__ = _without_own(one.__traceback__)


def _kept(function: Any) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def called(*args: Any, **kwargs: Any) -> Any:
            try:
                call = function(*args, **kwargs)
                # A listener of the call may report its stack.
                args, kwargs = (), {}
                return await call
            except BaseException as error:  # noqa: BLE001  it is raised again
                failure = error
            # Raised outside the handler, or the frames would come back with the context.
            without_frames(failure)
            try:
                raise failure
            finally:
                # Its traceback holds this frame, which must not hold it in turn.
                del failure

    else:

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  it is raised again
                failure = error
            args, kwargs = (), {}
            without_frames(failure)
            try:
                raise failure
            finally:
                # Its traceback holds this frame, which must not hold it in turn.
                del failure

    return called


def _masked_fields(value: Any) -> Iterator[tuple[str, object]]:
    for field in attrs.fields(type(value)):
        if field.repr:
            shown = getattr(value, field.name)
            yield field.name, _Masked(field.repr(shown)) if callable(field.repr) else shown


class _Masked:
    """A value that `rich` shows as the masked text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _entries(error: BaseException) -> Iterator[TracebackType]:
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _is_own(entry: TracebackType) -> bool:
    # Code that attrs and cattrs generate has a file name that contains the package's name.
    file = entry.tb_frame.f_code.co_filename
    return file.startswith(_PACKAGE) or (file.startswith("<") and "pico_async" in file)


def _without_own(entry: TracebackType | None) -> TracebackType | None:
    if entry is None:
        return None
    following = _without_own(entry.tb_next)
    if _is_own(entry):
        return following
    return TracebackType(following, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
