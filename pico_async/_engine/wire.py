"""The wire's spellings: values to JSON, JSON to values. What only management calls are answered is in `holdings`."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import attrs
from attrs import define
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from pico_async._charsets import charset_of, texts
from pico_async._engine import endpoints
from pico_async._engine.endpoints import Request
from pico_async._engine.hosts import host_of, is_loopback, is_public
from pico_async.errors import InvalidMessageError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage

if TYPE_CHECKING:
    from pico_async.receipts.callbacks import CallbackSigner

Model = TypeVar("Model")

MAX_REPLY_BYTES = 1024 * 1024

_WIRE_NAMES = {"sender": "from", "template_id": "templateId", "campaign_id": "campaignId", "media_url": "mediaUrl"}
# Compiled by its first use, and not with the import.
_DECIMAL = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
_NOT_ON_THE_WIRE = ("key", "expires_in", "made_at", "promotional")


class Account(NamedTuple):
    """
    What every message of one session shares.

    Attributes:
        callback: Where receipts go, of a message that names no place of its own.
        signer: Makes of that a URL for each message.
        private_urls: Pico may be told of hosts that only this network reaches.
        loopback_urls: The same for those that only this machine reaches.
    """

    username: str
    sender: str | None = None
    callback: str | None = None
    signer: CallbackSigner | None = None
    private_urls: bool = False
    loopback_urls: bool = False

    def callback_for(self, message: SmsMessage) -> str | None:
        """
        Say where a message's receipts go.

        Raises:
            InvalidMessageError: Pico may not be told of that host, or the key is too long for a signed URL.
        """
        if message.callback is not None:
            return self.reachable("callback", message.callback)
        if self.callback is None or self.signer is None:
            return self.callback
        return self.signer.sign(self.callback, message.key)

    def reachable(self, name: str, url: str) -> str:
        """
        Make sure that Pico may be told of the URL's host: it will call it.

        Raises:
            InvalidMessageError: It is one that only this machine or this network reaches, or may be read as one.
        """
        host = host_of(url)
        if self.private_urls or is_public(host) or (self.loopback_urls and is_loopback(host)):
            return url
        raise InvalidMessageError(
            f"`{name}` names a host that only this machine or its network reaches, or that may be read as one, so Pico "
            "must not be sent there. Pass a public one, or allow_private_urls=True to PicoSession."
        )


@define(eq=False, repr=False)
class Reply:
    """
    What came back, before anyone has judged it. It has no repr, for its content may be a token.

    Attributes:
        content: The body, up to the cap.
        retry_after: Seconds that the reply asks to wait.
        truncated: The body was longer than the cap.
        content_type: The `Content-Type` header, which may name a charset.
    """

    status: int
    content: bytes
    retry_after: float | None = None
    truncated: bool = False
    content_type: str | None = None


class Failure(NamedTuple):
    """
    Why no whole reply came.

    Attributes:
        reason: What happened, in words.
        sent_nothing: It is proved that not a byte of the request was written.
    """

    reason: str
    sent_nothing: bool


class DecodeError(Exception):
    """A reply lacks what the reference promises. It names the field and never its value."""


# --- out ------------------------------------------------------------------------------------------


def send_request(message: Message, account: Account) -> Request:
    """
    Return the request that sends one message, with the account's defaults filled in.

    Raises:
        InvalidMessageError: There is no sender, Pico must not be sent to a URL's host, or this is not a message.
    """
    endpoint: endpoints.Endpoint
    kind: type[Message]
    match message:
        case SmsMessage():
            endpoint, kind = endpoints.SEND_SMS, SmsMessage
        case MmsMessage():
            account.reachable("media_url", message.media_url)
            endpoint, kind = endpoints.SEND_MMS, MmsMessage
        case VoiceMessage():
            endpoint, kind = endpoints.SEND_VOICE, VoiceMessage
        case _:
            raise InvalidMessageError(
                f"Pass an SmsMessage, an MmsMessage or a VoiceMessage, not {type(message).__name__}."
            )
    # As its kind: a field that a subclass adds is not one of Pico's.
    body = {**_converter().unstructure(message, unstructure_as=kind), "username": account.username}
    if not isinstance(message, VoiceMessage) and "from" not in body:
        if account.sender is None:
            raise InvalidMessageError(
                "The message has no sender: pass `sender=` with it or to PicoSession, or set PICO_SENDER."
            )
        body["from"] = account.sender
    if isinstance(message, SmsMessage) and (message.callback or account.callback):
        body["callback"] = account.callback_for(message)
    return Request(endpoint, endpoint.path, body=body)


def named(**fields: str | None) -> dict[str, str]:
    """Return the fields under the wire's names, without those that are None."""
    return {_WIRE_NAMES.get(name, name): value for name, value in fields.items() if value is not None}


def encode(body: Mapping[str, Any]) -> bytes:
    """
    Give the body as JSON in UTF-8.

    Raises:
        InvalidMessageError: It holds half of a surrogate pair, from the environment perhaps.
    """
    try:
        return _ENCODER.encode(body).encode()
    except UnicodeEncodeError:
        pass
    # Raised outside the handler: the handled error holds the whole body.
    raise InvalidMessageError("The request holds half of a surrogate pair, which UTF-8 cannot carry.")


# --- in ------------------------------------------------------------------------------------------


