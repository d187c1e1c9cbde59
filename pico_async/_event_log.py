"""
Events as lines of the logger `pico_async`.

INFO has one line for each call and two for each bulk send, but none for the accepted messages of a bulk send. DEBUG has
each step. Each record has the event as `record.pico`, a dict of plain JSON types, for formatters that write JSON.
`PICO_LOG=info` or `PICO_LOG=debug` writes the lines to stderr, however logging is set up.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from pico_async._engine.progress import Listener
from pico_async._logger import Logger
from pico_async.errors import Outcome
from pico_async.events import (
    AttemptEnded,
    AttemptStarted,
    BlastEnded,
    BlastStarted,
    CallEnded,
    CallStarted,
    Event,
    RateRefused,
    Retrying,
    SlotGranted,
    TokenRefreshed,
)

logger = Logger("pico_async")


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which a progress bar or a test may replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-5s %(name)s  %(message)s"))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # a property in the place of an attribute
        return sys.stderr


def listener(level: int | None) -> Listener:
    """Return the listener that logs events. With a *level*, also write those of that level and above to stderr."""
    if level is not None:
        logger.setLevel(level)
        # One handler for all sessions.
        if not any(isinstance(handler, StderrHandler) for handler in logger.logger.handlers):
            logger.logger.addHandler(StderrHandler())
    return log


def log(event: Event) -> None:
    level = _level(event)
    if logger.isEnabledFor(level):
        logger.log_text(level, words(event), __file__, pico={"event": type(event).__name__, **event.to_dict()})


def words(event: Event) -> str:
    """Return the text of the event's line."""
    match event:
        case BlastStarted():
            return f"blast {event.blast} began, at most {event.concurrency} in flight"
        case BlastEnded():
            how = "ended early" if event.ended_early else "ended"
            return (
                f"blast {event.blast} {how}: {_some(event.total, 'message')} in "
                f"{event.duration_s:.3f} s, {event.accepted} accepted, {event.rejected} rejected, {event.not_sent} not "
                f"sent, {event.in_doubt} in doubt, {event.skipped} skipped, {event.suppressed} suppressed"
            )
        case TokenRefreshed():
            return f"call {event.call}: a fresh token"
    about = f"call {event.call} {event.operation}"
    match event:
        case CallStarted():
            within = "" if event.blast is None else f" of blast {event.blast}"
            return f"{about}{within}: began, {event.method} at {event.host}:{event.port}"
        case SlotGranted():
            pace = "" if event.pace is None else f", {event.pace:.2f} a second"
            return f"{about}: slot after {event.waited_s:.3f} s{pace}"
        case AttemptStarted():
            return f"{about}: attempt {event.attempt} began"
        case AttemptEnded():
            return f"{about}: attempt {event.attempt} {_ended(event)} in {event.duration_s:.3f} s"
        case RateRefused():
            asked = "" if event.retry_after_s is None else f", and asked to wait for {event.retry_after_s:g} s"
            return f"{about}: Pico refused, requests come too fast{asked}; everything that shares its rate pauses"
        case Retrying():
            return f"{about}: tries again in {event.delay_s:.3f} s, for attempt {event.attempt} was {event.reason}"
        case CallEnded():
            named = "" if event.request_id is None else f", request_id {event.request_id}"
            return (
                f"{about}: {_ended(event)} in {event.duration_s:.3f} s, {event.waited_s:.3f} s of it for slots; "
                f"{_some(event.attempts, 'attempt')}{named}"
            )


def _level(event: Event) -> int:
    match event:
        case BlastStarted() | BlastEnded():
            return logging.INFO
        case CallEnded(blast=None):
            return logging.INFO
        case CallEnded(outcome=outcome) if outcome is not Outcome.ACCEPTED:
            return logging.INFO
    return logging.DEBUG


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _ended(event: AttemptEnded | CallEnded) -> str:
    status = "" if event.status_code is None else f"HTTP {event.status_code}"
    why = ", ".join(part for part in (event.error, status) if part)
    return f"{event.outcome}{f' ({why})' if why else ''}"
