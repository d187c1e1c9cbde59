"""
The events that the outbox page reads: messages, receipts, limits and settings, from a cursor on.

The sandbox only adds to its lists and never removes an entry. So a cursor, three numbers, is all the state of a reader.
A reader that is slow, or was away, continues at its cursor: it misses nothing, and delays no other reader.
"""

import json
from collections.abc import Callable
from typing import Any

from attrs import asdict, field, frozen

from pico_async.sandbox.catalogue import Catalogue
from pico_async.sandbox.ledger import Ledger, Message
from pico_async.sandbox.parts import count_parts
from pico_async.sandbox.receipts.delivery import ReceiptDelivery
from pico_async.sandbox.settings import Settings
from pico_async.sandbox.statistics import Statistics

MOST_MESSAGES = 200
"""Most messages in one event."""

NEWEST = 20_000
"""Messages that a new page gets; older ones are only in the ledger."""

MOST_TEXT = 200_000
"""Characters of text after which an event is full: counting the parts of much text takes time."""

LONGEST_FIELD = 500
"""Characters of a field in the list; the message itself has the whole field."""


@frozen
class Cursor:
    """How far a reader is. *run* names the sandbox, because the numbers mean nothing in another one."""

    run: str
    messages: int = 0
    receipts: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "Cursor | None":
        """Parse a cursor that `str` wrote; return None for any other text."""
        match (text or "").split("."):
            case [run, messages, receipts] if messages.isascii() and receipts.isascii():
                if messages.isdigit() and receipts.isdigit() and len(messages) < 16 and len(receipts) < 16:
                    return cls(run, int(messages), int(receipts))
        return None

    def __str__(self) -> str:
        return f"{self.run}.{self.messages}.{self.receipts}"


@frozen
class Event:
    """One event for a reader, and the reader's cursor after it."""

    name: str
    payload: dict[str, Any]
    cursor: Cursor


