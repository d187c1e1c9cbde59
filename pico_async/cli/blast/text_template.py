"""A text whose `{{column}}` placeholders are replaced with the values of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from attrs import field, frozen

from pico_async.errors import ConfigurationError, InvalidMessageError, Reason

_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")


@frozen
class TextTemplate:
    """
    A text with placeholders for the values of a row.

    Values are inserted unchanged: a value that contains "{{x}}" is sent as it is.
    """

    _pieces: tuple[str, ...] = field(repr=False)  # text, column, text, column, …, text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the placeholders of a text; raise if one has no end or no name."""
        pieces = [piece.strip() if index % 2 else piece for index, piece in enumerate(_PLACEHOLDER.split(text))]
        if any("{{" in piece for piece in pieces[::2]):
            raise ConfigurationError("The text has '{{' without a matching '}}': write placeholders as {{column}}.")
        if not all(pieces[1::2]):
            raise ConfigurationError("The text has a placeholder without a name: write it as {{column}}.")
        return cls(tuple(pieces))

    @property
    def source(self) -> str:
        return "".join(f"{{{{{piece}}}}}" if index % 2 else piece for index, piece in enumerate(self._pieces))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the placeholders, each once, in the order of the text."""
        return tuple(dict.fromkeys(self._pieces[1::2]))

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with the values of a row; raise if one is missing or blank, with the column's name alone."""
        pieces = list(self._pieces)
        for index in range(1, len(pieces), 2):
            value = values.get(pieces[index], "")
            # A text with a blank code costs money and is useless.
            if not value.strip():
                raise InvalidMessageError(
                    f"Column `{pieces[index]}` is empty, but the text needs it.", argument="text", reason=Reason.EMPTY
                )
            pieces[index] = value
        return "".join(pieces)
