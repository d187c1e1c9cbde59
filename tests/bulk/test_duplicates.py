"""These tests check which messages of one input count as duplicates."""

import sqlite3

import pytest

from pico_async import ConfigurationError, MmsMessage, SmsMessage, VoiceMessage
from pico_async.bulk.duplicates import Duplicates


def test_a_duplicate_has_the_same_number_and_the_same_text() -> None:
    """
    A message with the number and the text of an earlier one is a duplicate, and the index of the first one is returned.

    A message with another number or another text is no duplicate.
    """
    with Duplicates() as duplicates:
        lines = [
            duplicates.first_with_content(SmsMessage(to=to, text=text), line)
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


def test_a_number_in_its_other_spelling_is_the_same() -> None:
    """A number that its country writes in two ways is one number, so it gets one message with --once-per-number."""
    with Duplicates() as seen:
        assert seen.first_with_content(SmsMessage("+52 1 55 1234 5678", "hello"), 0) is None
        assert seen.first_with_content(SmsMessage("+52 55 1234 5678", "hello"), 1) == 0
        assert seen.first_with_number("5491123456789", 2) is None
        assert seen.first_with_number("541123456789", 3) == 2


def test_messages_of_different_kinds_are_none() -> None:
    """
    Messages of different kinds are no duplicates.

    Neither are a text and an equal template ID, nor two media URLs with the same text.
    """
    kinds = [
        SmsMessage(to="8612345678901", text="t-1"),
        SmsMessage(to="8612345678901", template_id="t-1"),
        VoiceMessage(to="8612345678901", text="t-1"),
        MmsMessage(to="8612345678901", media_url="https://example.com/1", text="t-1"),
        MmsMessage(to="8612345678901", media_url="https://example.com/2", text="t-1"),
    ]
    with Duplicates() as duplicates:
        places = [duplicates.first_with_content(message, place) for place, message in enumerate([*kinds, *kinds])]

    assert places == [None] * 5 + [0, 1, 2, 3, 4]


def test_templates_are_compared_by_their_id() -> None:
    """Messages by template are compared by the template ID; the sender and the caller's `key` do not matter."""
    messages = [
        SmsMessage(to="8612345678901", template_id="t-1"),
        SmsMessage(to="8612345678901", template_id="t-1", key="k"),
        SmsMessage(to="8612345678901", template_id="t-1", sender="8612345678888"),
        SmsMessage(to="8612345678901", template_id="t-2"),
    ]
    with Duplicates() as duplicates:
        lines = [duplicates.first_with_content(message, line) for line, message in enumerate(messages, start=2)]

    assert lines == [None, 2, 2, None]


def test_what_lies_on_the_disk_tells_no_number() -> None:
    """Two runs write different digests of one message, so nothing on disk can be compared with all possible numbers."""

    def written() -> set[bytes]:
        with Duplicates() as duplicates:
            for _ in range(2):
                duplicates.first_with_content(SmsMessage(to="8612345678901", text="1"), 1)
            return {digest for (digest,) in duplicates._database.execute("SELECT digest FROM seen")}

    assert len(written()) == 1
    assert written() != written()


def test_a_full_disk_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk raises ConfigurationError, which names TMPDIR as the variable that selects another disk."""
    with Duplicates() as duplicates:
        monkeypatch.setattr(duplicates, "_database", _FullDisk())

        with pytest.raises(ConfigurationError, match=r"disk is full.*TMPDIR"):
            duplicates.first_with_content(SmsMessage(to="8612345678901", text="1"), 2)

        monkeypatch.undo()


class _FullDisk:
    def execute(self, *_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")
