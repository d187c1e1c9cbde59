"""`{{column}}` in a text: found strictly, filled once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from attrs import frozen

from pico_async.errors import ConfigurationError, InvalidMessageError

_PLACE = re.compile(r"\{\{([^{}]*)\}\}")


@frozen
class TextTemplate:
    """
    A text with places for the values of a row.

    What is put into a place is not looked at again: a value that holds "{{x}}" goes out as it is.
    """

    _pieces: tuple[str, ...]  # text, column, text, column, …, text

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Find the places.

        Raises:
            ConfigurationError: A place has no end or no name.
        """
        pieces = [piece.strip() if place % 2 else piece for place, piece in enumerate(_PLACE.split(text))]
        if any("{{" in piece for piece in pieces[::2]):
            raise ConfigurationError("The text opens a place with '{{' that no '}}' closes: write it as {{column}}.")
        if not all(pieces[1::2]):
            raise ConfigurationError("The text holds a place without a name: write it as {{column}}.")
        return cls(tuple(pieces))

    @property
    def source(self) -> str:
        """The text with its places."""
        return "".join(f"{{{{{piece}}}}}" if place % 2 else piece for place, piece in enumerate(self._pieces))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once, in the order of the text."""
        return tuple(dict.fromkeys(self._pieces[1::2]))

    def render(self, values: Mapping[str, str]) -> str:
        """
        Fill every place.

        Raises:
            InvalidMessageError: A value is missing or blank. The column is named, nothing of the row is repeated.
        """
        pieces = list(self._pieces)
        for place in range(1, len(pieces), 2):
            value = values.get(pieces[place], "")
            # A blank code makes a text that costs money and says nothing.
            if not value.strip():
                raise InvalidMessageError(f"Column `{pieces[place]}` is empty, and the text needs it.")
            pieces[place] = value
        return "".join(pieces)
