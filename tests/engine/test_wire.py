"""These tests check that values become JSON as in the reference, and that JSON becomes values or a DecodeError."""

import json
import math
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from pico_async._engine.endpoints import SEND_MMS, SEND_SMS, SEND_VOICE
from pico_async._engine.listings import decode_acknowledged, decode_campaigns, decode_templates
from pico_async._engine.wire import (
    MAX_REPLY_BYTES,
    Account,
    DecodeError,
    Reply,
    decode,
    encode,
    named,
    parse,
    reply_of,
    request_id,
    retry_after_s,
    send_request,
)
from pico_async.errors import InvalidMessageError
from pico_async.messages import MmsMessage, SmsMessage, VoiceMessage
from pico_async.models import Accepted, Acknowledged, Balance, Campaign, CreatedCampaign, Listing, Template, UserToken
from tests.support.reference import replies
from tests.support.reference.requests import EXAMPLE

TO = "8612345678901"
ACCOUNT = Account("user333", sender="8612345678888")

MODELS = [Accepted, Acknowledged, Balance, Campaign, CreatedCampaign, Template, UserToken]
DECODERS: dict[str, tuple[Callable[[object], object], type]] = {
    **{model.__name__: (partial(decode, model=model), model) for model in MODELS},
    "acknowledged": (decode_acknowledged, Acknowledged),
    "campaigns": (decode_campaigns, Listing),
    "templates": (decode_templates, Listing),
}


# --- encoding -------------------------------------------------------------------------------------


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "Send an SMS",
            SmsMessage(TO, "Your verification code is 1234", callback="https://abcdefg.m.pipedream.net/"),
        ),
        ("Send an MMS", MmsMessage(TO, "https://example.com/image.jpg", "Check out this image!")),
        ("Send Voice TTS", VoiceMessage(TO, "Your verification code is 1234")),
    ],
)
def test_the_references_example_is_sent_word_for_word(section: str, message: Any) -> None:
    """The path and the body of a send are exactly those of the cURL line in the reference."""
    request = send_request(message, ACCOUNT)

    assert request.endpoint.section == section
    assert request.path == EXAMPLE[section].path
    assert request.query == {}
    assert json.loads(encode(request.body)) == EXAMPLE[section].body


def test_a_template_is_named_as_the_wire_does() -> None:
    """A send by template contains no text and spells the ID of the template as `templateId`."""
    request = send_request(SmsMessage(TO, template_id="template-123"), ACCOUNT)

    assert request.endpoint is SEND_SMS
    assert request.body == {
        "username": "user333",
        "from": "8612345678888",
        "to": TO,
        "templateId": "template-123",
    }


def test_what_was_not_given_is_left_out() -> None:
    """An argument that was not passed is left out of the body; it is not sent as null."""
    mms = send_request(MmsMessage(TO, "https://example.com/image.jpg"), ACCOUNT)
    voice = send_request(VoiceMessage(TO, "Hello", lang="zh-CN"), Account("user333"))

    assert mms.endpoint is SEND_MMS
    assert mms.body == {
        "username": "user333",
        "from": "8612345678888",
        "to": TO,
        "mediaUrl": "https://example.com/image.jpg",
    }
    assert voice.endpoint is SEND_VOICE
    assert voice.body == {"username": "user333", "to": TO, "text": "Hello", "lang": "zh-CN"}


def test_a_message_goes_before_its_account() -> None:
    """The sender and the callback of a message replace those of the account."""
    account = Account("user333", sender="DEFAULT", callback="https://example.com/default")

    own = send_request(SmsMessage(TO, "x", sender="OWN", callback="https://example.com/own"), account)
    default = send_request(SmsMessage(TO, "x"), account)

    said = {"username": "user333", "to": TO, "text": "x"}
    assert own.body == {**said, "from": "OWN", "callback": "https://example.com/own"}
    assert default.body == {**said, "from": "DEFAULT", "callback": "https://example.com/default"}


