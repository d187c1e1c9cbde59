"""Convert values to the wire's JSON, and its JSON to values. `listings` decodes the replies of management calls."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

import attrs
from attrs import define
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from pico_async._charsets import charset_of, texts
from pico_async._engine import endpoints
from pico_async._engine.endpoints import Request
from pico_async._engine.hosts import host_of, is_loopback, is_public
from pico_async.errors import InvalidMessageError, Reason
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.receipts.callbacks import CallbackSigner

Model = TypeVar("Model")

MAX_REPLY_BYTES = 1024 * 1024

_WIRE_NAMES = {"sender": "from", "template_id": "templateId", "campaign_id": "campaignId", "media_url": "mediaUrl"}
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_SECONDS = re.compile(r"[0-9]{1,9}")
_NOT_ON_THE_WIRE = ("key", "expires_in", "made_at", "promotional")


class Account(NamedTuple):
    """
    What all messages of one session share.

    Attributes:
        callback: URL for the receipts of a message that names none.
        signer: Makes a signed URL of `callback` for each message.
        private_urls: URLs may name hosts that only this network reaches.
        loopback_urls: URLs may name loopback hosts.
    """

    username: str
    sender: str | None = None
    callback: str | None = None
    signer: CallbackSigner | None = None
    private_urls: bool = False
    loopback_urls: bool = False

    def callback_for(self, message: SmsMessage) -> str | None:
        """
        Return the URL for a message's receipts, or None.

        Raises:
            InvalidMessageError: Pico must not be sent to that host, or the key is too long for a signed URL.
        """
        if message.callback is not None:
            return self.reachable("callback", message.callback)
        if self.callback is None or self.signer is None:
            return self.callback
        return self.signer.sign(self.callback, message.key)

    def reachable(self, name: str, url: str) -> str:
        """
        Return the URL if Pico may call its host.

        Raises:
            InvalidMessageError: Only this machine or its network reaches the host, or another program may read such a
                host in the URL.
        """
        host = host_of(url)
        if self.private_urls or is_public(host) or (self.loopback_urls and is_loopback(host)):
            return url
        raise InvalidMessageError(
            f"`{name}` names a host that only this machine or its network reaches, or another program may read it so. "
            "Pico must not be sent there. Pass a public one, or allow_private_urls=True to PicoSession.",
            argument=name,
            reason=Reason.HOST,
        )


@define(eq=False, repr=False)
class Reply:
    """
    A reply as it came. It has no repr, because its content may be a token.

    Attributes:
        content: The body, up to 1 MiB.
        retry_after: Seconds to wait, as the reply asks.
        truncated: The body was longer than 1 MiB.
        content_type: The `Content-Type` header, which may name a charset.
    """

    status: int
    content: bytes
    retry_after: float | None = None
    truncated: bool = False
    content_type: str | None = None


class Failure(NamedTuple):
    """
    The reason why no complete reply came.

    Attributes:
        reason: What happened, as a part of a sentence.
        sent_nothing: It is certain that no byte of the request was written.
    """

    reason: str
    sent_nothing: bool


class DecodeError(Exception):
    """A reply does not contain what the reference promises. The error names the field, and never its value."""


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
                f"Pass an SmsMessage, an MmsMessage or a VoiceMessage, not {type(message).__name__}.",
                reason=Reason.TYPE,
            )
    # As its kind: a field that a subclass adds is not one of Pico's.
    body = {**_converter().unstructure(message, unstructure_as=kind), "username": account.username}
    if not isinstance(message, VoiceMessage) and "from" not in body:
        if account.sender is None:
            raise InvalidMessageError(
                "The message has no sender: pass `sender=` with it or to PicoSession, or set PICO_SENDER.",
                argument="sender",
                reason=Reason.MISSING,
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
    Return the body as JSON in UTF-8.

    Raises:
        InvalidMessageError: It contains an unpaired surrogate. A value from the environment may.
    """
    try:
        return _ENCODER.encode(body).encode()
    except UnicodeEncodeError:
        pass
    # Raised outside the handler, because the handled error contains the whole body.
    raise InvalidMessageError(
        "The request contains an unpaired surrogate and cannot be encoded as UTF-8.", reason=Reason.CHARACTERS
    )


