"""Voice messages: texts that are read out on the phone."""

from __future__ import annotations

from pico_async._boundary import boundary
from pico_async._engine.call import Engine
from pico_async.coordination.protocols import Priority
from pico_async.messages import VoiceMessage
from pico_async.models import Accepted


@boundary
class VoiceResource:
    """Voice messages, texts that are read out on the phone: `pico.voice`."""

    def __init__(self, engine: Engine) -> None:
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
        Hand one voice message to Pico.

        Accepted means that Pico took the request, not that anybody answered. The reply's body is not documented in
        v0.4; the definitions suggest `MsgInfo`, and without its `request_id` the message is in doubt.

        Arguments that are not listed are those of `sms.send`.

        Args:
            text: Text that is read out.
            lang: Language code, such as "en-US" or "zh-CN".

        Raises:
            InvalidMessageError: An argument is wrong. Nothing was sent.
            SuppressedError: The number has opted out. Nothing was sent.
            NotSentError: Pico was not reached, or `suppression` failed. It is safe to send the message again.
            RejectedError: Pico refused the message.
            InDoubtError: The message may have been sent, so it was not repeated.

        Limit: not documented in v0.4; `Rates(voice=…)` sets one.
        Source: API reference v0.4, "Send Voice TTS".
        """
        message = VoiceMessage(to=to, text=text, lang=lang, key=key, expires_in=expires_in, promotional=promotional)
        del to, text  # an error reporter in a listener may show the variables of each frame
        return await self._engine.send(message, priority=priority)