def test_only_a_text_message_has_a_callback() -> None:
    """MMS and voice requests have no callback and voice requests no `from`, as in the reference."""
    account = Account("user333", sender="PICO", callback="https://example.com/dlr")

    assert "callback" not in send_request(MmsMessage(TO, "https://example.com/image.jpg"), account).body
    assert "callback" not in send_request(VoiceMessage(TO, "x"), account).body
    assert "from" not in send_request(VoiceMessage(TO, "x"), account).body


def test_what_is_ours_stays_here() -> None:
    """`key`, `expires_in` and the creation time of a message are not sent to Pico."""
    bodies = [
        send_request(message, ACCOUNT).body
        for message in (
            SmsMessage(TO, "x", key="row 7", expires_in=30),
            MmsMessage(TO, "https://example.com/image.jpg", key="row 7", expires_in=30),
            VoiceMessage(TO, "x", key="row 7", expires_in=30),
        )
    ]

    assert not any({"key", "expires_in", "expiresIn", "made_at", "madeAt"} & set(body) for body in bodies)


def test_what_a_subclass_adds_stays_here() -> None:
    """A field that a user's subclass adds to a message is not sent to Pico."""

    @attrs.frozen
    class OwnMessage(SmsMessage):
        customer: str = "Anna"

    request = send_request(OwnMessage(TO, "x"), ACCOUNT)

    assert request.body == {"username": "user333", "from": "8612345678888", "to": TO, "text": "x"}


@pytest.mark.parametrize("message", [SmsMessage(TO, "x"), MmsMessage(TO, "https://example.com/image.jpg")])
def test_a_message_without_any_sender_is_refused(message: Any) -> None:
    """
    A message without any sender is refused, because the reference requires `from`.

    The error names the three ways to set it.
    """
    with pytest.raises(
        InvalidMessageError, match=r"^The message has no sender: pass `sender=` .* PicoSession, or set PICO_SENDER"
    ):
        send_request(message, Account("user333"))


def test_what_is_no_message_is_refused_by_its_type() -> None:
    """A value that is no message is refused. The error names its type and does not contain the value."""
    with pytest.raises(InvalidMessageError, match=r"^Pass an SmsMessage, .* not dict\.$"):
        send_request({"to": TO, "text": "x"}, ACCOUNT)


def test_management_fields_are_named_as_the_wire_does() -> None:
    """Management fields have the reference's spelling, and fields that were not passed are left out."""
    body = named(
        username="user333",
        campaign_id="campaign-123",
        name="Promo Image",
        content="Check out our new product!",
        media_url="https://example.com/image.jpg",
    )

    assert body == EXAMPLE["Create MMS Template"].body
    assert named(name="Updated Campaign", remark=None) == EXAMPLE["Update Campaign"].body
    assert named(remark="") == {"remark": ""}


@pytest.mark.parametrize("text", ["plain", "二维码是 1234", "😀", 'quote " backslash \\ line\nbreak', "\u2028", "\x7f"])
def test_a_body_is_json_in_utf8(text: str) -> None:
    """A body is compact JSON in UTF-8 that decodes to the same value; it escapes no character that UTF-8 can encode."""
    body = {"to": TO, "text": text}

    content = encode(body)

    assert json.loads(content.decode("utf-8")) == body
    assert content.startswith(b'{"to":"8612345678901","text":"')
    assert "\\u" not in content.decode("utf-8")


@given(st.text().filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text)))
def test_any_text_goes_out_as_it_is(text: str) -> None:
    """Any valid text is the same after encoding and decoding."""
    assert json.loads(encode({"text": text}).decode("utf-8")) == {"text": text}


def test_a_body_that_utf8_cannot_carry_is_refused_without_being_held() -> None:
    """
    A body that cannot be encoded as UTF-8 is refused, and the error does not hold the body.

    Python's own error would hold it and could bring it into logs.
    """
    with pytest.raises(InvalidMessageError) as caught:
        encode({"to": TO, "text": "Your code is 1234", "callback": "https://example.com/\udcff"})

    assert caught.value.__context__ is None
    assert "1234" not in str(caught.value)