@frozen(kw_only=True)
class Feed:
    """The source of the page's events and messages. Times are in milliseconds since the epoch."""

    run: str
    username: str
    api_key: str | None = field(repr=False)
    ledger: Ledger
    catalogue: Catalogue
    delivery: ReceiptDelivery
    settings: Settings
    statistics: Statistics
    clock: Callable[[], float]
    epoch: float = field(repr=False)

    def hello(self, cursor: Cursor | None) -> Event:
        """Return the first event for a reader. An unknown cursor, as of another run, becomes the newest messages."""
        total, changes = len(self.ledger.accepted), len(self.delivery.changed)
        known = cursor is not None and (
            cursor.run == self.run and cursor.messages <= total and cursor.receipts <= changes
        )
        if cursor is None or not known:
            cursor = Cursor(self.run, max(0, total - NEWEST), changes)
        payload = {"resumed": known, "first": cursor.messages, "username": self.username, "api_key": self.api_key}
        return Event("hello", payload, cursor)

    def next_messages(self, cursor: Cursor) -> Event | None:
        """Return the next messages; None if there are none."""
        total = len(self.ledger.accepted)
        rows: list[dict[str, Any]] = []
        characters = 0
        for number in range(cursor.messages, min(cursor.messages + MOST_MESSAGES, total)):
            rows.append(self._row(number))
            characters += len(self.ledger.accepted[number].text or "")
            if characters > MOST_TEXT:
                break
        if not rows:
            return None
        after = Cursor(self.run, cursor.messages + len(rows), cursor.receipts)
        return Event("messages", {"total": total, "rows": rows}, after)

    def next_receipts(self, cursor: Cursor) -> Event | None:
        """Return the state of each message whose receipts changed; None if none did."""
        changed = self.delivery.changed[cursor.receipts : cursor.receipts + 10 * MOST_MESSAGES]
        if not changed:
            return None
        # A message that the reader does not have yet will come with its state.
        states = {number: self.delivery.progress(number).state for number in changed if number < cursor.messages}
        after = Cursor(self.run, cursor.messages, cursor.receipts + len(changed))
        return Event("receipts", {"states": list(states.items())}, after)

    def limits(self, cursor: Cursor, first: int | None) -> Event:
        """Return the statistics of the arrivals, with the seconds from number *first* on."""
        statistics = self.statistics
        densest_at = statistics.densest.at
        payload = {
            "now": self.clock(),
            "epoch": self.epoch,
            "rate": self.settings.sms_rate,
            "seconds": [[one.number, one.accepted, one.refused, one.other] for one in statistics.seconds(first)],
            "densest": {"count": statistics.densest.count, "at": None if densest_at is None else self._ms(densest_at)},
            "verdicts": self.ledger.counts(),
            "operations": dict(statistics.operations),
            "failed": [
                {
                    "number": number,
                    "at": self._ms(arrival.at),
                    "operation": arrival.operation,
                    "to": arrival.to and arrival.to[:LONGEST_FIELD],
                    "verdict": str(arrival.verdict),
                    "fault": arrival.fault,
                }
                for number, arrival in statistics.failed
            ],
        }
        return Event("limits", payload, cursor)

    def current_settings(self, cursor: Cursor) -> Event:
        return Event("settings", self.settings.read(), cursor)

    def message(self, number: int) -> dict[str, Any]:
        """Return everything about one message; raise LookupError if there is no such message."""
        if not 0 <= number < len(self.ledger.accepted):
            raise LookupError(f"message {number}: no such message.")
        message = self.ledger.accepted[number]
        return {
            **self._row(number),
            "sender": message.sender,
            "text": message.text,
            "request_id": message.request_id,
            "media_url": message.media_url,
            "lang": message.lang,
            "callback": message.callback,
            "template": self._template(message),
            "extra": [[name, _as_text(value)] for name, value in message.extra.items()],
            "tries": [{**asdict(one), "at": self._ms(one.at)} for one in self.delivery.progress(number).tries],
        }

    def _row(self, number: int) -> dict[str, Any]:
        message = self.ledger.accepted[number]
        text = self._sent_text(message)
        parts = count_parts(text) if message.kind == "sms" and text else None
        return {
            "n": number,
            "at": self._ms(message.at),
            "kind": message.kind,
            "to": message.to,
            "sender": message.sender and message.sender[:LONGEST_FIELD],
            "text": text[:LONGEST_FIELD],
            "templated": message.template_id is not None,
            "parts": None if parts is None else asdict(parts),
            "fault": self.ledger.arrival_of(number).fault,
            "state": self.delivery.progress(number).state,
        }

    def _sent_text(self, message: Message) -> str:
        if message.text is not None:
            return message.text
        template = self.catalogue.template(message.template_id) if message.template_id else None
        return template.content if template is not None else ""

    def _template(self, message: Message) -> dict[str, Any] | None:
        template = self.catalogue.template(message.template_id) if message.template_id else None
        if template is None:
            return None
        campaign = self.catalogue.campaign(template.campaignId)
        return {
            "id": template.id,
            "name": template.name,
            "content": template.content,
            "status": "deleted" if self.catalogue.is_deleted(template.id) else template.status,
            "campaign": None
            if campaign is None
            else {
                "id": campaign.id,
                "name": campaign.name,
                "remark": campaign.remark,
                "deleted": self.catalogue.is_deleted(campaign.id),
            },
        }

    def _ms(self, at: float) -> int:
        return round((self.epoch + at) * 1000)


def _as_text(value: object) -> str:
    """Return *value* as text for a person: JSON, unless it is a string. Not sent as JSON: browsers refuse NaN."""
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "…"


def as_json(value: object) -> str:
    """Return JSON in ASCII: no character of a message is then a line break, and unpaired surrogates can be encoded."""
    return json.dumps(value, separators=(",", ":"), default=str)


def as_server_sent(event: Event) -> bytes:
    """Return *event* in the format of text/event-stream."""
    return f"event: {event.name}\nid: {event.cursor}\ndata: {as_json(event.payload)}\n\n".encode("ascii")