def reply_of(status: int, headers: Mapping[str, str], content: bytes) -> Reply:
    """
    Return a reply.

    Args:
        headers: A case-insensitive mapping.
        content: The body as it came, still compressed. It may be cut off after 1 MiB.
    """
    coding = headers.get("Content-Encoding")
    unpacked = content if coding is None else _unpacked(content, coding)
    return Reply(
        status,
        unpacked[:MAX_REPLY_BYTES],
        retry_after=retry_after_s(headers.get("Retry-After"), datetime.now(UTC)),
        truncated=len(unpacked) > MAX_REPLY_BYTES,
        content_type=headers.get("Content-Type"),
    )


def _unpacked(content: bytes, coding: str) -> bytes:
    """
    Decompress the content, up to 1 MiB. Some servers compress although only identity is accepted.

    Content that cannot be decompressed (another coding, two codings, damage) is returned as it is. It is not JSON.
    """
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return content
    try:
        # This setting detects gzip and zlib by their headers.
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, MAX_REPLY_BYTES + 1)
    except zlib.error:
        return content


def parse(content: bytes, content_type: str | None = None) -> Any:
    """
    Return parsed JSON. A number with a fraction becomes a Decimal with all its digits.

    Args:
        content_type: A `Content-Type` header. If the bytes are not JSON in its charset, others are tried, UTF-8 first.

    Raises:
        DecodeError: This is not JSON, or it is nested too deeply, or a number is too long.
    """
    # Such bytes are the same text in every charset that `texts` tries.
    is_plain = content.isascii() and 0 not in content
    for text in (content.decode(),) if is_plain else texts(content, charset_of(content_type)):
        try:
            return _DECODER.decode(text)
        except (ValueError, ArithmeticError, RecursionError):
            continue
    # Raised outside the handler, because the handled error contains the whole body.
    raise DecodeError("the body is not JSON")


def _no_json(constant: str) -> object:
    raise ValueError(constant)


# `json.dumps` and `json.loads` would make one of these for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_json)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header in either of its forms, or None if it is invalid."""
    if header is None:
        return None
    if _SECONDS.fullmatch(header):
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None  # not a date, or without a time zone


def decode(payload: object, model: type[Model]) -> Model:
    """
    Return a reply's payload as a value.

    Raises:
        DecodeError: A required field is missing or of the wrong type.
    """
    return _converter().structure(payload, model)


def request_id(payload: object) -> str | None:
    """Return the reply's `request_id`, or None if it is missing, empty, too long or not printable."""
    value = payload.get("request_id") if isinstance(payload, Mapping) else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable() and value.strip():
        return value
    return None


def _string(value: object, _: type) -> str:
    # cattrs would convert any value to str, and null to "None".
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DecodeError("it is no string")


def _decimal(value: object, _: type) -> Decimal:
    # Documented as a string, but a number is accepted too. Decimal itself would accept "NaN", "Infinity" and "1_000".
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        written = str(value).strip()
        if _DECIMAL.fullmatch(written):
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
    """Return a hook that keeps unknown fields, and optional fields that are invalid, in `extra`."""
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
            # v0.4 does not document all bodies, so both spellings are accepted: `campaign_id` and `campaignId`.
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
    """Return a hook that converts a message to the wire's fields, without None and without the client's own fields."""
    overrides: dict[str, Any] = {
        a.name: override(
            rename=_WIRE_NAMES.get(a.name), omit=a.name in _NOT_ON_THE_WIRE, omit_if_default=a.default is None
        )
        for a in attrs.fields(kind)
    }
    return make_dict_unstructure_fn(kind, _converter(), **overrides)


@cache
def _converter() -> Converter:
    converter = Converter(detailed_validation=False)
    converter.register_unstructure_hook_factory(attrs.has, _unstructured)
    converter.register_structure_hook(str, _string)
    converter.register_structure_hook(Decimal, _decimal)
    converter.register_structure_hook(datetime, _moment)
    converter.register_structure_hook_factory(attrs.has, _tolerant)
    return converter