# --- decoding: JSON -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"{}", {}),
        (b" \r\n[1, 2.5, null, true]\n", [1, 2.5, None, True]),
        ('{"msg": "重复提交"}'.encode(), {"msg": "重复提交"}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b"null", None),
    ],
)
def test_json_is_read(content: bytes, value: object) -> None:
    """JSON is parsed, even if whitespace or a byte order mark comes before it."""
    assert parse(content) == value


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" ", id="a blank"),
        pytest.param(replies.BAD_GATEWAY_PAGE, id="HTML"),
        pytest.param(b'{"request_id": ', id="truncated"),
        pytest.param(b'{"request_id": "x"} and more', id="more after the end"),
        pytest.param(b"{'request_id': 'x'}", id="single quotes"),
        pytest.param(b'\xff\xfe{"text": ', id="bad UTF-8"),
        pytest.param(b'\xff\xfe{"text": "secret"}', id="a byte order mark that lies"),
        pytest.param(b"\x00\x01\x02", id="binary"),
        pytest.param(b"[" * 100_000, id="nested deep, open"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="objects nested deep"),
        pytest.param(b'{"balance": ' + b"7" * 10_000 + b"}", id="a number of 10,000 digits"),
        pytest.param(b'{"balance": 1e99999999999999999999}', id="an exponent of 20 digits"),
        pytest.param(b'{"balance": -0.1E-99999999999999999999}', id="a negative exponent of 20 digits"),
        pytest.param(b'{"balance": NaN}', id="NaN"),
        pytest.param(b'{"balance": Infinity}', id="Infinity"),
        pytest.param(b"[-Infinity]", id="-Infinity"),
    ],
)
def test_what_is_no_json_is_a_decode_error(content: bytes) -> None:
    """A body that is no JSON raises only DecodeError, and the error holds nothing of the body."""
    with pytest.raises(DecodeError, match=r"^the body is not JSON$") as caught:
        parse(content)

    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_json_or_a_decode_error(content: bytes) -> None:
    """Any bytes are parsed as JSON or raise DecodeError, never another error."""
    error = error_of(parse, content)

    assert error is None or error.__context__ is None


@pytest.mark.parametrize("charset", [None, "utf-8", "GBK", "Big5", "iso-8859-1", "nonsense"])
@pytest.mark.parametrize("codec", ["utf-8", "gbk", "big5", "utf-16", "utf-16-le", "utf-8-sig", "shift_jis"])
def test_an_ascii_field_is_read_in_any_charset(codec: str, charset: str | None) -> None:
    """
    The `request_id` beside words in any charset is read, whatever charset is named.

    In Big5 and Shift JIS, the second byte of a character may be a backslash or a brace.
    """
    words = "功許蓋" if codec == "big5" else "表" if codec == "shift_jis" else "功能"
    content = f'{{"msg": "{words}", "request_id": "r-1"}}'.encode(codec)

    assert parse(content, charset and f"application/json; charset={charset}")["request_id"] == "r-1"


@pytest.mark.parametrize(
    ("codec", "charset", "words"),
    [
        ("gbk", "GBK", replies.TOO_FREQUENT),
        ("gbk", None, replies.TOO_FREQUENT),
        ("gbk", None, replies.REPEATED_SUBMISSION),
        ("big5", "Big5", replies.TOO_FREQUENT_TRADITIONAL),
        ("big5", None, replies.TOO_FREQUENT_TRADITIONAL),
        ("big5", None, replies.REPEATED_SUBMISSION_TRADITIONAL),
    ],
)
def test_words_are_read_in_the_charsets_of_the_region(codec: str, charset: str | None, words: str) -> None:
    """The words of a refusal are read in GBK and Big5, with the charset named and without."""
    content = f'{{"msg": "{words}", "code": 500}}'.encode(codec)

    assert parse(content, charset and f"application/json; charset={charset}") == {"msg": words, "code": 500}


@pytest.mark.parametrize(
    "content", [b'{"msg": "\xff", "request_id": "r-1"}', b'{"request_id": "r-1", "msg": "\xe8\xab"}']
)
def test_bytes_that_are_no_text_do_not_hide_the_other_fields(content: bytes) -> None:
    """Bytes that are no text in any charset, as half of a character, cost the field that holds them and no other."""
    assert parse(content)["request_id"] == "r-1"


