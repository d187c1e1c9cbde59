"""Messages that a file holds twice."""

import sqlite3

import pytest

from pico_async import ConfigurationError, SmsMessage
from pico_async.cli.duplicates import Duplicates


def test_a_duplicate_has_the_same_number_and_the_same_text() -> None:
    """It is told by the line of the first one; the same text to another number is none, nor another text."""
    with Duplicates() as duplicates:
        lines = [
            duplicates.first_line_of(SmsMessage(to=to, text=text), line)
            for line, (to, text) in enumerate(
                [
                    ("8612345678901", "1"),
                    ("8612345678902", "1"),
                    ("8612345678901", "2"),
                    ("+86 12345678901", "1"),
                    ("8612345678901", "1"),
                ],
                start=2,
            )
        ]

    assert lines == [None, None, None, 2, 2]


def test_templates_are_compared_by_their_id() -> None:
    """A text that reads like the ID is, for this purpose, the same: one file has only one of the two."""
    with Duplicates() as duplicates:
        assert duplicates.first_line_of(SmsMessage(to="8612345678901", template_id="t-1"), 2) is None
        assert duplicates.first_line_of(SmsMessage(to="8612345678901", template_id="t-1"), 3) == 2


def test_what_lies_on_the_disk_tells_no_number() -> None:
    """Two runs write different digests of one message, so nobody can try all numbers against them."""
    message = SmsMessage(to="8612345678901", text="1")
    with Duplicates() as one, Duplicates() as other:
        assert one._digest(message) != other._digest(message)
        assert one._digest(message) == one._digest(message)


def test_a_full_disk_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which variable names another disk."""
    with Duplicates() as duplicates:
        monkeypatch.setattr(duplicates, "_database", _FullDisk())

        with pytest.raises(ConfigurationError, match=r"disk is full.*TMPDIR"):
            duplicates.first_line_of(SmsMessage(to="8612345678901", text="1"), 2)

        monkeypatch.undo()


class _FullDisk:
    def execute(self, *_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")
