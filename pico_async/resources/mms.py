"""Messages with media."""

from __future__ import annotations

from collections.abc import Callable

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async.coordination.protocols import Priority
from pico_async.messages import MmsMessage
from pico_async.models import Accepted
from pico_async.resources._send import deliver


@boundary
class MmsResource:
    """Messages with media: `pico.mms`."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    async def send(
        self,
        to: str,
        media_url: str,
        *,
        text: str | None = None,
        sender: str | None = None,
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted:
        """
        Hand one message with media to Pico.

        Accepted means that Pico took the request, not that a handset got it. The reply's body is not documented in
        v0.4; the definitions suggest `MsgInfo`, and without its `request_id` the message is in doubt.

        Args:
            to: Destination with country code; a leading "+", spaces and dashes are dropped.
            media_url: Address of the image, video or audio file.
            text: Message body.
            sender: Sender ID or number; the session's `sender` where None.
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
            RejectedError: Pico refused it.
            InDoubtError: It may have gone out; it was not repeated.

        Limit: not documented in v0.4; `Rates(mms=…)` sets one.
        Source: API reference v0.4, "Send an MMS".
        """
        message = MmsMessage(
            to=to,
            media_url=media_url,
            text=text,
            sender=sender,
            key=key,
            expires_in=expires_in,
            promotional=promotional,
        )
        del to, text  # what listens may report its stack, with the locals of each frame
        return await deliver(self._engine(), message, priority=priority)