# --- replies --------------------------------------------------------------------------------------


def packed(*codings: str, content: bytes = b'{"request_id": "r-1"}') -> bytes:
    """Pack the content in each coding, one after the other."""
    for coding in codings:
        wbits = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}[coding]
        packer = zlib.compressobj(wbits=wbits)
        content = packer.compress(content) + packer.flush()
    return content


@pytest.mark.parametrize("coding", ["gzip", "deflate", "GZIP ", "x-gzip"])
def test_a_coding_that_was_not_asked_for_is_undone(coding: str) -> None:
    """A reply in gzip or deflate is unpacked, because some proxies pack it unasked."""
    content = packed("deflate" if coding == "deflate" else "gzip")

    assert parse(reply_of(200, {"Content-Encoding": coding}, content).content) == {"request_id": "r-1"}


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("br", b"\x8b\x0a\x80{}\x03"),
        ("zstd", b"(\xb5/\xfd\x04 "),
        ("gzip, gzip", packed("gzip", "gzip")),
        ("gzip, deflate", packed("gzip", "deflate")),
        ("gzip", packed("gzip", "gzip")),
        ("gzip", packed("gzip")[:-20]),
        ("gzip", b"\x1f\x8b\x08\x00 garbage"),
    ],
    ids=["br", "zstd", "gzip twice", "two codings", "gzip twice, named once", "cut off", "damaged"],
)
def test_a_coding_that_cannot_be_undone_leaves_no_json(coding: str, content: bytes) -> None:
    """A reply in another coding, in two of them, or damaged is unreadable."""
    with pytest.raises(DecodeError):
        parse(reply_of(200, {"Content-Encoding": coding}, content).content)


@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate", "br", "utf-8", ""])
def test_a_coding_that_is_only_named_hides_nothing(coding: str) -> None:
    """A reply that is plain JSON is read, also where its head names a coding that it is not in."""
    assert parse(reply_of(200, {"Content-Encoding": coding}, b'{"request_id": "r-1"}').content) == {"request_id": "r-1"}


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_the_cap_holds_for_what_is_unpacked(coding: str) -> None:
    """A packed reply that is longer than 1 MiB when it is unpacked is truncated, and takes little memory."""
    content = packed(coding, content=b" " * 64_000_000)

    tracemalloc.start()
    reply = reply_of(200, {"Content-Encoding": coding}, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert reply.truncated
    assert len(reply.content) == MAX_REPLY_BYTES
    assert peak < 10 * MAX_REPLY_BYTES


# --- decoding: values -----------------------------------------------------------------------------


def error_of(read: Callable[..., object], *arguments: object) -> DecodeError | None:
    """Return the DecodeError that the call raises, or None."""
    try:
        read(*arguments)
    except DecodeError as error:
        return error
    return None


def chain_of(error: BaseException | None) -> list[BaseException]:
    """Return the error and all errors that its traceback would show before it."""
    return [] if error is None else [error, *chain_of(error.__cause__ or error.__context__)]


@pytest.mark.parametrize(
    ("content", "model", "value"),
    [
        (
            replies.TOKEN,
            UserToken,
            UserToken("eyJhbGciOiJIUzUxMiJ9...", replies.REQUEST_ID),
        ),
        (replies.CREATED_CAMPAIGN, CreatedCampaign, CreatedCampaign("db675a0f-c0ca-46b1-bfc1-abf76663feee")),
        (replies.ACCEPTED_SMS, Accepted, Accepted(replies.REQUEST_ID)),
        (replies.MSG_INFO, Acknowledged, Acknowledged(replies.REQUEST_ID)),
        (replies.BALANCE, Balance, Balance(Decimal("1234.56"), "user333", replies.REQUEST_ID)),
    ],
)
def test_a_documented_reply_is_read_whole(content: bytes, model: type, value: object) -> None:
    """Each documented reply is decoded completely, and no field is left over."""
    read = decode(parse(content), model)

    assert read == value
    assert type(read) is model
    assert read.extra == {}


@pytest.mark.parametrize(
    "balance",
    ["1234.56", "0", "0.10", "-12.34", "1E+2", "0.0001", "123456789012345678901234567890.123456789"],
)
def test_a_balance_is_exact(balance: str) -> None:
    """A balance keeps every digit that Pico sent, including zeros at the end."""
    assert str(decode({"balance": balance}, Balance).balance) == balance


@pytest.mark.parametrize(
    ("written", "balance"),
    [
        ("1234.56", "1234.56"),
        ("0.1", "0.1"),
        ("5", "5"),
        ("12345678901234567890", "12345678901234567890"),
        ('" 1234.56 "', "1234.56"),
        pytest.param("1234567890123456.78", "1234567890123456.78", id="more digits than a float has"),
    ],
)
def test_a_balance_that_is_a_number_is_exact_too(written: str, balance: str) -> None:
    """A balance that is a JSON number instead of the documented string is exact, too."""
    read = decode(parse(f'{{"balance": {written}}}'.encode()), Balance)

    assert read.balance == Decimal(balance)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2024-01-15T10:30:00Z", datetime(2024, 1, 15, 10, 30, tzinfo=UTC)),
        ("2024-01-15T18:30:00+08:00", datetime(2024, 1, 15, 18, 30, tzinfo=timezone(timedelta(hours=8)))),
        ("2024-01-15T10:30:00.123Z", datetime(2024, 1, 15, 10, 30, 0, 123_000, tzinfo=UTC)),
        ("2024-01-15 10:30:00", datetime(2024, 1, 15, 10, 30)),
    ],
)
@pytest.mark.parametrize("model", [Campaign, Template])
def test_a_time_is_read_with_its_zone(model: type, written: str, moment: datetime) -> None:
    """A time keeps its UTC offset, where "Z" is UTC. A time without a zone stays without a zone."""
    read = decode({"id": "x", "created_at": written}, model).created_at

    assert read == moment
    assert read.utcoffset() == moment.utcoffset()


