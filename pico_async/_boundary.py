"""
The boundary to the caller: an error that crosses it shows the caller's frames, and none of the package's.

Error reporters print the local variables of each frame, and those of the package's frames are keys, tokens, numbers
and texts.
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
# What a caller's statement calls without naming it.
_CALLED_BY_SYNTAX = ("__init__", "__aenter__", "__aexit__", "__anext__")


def boundary(public: Public) -> Public:
    """
    Keep the package's frames out of each error that a public function, or a method of a public class, raises.

    A class with masked fields also masks them for `rich`, which reads the fields themselves and not their repr.
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
    return not attrs.has(public) or any(field.validator or field.converter for field in attrs.fields(public))


def without_frames(error: BaseException) -> None:
    """Remove the package's frames from an error, and from the errors that it arose from."""
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
            # Its message says it all, and the frames below the package's are those of libraries that hold headers.
            one.__traceback__ = None
            continue
        # A callback of the caller's raised it, or it is a fault of the package, whose place is kept without values.
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
                # What listens to the call may report its stack.
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
    """The repr of a field that is not shown as it is."""

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
    # What attrs and cattrs generate for the package has a name that holds the package's.
    file = entry.tb_frame.f_code.co_filename
    return file.startswith(_PACKAGE) or (file.startswith("<") and "pico_async" in file)


def _without_own(entry: TracebackType | None) -> TracebackType | None:
    if entry is None:
        return None
    following = _without_own(entry.tb_next)
    if _is_own(entry):
        return following
    return TracebackType(following, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
