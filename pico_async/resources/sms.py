"""Text messages."""

from __future__ import annotations

from collections.abc import Callable

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async.coordination.protocols import Priority
from pico_async.messages import SmsMessage
from pico_async.models import Accepted
from pico_async.resources._send import deliver


@boundary
class SmsResource:
    """Text messages: `pico.sms`."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

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
            to: Destination with country code, as "8612345678901"; a leading "+", spaces and dashes are dropped.
            text: Message body; this or *template_id*, not both.
            template_id: ID of an approved template. How its `{{var}}` is filled is not documented in v0.4.
            sender: Sender ID or number; the session's `sender` where None.
            callback: Address for the delivery receipt; the session's `callback` where None.
            expires_in: Seconds after which it is dropped as not sent rather than sent late.
            key: Your name for the message.
            priority: Who goes first where several wait; a single send overtakes a blast.
            promotional: False sends it also to a number that the session's `suppression` knows: for a code, or a
                notice, that this person asked for.

        Raises:
            InvalidMessageError: An argument is wrong; nothing was sent.
            SuppressedError: The number has opted out; it was not sent.
            NotSentError: Pico was not reached, or nobody could say whether the number has opted out; safe to send
                again.
            MessageExpiredError: `expires_in` ran out before its turn; it was not sent.
            RejectedError: Pico refused it.
            InDoubtError: It may have gone out; it was not repeated.

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
        del to, text  # what listens may report its stack, with the locals of each frame
        return await deliver(self._engine(), message, priority=priority)