def test_a_template_is_read_by_the_wires_names() -> None:
    """A template is decoded from the names in the create calls, because the names in the list are not documented."""
    template = decode(
        {
            "id": "template-123",
            "name": "Promo Image",
            "content": "Check out our new product!",
            "campaignId": "campaign-123",
            "mediaUrl": "https://example.com/image.jpg",
            "status": "approved",
            "created_at": "2024-01-15T10:30:00Z",
        },
        Template,
    )

    assert template == Template(
        "template-123",
        "Promo Image",
        "Check out our new product!",
        "campaign-123",
        "https://example.com/image.jpg",
        "approved",
        datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
    )


LEAST = {
    Accepted: {"request_id": "r-1"},
    Acknowledged: {},
    Balance: {"balance": "1"},
    Campaign: {"id": "campaign-123"},
    CreatedCampaign: {"request_id": "campaign-123"},
    Template: {},
    UserToken: {"token": "eyJ"},
}
of_every_model = pytest.mark.parametrize("model", MODELS)


@of_every_model
def test_a_missing_optional_is_none(model: type) -> None:
    """An optional field that is missing or null is None."""
    optional = [
        attribute.name
        for attribute in attrs.fields(model)
        if attribute.default is not attrs.NOTHING and attribute.name != "extra"
    ]
    nulls = dict.fromkeys(["request_id", "username", "name", "remark", "created_at", "campaignId", "status"])

    left_out = decode(LEAST[model], model)
    null = decode({**nulls, **LEAST[model]}, model)

    assert all(getattr(left_out, name) is None for name in optional)
    assert all(getattr(null, name) is None for name in optional)


