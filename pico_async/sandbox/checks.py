"""Checks of the values of settings. Each error names the setting, its value, and what to pass."""

from collections.abc import Callable
from enum import StrEnum
from math import isfinite
from typing import Any

from attrs import Attribute, frozen

LONGEST_WAIT_S = 3600.0


@frozen
class Check:
    """A check of a value, and what to pass; attrs can use it as a validator."""

    wanted: str
    accepts: Callable[[Any], bool]

    def require(self, name: str, value: Any) -> None:
        """Raise ValueError unless the value of a setting is accepted."""
        if not self.accepts(value):
            raise ValueError(f"{name}={value!r}: pass {self.wanted}.")

    def __call__(self, _: object, attribute: "Attribute[Any]", value: Any) -> None:
        self.require(attribute.name, value)


class Choice(StrEnum):
    """An enum whose error for an unknown name lists the known ones."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"{value!r} is no {cls.__name__}. Known: {', '.join(cls)}.")


def is_number(value: object) -> bool:
    """Return whether *value* is a finite number, and not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


SHARE = Check("a share from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
WAIT = Check(f"seconds from 0 to {LONGEST_WAIT_S:g}", lambda value: is_number(value) and 0 <= value <= LONGEST_WAIT_S)
