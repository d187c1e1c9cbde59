"""Check arguments of management calls before anything is sent."""

from __future__ import annotations

from pico_async._characters import is_encodable
from pico_async.errors import InvalidMessageError, Reason


def text_of(name: str, value: object, *, shortest: int = 1, longest: int | None = None) -> str:
    """
    Return the value if it is a str of the allowed length, in characters.

    Raises:
        InvalidMessageError: The value is wrong. The error names the argument, and does not repeat its value.
    """
    if not isinstance(value, str):
        raise InvalidMessageError(
            f"`{name}` must be a str, not {type(value).__name__}.", argument=name, reason=Reason.TYPE
        )
    if not is_encodable(value):
        raise InvalidMessageError(
            f"`{name}` contains an unpaired surrogate and cannot be encoded as UTF-8.",
            argument=name,
            reason=Reason.CHARACTERS,
        )
    if len(value) < shortest or (longest is not None and len(value) > longest):
        allowed = f"{shortest} to {longest}" if longest is not None else f"at least {shortest}"
        raise InvalidMessageError(
            f"`{name}` has {len(value)} characters; {allowed} are allowed.",
            argument=name,
            reason=Reason.EMPTY if not value else Reason.TOO_SHORT if len(value) < shortest else Reason.TOO_LONG,
        )
    return value