def reply_of(status: int, headers: Mapping[str, str], content: bytes) -> Reply:
    """
    Make a reply of what came.

    Args:
        headers: A mapping that finds its names in any case.
        content: The body as it came, not unpacked. What is longer than the cap may be cut off.
    """
    asked = headers.get("Retry-After")
    coding = headers.get("Content-Encoding")
    unpacked = content if coding is None else _unpacked(content, coding)
    return Reply(
        status,
        unpacked[:MAX_REPLY_BYTES],
        retry_after=None if asked is None else retry_after_s(asked, datetime.now(UTC)),
        truncated=len(unpacked) > MAX_REPLY_BYTES,
        content_type=headers.get("Content-Type"),
    )


def _unpacked(content: bytes, coding: str) -> bytes:
    """
    Undo the content coding, as far as the cap: identity was asked for, so whatever packs is not asked for.

    What cannot be undone (another coding, two of them, damage) stays as it is, and is no JSON.
    """
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return content
    try:
        # It tells gzip and zlib apart by their heads.
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, MAX_REPLY_BYTES + 1)
    except zlib.error:
        return content


def parse(content: bytes, content_type: str | None = None) -> Any:
    """
    Read JSON. A number with a fraction becomes a Decimal, with every digit that was written.

    Args:
        content_type: A `Content-Type` header. If the bytes are not JSON in its charset, others are tried, UTF-8 first.

    Raises:
        DecodeError: It is none, or none that a service would send: nested too deep, or with numbers too long.
    """
    # Such bytes are the same text in every charset.
    is_plain = content.isascii() and 0 not in content
    for text in (content.decode(),) if is_plain else texts(content, charset_of(content_type)):
        try:
            return _DECODER.decode(text)
        except (ValueError, ArithmeticError, RecursionError):
            continue
    # Raised outside the handler: the handled error holds the whole body, with what it may say.
    raise DecodeError("the body is not JSON")


def _no_json(constant: str) -> object:
    raise ValueError(constant)


# `json.dumps` and `json.loads` would make one of these each time.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_json)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Read a `Retry-After` header, in either of its forms; None where it says nothing usable."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", header):
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):  # no date, one without a time zone, one of no calendar
        return None


def decode(payload: object, model: type[Model]) -> Model:
    """
    Make a value of a reply's payload.

    Raises:
        DecodeError: A required field is missing or of the wrong type.
    """
    return _converter().structure(payload, model)


def request_id(payload: object) -> str | None:
    """Give the reply's `request_id`, where it has one that could be printed and kept."""
    value = payload.get("request_id") if isinstance(payload, Mapping) else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable() and value.strip():
        return value
    return None


def _string(value: object, _: type) -> str:
    # cattrs makes a str of anything, also "None" of null.
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DecodeError("it is no string")


def _decimal(value: object, _: type) -> Decimal:
    # Documented as a string; a number is taken too. Decimal alone would also read "NaN", "Infinity" and "1_000".
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        written = str(value).strip()
        if re.fullmatch(_DECIMAL, written):
            return Decimal(written)
    raise DecodeError("it is no decimal number")


def _moment(value: object, _: type) -> datetime:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    raise DecodeError("it is no ISO 8601 time")


def _tolerant(model: type[Any]) -> Callable[[object, type], Any]:
    """Make a hook that keeps unknown fields, and optional ones that cannot be read, in `extra`."""
    known = {
        _WIRE_NAMES.get(attribute.name, attribute.name): attribute
        for attribute in attrs.fields(attrs.resolve_types(model))
        if attribute.name != "extra"
    }

    def structure(payload: object, _: type) -> Any:
        if not isinstance(payload, Mapping):
            raise DecodeError("it is no JSON object")
        extra = dict(payload)
        values: dict[str, Any] = {}
        for name, attribute in known.items():
            # Where v0.4 documents no body, a name may come in the other spelling, too: `campaign_id` for `campaignId`.
            spelled = name if name in payload else attribute.name
            required = attribute.default is attrs.NOTHING
            value = extra.pop(spelled, None)
            if value is None and not required:
                continue
            if required and value in (None, ""):
                raise DecodeError(f"`{name}`: it is missing")
            try:
                values[attribute.name] = _converter().structure(value, attribute.type)
            except DecodeError as error:
                if required:
                    raise DecodeError(f"`{name}`: {error}") from None
                extra[spelled] = value
        return model(**values, extra=extra)

    return structure


def _unstructured(kind: type[Any]) -> Callable[[Any], dict[str, Any]]:
    """Make a hook that spells a message's fields as the wire does, without those that are ours alone, or None."""
    overrides: dict[str, Any] = {
        a.name: override(
            rename=_WIRE_NAMES.get(a.name), omit=a.name in _NOT_ON_THE_WIRE or None, omit_if_default=a.default is None
        )
        for a in attrs.fields(kind)
    }
    return make_dict_unstructure_fn(kind, _converter(), **overrides)


@cache
def _converter() -> Converter:
    # Made with the first message and not with the import, whose costs it would raise by a tenth.
    converter = Converter(detailed_validation=False)
    converter.register_unstructure_hook_factory(attrs.has, _unstructured)
    converter.register_structure_hook(str, _string)
    converter.register_structure_hook(Decimal, _decimal)
    converter.register_structure_hook(datetime, _moment)
    # By a factory, so that no value has to be imported before it is asked for.
    converter.register_structure_hook_factory(attrs.has, _tolerant)
    return converter
