"""What goes in: one frozen value per kind of message, checked when it is made."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import attrs
from attrs import field, frozen
from attrs.validators import optional

from pico_async._boundary import boundary
from pico_async._characters import is_encodable
from pico_async.errors import InvalidMessageError
from pico_async.numbers import e164, mask, masked_repr

# Compiled by their first use, and not with the import.
_IDENTIFIER = r"[A-Za-z0-9._~-]{1,128}"
_LANGUAGE = r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*"
_CONTROL = r"[\x00-\x1f\x7f]"
_LONGEST_S = 366 * 24 * 3600

Check: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _text(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise InvalidMessageError(f"`{attribute.name}` must be a str, not {type(value).__name__}.")
    if not value.strip():
        raise InvalidMessageError(f"`{attribute.name}` is empty.")
    if not is_encodable(value):
        raise InvalidMessageError(f"`{attribute.name}` contains an unpaired surrogate and cannot be encoded as UTF-8.")


def _line(message: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _text(message, attribute, value)
    if re.search(_CONTROL, str(value)):
        raise InvalidMessageError(f"`{attribute.name}` holds a control character, a line break perhaps.")


def _identifier(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(_IDENTIFIER, value):
        raise InvalidMessageError(
            f"`{attribute.name}` is no ID of Pico's: pass up to 128 letters, digits, '-', '_', '.' or '~'."
        )


def _url(message: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _line(message, attribute, value)
    if not is_web_address(str(value)):
        raise InvalidMessageError(f"`{attribute.name}` is no web address: pass one as 'https://example.com/path'.")


def _language(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(_LANGUAGE, value):
        raise InvalidMessageError(f"`{attribute.name}` is no language code: pass one as 'en-US' or 'zh-CN'.")


def _seconds(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_S:
        raise InvalidMessageError(f"`{attribute.name}` must be a positive number of seconds, and no more than a year.")


def _flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidMessageError(f"`{attribute.name}` must be True or False, not {type(value).__name__}.")


def is_web_address(url: object) -> bool:
    """Return whether this is an http or https URL with a host."""
    if not isinstance(url, str) or not url.isprintable() or " " in url or not is_encodable(url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _sized(text: str | None) -> str:
    return "None" if text is None else f"<{len(text)} characters>"


@boundary
@frozen
class SmsMessage:
    """
    One text message, valid by construction.

    Exactly one of *text* and *template_id* is given. How a template's `{{var}}` is filled when sending by
    `templateId` is not documented in v0.4, so there is no argument for it.

    Args:
        to: Destination with country code, as "8612345678901"; a leading "+", spaces and dashes are dropped.
        text: Message body.
        template_id: ID of an approved template.
        sender: Sender ID or number; the session's `sender` where None.
        callback: Address for the delivery receipt; the session's `callback` where None.
        key: Your name for the message, in a journal and in results.
        expires_in: Seconds after this value is made when the message is dropped as not sent rather than sent late.
            The clock is this machine's: a value that was pickled on another one has no meaning here.
        promotional: False sends it also to a number that opted out: for a code, or a notice, that this person asked
            for. The session's `suppression` and a blast's are not asked then.

    Raises:
        InvalidMessageError: An argument is wrong; it is named, its value is not repeated.

    Source: API reference v0.4, "Send an SMS".
    """

    to: str = field(converter=e164, repr=mask)
    text: str | None = field(default=None, validator=optional(_text), repr=_sized)
    template_id: str | None = field(default=None, validator=optional(_identifier))
    sender: str | None = field(default=None, validator=optional(_line), repr=masked_repr)
    callback: str | None = field(default=None, validator=optional(_url), repr=_sized)
    key: str | None = field(default=None, validator=optional(_text), repr=masked_repr)
    expires_in: float | None = field(default=None, validator=optional(_seconds))
    promotional: bool = field(default=True, validator=_flag, kw_only=True)
    made_at: float = field(init=False, factory=lambda: time.monotonic(), eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if (self.text is None) == (self.template_id is None):
            raise InvalidMessageError("Pass exactly one of `text` and `template_id`.")


@boundary
@frozen
class MmsMessage:
    """
    One message with media.

    Args:
        to: Destination with country code; a leading "+", spaces and dashes are dropped.
        media_url: Address of the image, video or audio file.
        text: Message body.
        sender: Sender ID or number; the session's `sender` where None.
        key: Your name for the message, in a journal and in results.
        expires_in: Seconds after this value is made when the message is dropped as not sent rather than sent late.
            The clock is this machine's: a value that was pickled on another one has no meaning here.
        promotional: False sends it also to a number that opted out: for a code, or a notice, that this person asked
            for. The session's `suppression` and a blast's are not asked then.

    Raises:
        InvalidMessageError: An argument is wrong; it is named, its value is not repeated.

    Source: API reference v0.4, "Send an MMS".
    """

    to: str = field(converter=e164, repr=mask)
    media_url: str = field(validator=_url, repr=_sized)
    text: str | None = field(default=None, validator=optional(_text), repr=_sized)
    sender: str | None = field(default=None, validator=optional(_line), repr=masked_repr)
    key: str | None = field(default=None, validator=optional(_text), repr=masked_repr)
    expires_in: float | None = field(default=None, validator=optional(_seconds))
    promotional: bool = field(default=True, validator=_flag, kw_only=True)
    made_at: float = field(init=False, factory=lambda: time.monotonic(), eq=False, repr=False)


@boundary
@frozen
class VoiceMessage:
    """
    One text that is read out on the phone.

    Args:
        to: Destination with country code; a leading "+", spaces and dashes are dropped.
        text: What is spoken.
        lang: Language code, as "en-US" or "zh-CN".
        key: Your name for the message, in a journal and in results.
        expires_in: Seconds after this value is made when the message is dropped as not sent rather than sent late.
            The clock is this machine's: a value that was pickled on another one has no meaning here.
        promotional: False sends it also to a number that opted out: for a code, or a notice, that this person asked
            for. The session's `suppression` and a blast's are not asked then.

    Raises:
        InvalidMessageError: An argument is wrong; it is named, its value is not repeated.

    Source: API reference v0.4, "Send Voice TTS".
    """

    to: str = field(converter=e164, repr=mask)
    text: str = field(validator=_text, repr=_sized)
    lang: str = field(default="en-US", validator=_language)
    key: str | None = field(default=None, validator=optional(_text), repr=masked_repr)
    expires_in: float | None = field(default=None, validator=optional(_seconds))
    promotional: bool = field(default=True, validator=_flag, kw_only=True)
    made_at: float = field(init=False, factory=lambda: time.monotonic(), eq=False, repr=False)


Message: TypeAlias = SmsMessage | MmsMessage | VoiceMessage


def deadline(message: Message) -> float | None:
    """Return the time on the monotonic clock after which the message must not be sent, or None."""
    return None if message.expires_in is None else message.made_at + message.expires_in
