"""Arguments of management calls, checked before anything is sent."""

from __future__ import annotations

from pico_async.errors import InvalidMessageError
from pico_async.messages import is_encodable


def text_of(name: str, value: object, *, shortest: int = 1, longest: int | None = None) -> str:
    """
    Give the value if it is a text of the allowed length, in characters.

    Raises:
        InvalidMessageError: It is not; the argument is named, its value is not repeated.
    """
    if not isinstance(value, str):
        raise InvalidMessageError(f"`{name}` must be a str, not {type(value).__name__}.")
    if not is_encodable(value):
        raise InvalidMessageError(f"`{name}` holds half of a surrogate pair, which UTF-8 cannot carry.")
    if len(value) < shortest or (longest is not None and len(value) > longest):
        allowed = f"{shortest} to {longest}" if longest is not None else f"at least {shortest}"
        raise InvalidMessageError(f"`{name}` has {len(value)} characters; {allowed} are allowed.")
    return value
