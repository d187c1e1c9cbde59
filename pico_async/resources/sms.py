"""Text messages."""

from __future__ import annotations

from typing import overload

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async.coordination.protocols import Priority
from pico_async.messages import SmsMessage
from pico_async.models import Accepted


@boundary
class SmsResource:
    """Text messages: `pico.sms`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @overload
    async def send(
        self,
        to: str,
        text: str,
        *,
        template_id: None = None,
        sender: str | None = None,
        callback: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted: ...
    @overload
    async def send(
        self,
        to: str,
        text: None = None,
        *,
        template_id: str,
        sender: str | None = None,
        callback: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted: ...
    async def send(
        self,
        to: str,
        text: str | None = None,
        *,
        template_id: str | None = None,
        sender: str | None = None,
        callback: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted:
        """
        Hand one text message to Pico.

        Accepted means that Pico took the request, not that a handset got it.

        Args:
            to: Destination with country code, such as "8612345678901". A leading "+", spaces and dashes are dropped.
            text: Message body. Pass either this or *template_id*.
            template_id: ID of an approved template. How its `{{var}}` is filled is not documented in v0.4.
            sender: Sender ID or number. None uses the session's `sender`.
            callback: URL for the delivery receipt. None uses the session's `callback`.
            expires_in: Seconds after which the message is dropped as not sent, rather than sent late.
            key: Your ID of the message.
            priority: Which waiting request is sent first. A single send goes before bulk sends.
            promotional: False sends the message although the number opted out, such as for a code that was requested.

        Raises:
            InvalidMessageError: An argument is wrong. Nothing was sent.
            SuppressedError: The number has opted out. Nothing was sent.
            NotSentError: Pico was not reached, or `suppression` failed. It is safe to send the message again.
            MessageExpiredError: `expires_in` ran out before a slot was granted. Nothing was sent.
            RejectedError: Pico refused the message.
            InDoubtError: The message may have been sent, so it was not repeated.

        Limit: 30 requests per second per API key.
        Source: API reference v0.4, "Send an SMS".
        """
        message = SmsMessage(
            to=to,
            text=text,
            template_id=template_id,
            sender=sender,
            callback=callback,
            key=key,
            expires_in=expires_in,
            promotional=promotional,
        )
        del to, text  # an error reporter in a listener may show the variables of each frame
        return await self._engine.send(message, priority=priority)
