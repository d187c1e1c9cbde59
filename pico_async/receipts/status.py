"""The status of a message, and the words that stand for it in receipts."""

from __future__ import annotations

import re
from enum import StrEnum


class DeliveryStatus(StrEnum):
    """How far a message came, if the receipt uses a common word for it."""

    UNKNOWN = "unknown"
    """The receipt has no status, or its word is not a common one. `status_text` contains the word."""
    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        """Return whether no other status follows."""
        return self.progress == _FINAL

    @property
    def progress(self) -> int:
        """Return the status's rank. A receipt changes its message's status only to a higher rank."""
        return _PROGRESS.get(self, _FINAL)


_FINAL = 3
_PROGRESS = {DeliveryStatus.UNKNOWN: 0, DeliveryStatus.ACCEPTED: 1, DeliveryStatus.SENT: 2}
# v0.4 does not document Pico's words. These are the message states of SMPP 3.4 (5.2.28; short forms in appendix B) and
# plain English words for them.
_WORDS = {
    DeliveryStatus.ACCEPTED: "accepted acceptd queued pending buffered scheduled",
    DeliveryStatus.SENT: "sent submitted enroute",
    DeliveryStatus.DELIVERED: "delivered delivrd",
    DeliveryStatus.UNDELIVERED: "undelivered undeliverable undeliv failed deleted",
    DeliveryStatus.EXPIRED: "expired",
    DeliveryStatus.REJECTED: "rejected rejectd",
}
_STATUSES = {word: status for status, words in _WORDS.items() for word in words.split()}


def parse_status(word: str | None) -> DeliveryStatus:
    """Return the status that a word stands for, or UNKNOWN."""
    return _STATUSES.get(letters_of(word or ""), DeliveryStatus.UNKNOWN)


def letters_of(word: str) -> str:
    """Return a word's letters in lower case, so that "Request-ID" and "request_id" are equal."""
    return re.sub(r"[^a-z]", "", word.lower())