@of_every_model
def test_unknown_fields_are_kept(model: type) -> None:
    """Unknown fields are kept unchanged in `extra`, even if one has the name of a Python attribute."""
    unknown = {"price": 0.1, "parts": [1, {"a": None}], "extra": "x", "made_at": 1, "self": 2}

    value = decode({**LEAST[model], **unknown}, model)

    assert value.extra == unknown


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        (UserToken, "request_id", ["a"]),
        (Balance, "request_id", 1.5),
        (Balance, "username", {"a": 1}),
        (Acknowledged, "request_id", True),
        (Campaign, "name", ["a"]),
        (Campaign, "created_at", "yesterday"),
        (Campaign, "created_at", 1705314600),
        (Campaign, "created_at", "2024-13-45T99:99:99Z"),
        (Template, "id", {"$oid": "x"}),
        (Template, "content", False),
        (Template, "campaignId", []),
    ],
)
def test_an_optional_that_cannot_be_read_is_kept_as_it_came(model: type, name: str, value: object) -> None:
    """An optional field of a wrong type is None, and its value is kept in `extra`."""
    read = decode({**LEAST[model], name: value}, model)

    attribute = {"campaignId": "campaign_id"}.get(name, name)
    assert getattr(read, attribute) is None
    assert read.extra == {name: value}


def test_a_whole_number_is_taken_where_a_string_is_due() -> None:
    """An integer is accepted as an ID, where the reference has a string."""
    assert decode({"request_id": 7}, Accepted) == Accepted("7")
    assert decode({"id": 12345678901234567890}, Campaign) == Campaign("12345678901234567890")


REQUIRED = [(Accepted, "request_id"), (CreatedCampaign, "request_id"), (Campaign, "id"), (UserToken, "token")]
NOT_A_STRING = [None, True, 1.5, ["secret"], {"a": "secret"}, []]
NOT_A_DECIMAL = [None, True, [], ["secret"], {}, "", "secret", "1,234.56", "0x10", "NaN", "sNaN", "Infinity", math.inf]


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        *[(model, name, value) for model, name in REQUIRED for value in NOT_A_STRING],
        *[(Balance, "balance", value) for value in NOT_A_DECIMAL],
    ],
)
def test_a_required_field_of_another_kind_is_a_decode_error(model: type, name: str, value: object) -> None:
    """A required field of a wrong type raises DecodeError. The error names the field and does not hold the value."""
    error = error_of(decode, {"name": "x", name: value}, model)

    assert str(error).startswith(f"`{name}`: ")
    assert all(type(behind) is DecodeError for behind in chain_of(error))
    assert not any("secret" in repr(behind) for behind in chain_of(error))


@pytest.mark.parametrize(("model", "name"), [*REQUIRED, (Balance, "balance")])
@pytest.mark.parametrize("payload", [{}, {"msg": "secret"}, {"extra": "secret"}])
def test_a_missing_required_field_is_a_decode_error(model: type, name: str, payload: object) -> None:
    """A missing required field raises DecodeError, which names the field."""
    error = error_of(decode, payload, model)

    assert str(error).startswith(f"`{name}`: ")
    assert not any("secret" in repr(behind) for behind in chain_of(error))


def test_the_id_of_a_created_campaign_is_not_empty() -> None:
    """An empty `request_id` of a created campaign raises DecodeError, because it names no campaign."""
    with pytest.raises(DecodeError, match="request_id"):
        decode({"request_id": ""}, CreatedCampaign)


@pytest.mark.parametrize("payload", [None, True, 7, 1.5, "secret", ["secret"]])
@of_every_model
def test_what_is_no_object_is_a_decode_error(model: type, payload: object) -> None:
    """A reply that is no JSON object raises DecodeError, because every documented reply is an object."""
    with pytest.raises(DecodeError, match=r"^it is no JSON object$"):
        decode(payload, model)


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({"request_id": replies.REQUEST_ID}, replies.REQUEST_ID),
        ({"request_id": "x" * 256}, "x" * 256),
        ({"request_id": 7}, "7"),
        ({"request_id": 0}, "0"),
        ({"request_id": "x" * 257}, None),
        ({"request_id": 10**300}, None),
        ({"request_id": ""}, None),
        ({"request_id": "  "}, None),
        ({"request_id": "a\nb"}, None),
        ({"request_id": "\x1b[2J"}, None),
        ({"request_id": "\ud800"}, None),
        ({"request_id": True}, None),
        ({"request_id": 1.5}, None),
        ({"request_id": ["x"]}, None),
        ({"request_id": None}, None),
        ({"requestId": "x"}, None),
        ({}, None),
        (["request_id"], None),
        ("request_id", None),
        (None, None),
    ],
)
def test_a_request_id_is_one_that_can_be_printed_and_kept(payload: object, found: str | None) -> None:
    """
    A `request_id` that is empty, unprintable or longer than 256 characters counts as missing.

    The success of a send depends on it.
    """
    assert request_id(payload) == found


