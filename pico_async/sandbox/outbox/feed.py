"""
What the outbox page reads: messages, receipts, limits and settings, from a cursor on.

Everything that the sandbox remembers only grows, so a reader is a place in it and no more: one that is slow, or was
away, goes on where it was and misses nothing, and holds nothing up.
"""

import json
from collections.abc import Callable
from typing import Any

from attrs import asdict, field, frozen

from pico_async.sandbox.catalogue import Catalogue
from pico_async.sandbox.ledger import Ledger, Message
from pico_async.sandbox.parts import Parts, count_parts
from pico_async.sandbox.receipts.delivery import Postman
from pico_async.sandbox.settings import Dials
from pico_async.sandbox.statistics import Tally

PIECE = 200
"""Messages in one event at the most."""

NEWEST = 20_000
"""So many messages a page that opens is told of; older ones stay in the ledger."""

WEIGHT = 200_000
"""Characters of text after which an event takes no more of them: counting the parts of much text takes time."""

SHOWN = 500
"""Characters of a field in the list; the whole of it comes with the message itself."""


@frozen
class Cursor:
    """How far a reader is. `run` names the sandbox: a place in another one's memory means nothing."""

    run: str
    messages: int = 0
    receipts: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "Cursor | None":
        """Read a cursor as `str` writes it; None for anything else."""
        match (text or "").split("."):
            case [run, messages, receipts] if messages.isascii() and receipts.isascii():
                if messages.isdigit() and receipts.isdigit() and len(messages) < 16 and len(receipts) < 16:
                    return cls(run, int(messages), int(receipts))
        return None

    def __str__(self) -> str:
        return f"{self.run}.{self.messages}.{self.receipts}"


@frozen
class Event:
    """One thing to tell a reader, and where it is when it has heard it."""

    name: str
    payload: dict[str, Any]
    cursor: Cursor


@frozen(kw_only=True)
class Feed:
    """One sandbox, as its page sees it. Times go out in milliseconds since the epoch."""

    run: str
    username: str
    api_key: str | None
    ledger: Ledger
    catalogue: Catalogue
    postman: Postman
    dials: Dials
    tally: Tally
    clock: Callable[[], float]
    epoch: float = field(repr=False)

    def begin(self, cursor: Cursor | None) -> Event:
        """Greet a reader; one that comes from nowhere, or from another run, begins with the newest messages."""
        total = len(self.ledger.accepted)
        known = cursor is not None and (
            cursor.run == self.run and cursor.messages <= total and cursor.receipts <= len(self.postman.changed)
        )
        if cursor is None or not known:
            cursor = Cursor(self.run, max(0, total - NEWEST), len(self.postman.changed))
        greeting = {"resumed": known, "first": cursor.messages, "username": self.username, "api_key": self.api_key}
        return Event("hello", greeting, cursor)

    def next_messages(self, cursor: Cursor) -> Event | None:
        """Tell of the next messages; None if there are none."""
        total = len(self.ledger.accepted)
        rows: list[dict[str, Any]] = []
        weight = 0
        for number in range(cursor.messages, min(cursor.messages + PIECE, total)):
            rows.append(self._row(number))
            weight += len(self.ledger.accepted[number].text or "")
            if weight > WEIGHT:
                break
        if not rows:
            return None
        heard = Cursor(self.run, cursor.messages + len(rows), cursor.receipts)
        return Event("messages", {"total": total, "rows": rows}, heard)

    def next_receipts(self, cursor: Cursor) -> Event | None:
        """Tell how the receipts of messages stand that have changed; None if none has."""
        changed = self.postman.changed[cursor.receipts : cursor.receipts + 10 * PIECE]
        if not changed:
            return None
        # What the reader has not heard of yet comes with its state.
        states = {number: self.postman.track(number).state for number in changed if number < cursor.messages}
        return Event(
            "receipts",
            {"states": list(states.items())},
            Cursor(self.run, cursor.messages, cursor.receipts + len(changed)),
        )

    def limits(self, cursor: Cursor, first: int | None) -> Event:
        """Tell of the arrivals, second for second from number *first* on."""
        tally = self.tally
        densest_at = tally.densest.at
        payload = {
            "now": self.clock(),
            "epoch": self.epoch,
            "rate": self.dials.sms_rate,
            "seconds": [[one.number, one.accepted, one.refused, one.other] for one in tally.seconds(first)],
            "densest": {"count": tally.densest.count, "at": None if densest_at is None else self._ms(densest_at)},
            "verdicts": self.ledger.counts(),
            "operations": dict(tally.operations),
            "troubles": [
                {
                    "number": number,
                    "at": self._ms(arrival.at),
                    "operation": arrival.operation,
                    "to": arrival.to and arrival.to[:SHOWN],
                    "verdict": str(arrival.verdict),
                    "fault": arrival.fault,
                }
                for number, arrival in tally.troubles
            ],
        }
        return Event("limits", payload, cursor)

    def settings(self, cursor: Cursor) -> Event:
        """Tell how the sandbox is set."""
        return Event("settings", self.dials.read(), cursor)

    def message(self, number: int) -> dict[str, Any]:
        """Tell all of one message; LookupError for one that is not there."""
        if not 0 <= number < len(self.ledger.accepted):
            raise LookupError(f"message {number}: no such message.")
        message = self.ledger.accepted[number]
        track = self.postman.track(number)
        return {
            **self._row(number),
            "sender": message.sender,
            "text": message.text,
            "request_id": message.request_id,
            "media_url": message.media_url,
            "lang": message.lang,
            "callback": message.callback,
            "template": self._template(message),
            "extra": [[name, _shown(value)] for name, value in message.extra.items()],
            "tries": [{**asdict(one), "at": self._ms(one.at)} for one in track.tries],
        }

    def _row(self, number: int) -> dict[str, Any]:
        message = self.ledger.accepted[number]
        shown = self._sent_text(message)
        parts = self._parts(message, shown)
        return {
            "n": number,
            "at": self._ms(message.at),
            "kind": message.kind,
            "to": message.to,
            "sender": message.sender and message.sender[:SHOWN],
            "text": shown[:SHOWN],
            "templated": message.template_id is not None,
            "parts": None if parts is None else asdict(parts),
            "fault": self.ledger.arrival_of(number).fault,
            "state": self.postman.track(number).state,
        }

    def _sent_text(self, message: Message) -> str:
        if message.text is not None:
            return message.text
        template = self.catalogue.template(message.template_id) if message.template_id else None
        return template.content if template is not None else ""

    def _parts(self, message: Message, text: str) -> Parts | None:
        return count_parts(text) if message.kind == "sms" and text else None

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


def _shown(value: object) -> str:
    """Write a value as JSON, for a person: a browser takes no NaN."""
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "…"


def as_json(value: object) -> str:
    """Write JSON in ASCII: nothing in a message is then a line break to anybody, and half a surrogate no error."""
    return json.dumps(value, separators=(",", ":"), default=str)


def as_server_sent(event: Event) -> bytes:
    """Write *event* as text/event-stream takes it."""
    return f"event: {event.name}\nid: {event.cursor}\ndata: {as_json(event.payload)}\n\n".encode("ascii")
