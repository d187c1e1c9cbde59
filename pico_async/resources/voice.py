"""Texts that are read out on the phone."""

from __future__ import annotations

from collections.abc import Callable

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async.coordination.protocols import Priority
from pico_async.messages import VoiceMessage
from pico_async.models import Accepted
from pico_async.resources._send import deliver


@boundary
class VoiceResource:
    """Texts that are read out on the phone: `pico.voice`."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    async def send(
        self,
        to: str,
        text: str,
        *,
        lang: str = "en-US",
        expires_in: float | None = None,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        promotional: bool = True,
    ) -> Accepted:
        """
        Hand one text to Pico to be read out in a call.

        Accepted means that Pico took the request, not that anybody answered. The reply's body is not documented in
        v0.4; the definitions suggest `MsgInfo`, and without its `request_id` the message is in doubt.

        Args:
            to: Destination with country code; a leading "+", spaces and dashes are dropped.
            text: What is spoken.
            lang: Language code, as "en-US" or "zh-CN".
            expires_in: Seconds after which it is dropped as not sent rather than called late.
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

        Limit: not documented in v0.4; `Rates(voice=…)` sets one.
        Source: API reference v0.4, "Send Voice TTS".
        """
        message = VoiceMessage(to=to, text=text, lang=lang, key=key, expires_in=expires_in, promotional=promotional)
        del to, text  # what listens may report its stack, with the locals of each frame
        return await deliver(self._engine(), message, priority=priority)