FIELDS = ["request_id", "token", "id", "balance", "username", "created_at", "campaignId", "mediaUrl", "name", "extra"]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("2024-01-15T10:30:00Z"),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELDS, "campaigns", "templates"]) | st.text(max_size=5), values, max_size=6
        )
    ),
    max_leaves=12,
)


@pytest.mark.lower_bounds
@pytest.mark.parametrize("name", DECODERS)
@settings(deadline=None, max_examples=60)
@given(payload=JSON_VALUES)
def test_any_json_is_a_value_or_a_decode_error(name: str, payload: object) -> None:
    """For any JSON value, a decoder returns a value of its documented type or raises DecodeError."""
    read, kind = DECODERS[name]

    try:
        value = read(payload)
    except DecodeError:
        return

    assert type(value) is kind


@settings(deadline=None, max_examples=60)
@given(payload=JSON_VALUES)
def test_any_json_has_a_printable_request_id_or_none(payload: object) -> None:
    """For any JSON value, the `request_id` is printable and at most 256 characters long, or it is None."""
    found = request_id(payload)

    assert found is None or (found.isprintable() and 0 < len(found) <= 256)


def test_a_replys_repr_does_not_show_its_body() -> None:
    """The repr of a reply does not show the body, which may hold a token."""
    assert "token" not in repr(Reply(200, replies.TOKEN))


# --- decoding: Retry-After ------------------------------------------------------------------------

NOW = datetime(2024, 1, 15, 10, 30, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("120", 120.0),
        ("Mon, 15 Jan 2024 10:30:07 GMT", 7.0),
        ("Mon, 15 Jan 2024 10:31:00 +0000", 60.0),
        ("Mon, 15 Jan 2024 18:30:07 +0800", 7.0),
        ("Monday, 15-Jan-24 10:30:07 GMT", 7.0),
    ],
)
def test_a_wait_is_read_in_seconds_or_until_a_date(header: str, seconds: float) -> None:
    """`Retry-After` is read as seconds or as an HTTP date, including an older date format."""
    assert retry_after_s(header, NOW) == seconds


@pytest.mark.parametrize("header", ["Mon, 15 Jan 2024 10:29:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_date_that_has_passed_asks_for_no_wait(header: str) -> None:
    """A date in the past means a wait of zero, because the clock of the client may run ahead."""
    assert retry_after_s(header, NOW) == 0.0


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "soon",
        "-5",
        "+5",
        "1.5",
        "1e3",
        "0x10",
        "\u0667",
        "\uff17",
        "NaN",
        "inf",
        "1, 2",
        "Mon, 15 Jan 2024",
        "Mon, 15 Jan 2024 10:30:07",
        "Mon, 15 Jan 2024 10:30:07 -0000",
        "Mon, 45 Jan 2024 10:30:07 GMT",
        "Mon, 15 Jan 2024 10:30:07 +9999",
        pytest.param("9" * 400, id="more seconds than a float holds"),
        pytest.param("Mon, 15 Jan 99999999999999999999 10:30:07 GMT", id="a year that no integer of C's holds"),
        pytest.param("Mon, 15 Jan 2024 10:30:07 +99999999999999999999", id="a zone that no integer of C's holds"),
    ],
)
def test_a_wait_that_says_nothing_usable_is_none(header: str | None) -> None:
    """An unusable `Retry-After` is read as None, for example a signed number, a fraction or a date without a zone."""
    assert retry_after_s(header, NOW) is None


@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,2} Jan [0-9]{1,4} [0-9:]{1,8} (GMT|[+-][0-9]{4})", fullmatch=True)
)
def test_any_header_is_a_finite_wait_or_none(header: str) -> None:
    """Any `Retry-After` header is read as a finite wait or as None, so no header can make a reply unreadable."""
    seconds = retry_after_s(header, NOW)

    assert seconds is None or 0 <= seconds < math.inf
