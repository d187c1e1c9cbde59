"""What goes in: one frozen value for each kind of message, checked when it is made."""

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
from pico_async._masking import mask, masked_repr
from pico_async._values import Value
from pico_async.errors import InvalidMessageError, Reason
from pico_async.numbers import e164

_IDENTIFIER = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_S = 366 * 24 * 3600

Check: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _invalid(attribute: attrs.Attribute[Any], reason: Reason, fault: str) -> InvalidMessageError:
    return InvalidMessageError(f"`{attribute.name}` {fault}", argument=attribute.name, reason=reason)


def _text(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise _invalid(attribute, Reason.TYPE, f"must be a str, not {type(value).__name__}.")
    if not value.strip():
        raise _invalid(attribute, Reason.EMPTY, "is empty.")
    if not value.isascii() and not is_encodable(value):
        raise _invalid(attribute, Reason.CHARACTERS, "contains an unpaired surrogate and cannot be encoded as UTF-8.")


def _line(message: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _text(message, attribute, value)
    if _CONTROL.search(str(value)):
        raise _invalid(attribute, Reason.CHARACTERS, "contains a control character, as a line break.")


def _identifier(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise _invalid(
            attribute, Reason.FORMAT, "is not an ID of Pico's. Pass up to 128 letters, digits, '-', '_', '.' or '~'."
        )


def _url(message: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _line(message, attribute, value)
    if not is_web_address(str(value)):
        raise _invalid(attribute, Reason.FORMAT, "is not a web address. Pass one such as 'https://example.com/path'.")


def _language(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not _LANGUAGE.fullmatch(value):
        raise _invalid(attribute, Reason.FORMAT, "is not a language code. Pass one such as 'en-US' or 'zh-CN'.")


def _seconds(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_S:
        raise _invalid(attribute, Reason.FORMAT, "must be a positive number of seconds, at most a year.")


def _flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise _invalid(attribute, Reason.TYPE, f"must be True or False, not {type(value).__name__}.")


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
class SmsMessage(Value):
    """
    One text message, valid by construction.

    How a template's `{{var}}` is filled when it is sent by its ID is not documented in v0.4, so there is no argument
    for it.

    Args:
        to: Destination with country code, such as "8612345678901". A leading "+", spaces and dashes are dropped.
        text: Message body. Pass either this or *template_id*.
        template_id: ID of an approved template.
        sender: Sender ID or number. None uses the session's `sender`.
        callback: URL for the delivery receipt. None uses the session's `callback`.
        key: Your ID of the message, in a journal and in results.
        expires_in: Seconds after which the message is dropped as not sent, rather than sent late. They count from when
            this value was made, on this machine: a value that was pickled on another one expires at a wrong time.
        promotional: False sends the message although the number opted out, such as for a code that was requested. Then
            neither the session's `suppression` nor that of a bulk send is asked.

    Raises:
        InvalidMessageError: An argument is wrong. The error names it and does not repeat its value.

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
            reason = Reason.MISSING if self.text is None else Reason.CONFLICT
            raise InvalidMessageError("Pass exactly one of `text` and `template_id`.", reason=reason)


@boundary
@frozen
class MmsMessage(Value):
    """
    One message with media, valid by construction. Arguments that are not listed are those of `SmsMessage`.

    Args:
        media_url: URL of the image, video or audio file.
        text: Message body.

    Raises:
        InvalidMessageError: An argument is wrong. The error names it and does not repeat its value.

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
class VoiceMessage(Value):
    """
    One text that is read out on the phone, valid by construction. Arguments that are not listed are those of
    `SmsMessage`.

    Args:
        text: Text that is read out.
        lang: Language code, such as "en-US" or "zh-CN".

    Raises:
        InvalidMessageError: An argument is wrong. The error names it and does not repeat its value.

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
