"""A message is validated when it is made, and it shows neither its text nor its whole number."""

import copy
import inspect
import math
import pickle
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from pico_async._characters import is_encodable
from pico_async.errors import InvalidMessageError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage, deadline, is_web_address

TO = "8612345678901"
TEXT = "Your verification code is 1234"
IMAGE = "https://example.com/image.jpg"


def sms(**changes: Any) -> SmsMessage:
    return SmsMessage(**{"to": TO, "text": TEXT, **changes})


def mms(**changes: Any) -> MmsMessage:
    return MmsMessage(**{"to": TO, "media_url": IMAGE, **changes})


def voice(**changes: Any) -> VoiceMessage:
    return VoiceMessage(**{"to": TO, "text": TEXT, **changes})


Make = Callable[..., Message]
of_every_kind = pytest.mark.parametrize("make", [sms, mms, voice])


# --- making ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        (SmsMessage, ["to", "text", "template_id", "sender", "callback", "key", "expires_in", "promotional"]),
        (MmsMessage, ["to", "media_url", "text", "sender", "key", "expires_in", "promotional"]),
        (VoiceMessage, ["to", "text", "lang", "key", "expires_in", "promotional"]),
    ],
)
def test_arguments_stand_in_the_order_of_the_contract(kind: type[Message], order: list[str]) -> None:
    """The arguments of each message keep this order, so code that passes them by position continues to work."""
    assert list(inspect.signature(kind).parameters) == order


def test_a_message_holds_what_it_was_given() -> None:
    """Each argument that is passed by position is stored in its own field."""
    message = SmsMessage("+86 123-4567-8901", TEXT, None, "PICO", "https://example.com/dlr", "row 7", 30)

    assert (message.to, message.text, message.template_id, message.sender, message.callback, message.key) == (
        TO,
        TEXT,
        None,
        "PICO",
        "https://example.com/dlr",
        "row 7",
    )
    assert message.expires_in == 30


def test_only_what_is_needed_has_to_be_given() -> None:
    """
    An omitted field is None, for the session to fill in. An omitted language is the reference's default, and an opt-out
    counts unless the message says otherwise.
    """
    assert attrs.astuple(SmsMessage(TO, TEXT))[:-1] == (TO, TEXT, None, None, None, None, None, True)
    assert attrs.astuple(SmsMessage(TO, template_id="t-1"))[:-1] == (TO, None, "t-1", None, None, None, None, True)
    assert attrs.astuple(MmsMessage(TO, IMAGE))[:-1] == (TO, IMAGE, None, None, None, None, True)
    assert attrs.astuple(VoiceMessage(TO, TEXT))[:-1] == (TO, TEXT, "en-US", None, None, True)


@pytest.mark.parametrize("given_", [{}, {"text": TEXT, "template_id": "t-1"}, {"text": None, "template_id": None}])
def test_a_text_message_has_exactly_one_of_text_and_template(given_: dict[str, Any]) -> None:
    """A text message with neither or both of `text` and `template_id` is refused before anything is sent."""
    with pytest.raises(InvalidMessageError, match=r"^Pass exactly one of `text` and `template_id`\.$"):
        SmsMessage(TO, **given_)


@of_every_kind
def test_a_bad_number_is_refused(make: Make) -> None:
    """Every kind of message checks its destination number."""
    with pytest.raises(InvalidMessageError, match=r"^`to` starts with 0"):
        make(to="008612345678901")


ACCEPTED_VALUES = [
    (sms, "text", "x"),
    (sms, "text", "二维码 😀\nline two"),
    pytest.param(sms, "text", "x" * 10_000, id="a long text"),
    (sms, "sender", "PICO"),
    (sms, "sender", "+86 123 4567 8888"),
    (sms, "callback", "http://127.0.0.1:8000/dlr?x=1"),
    (sms, "callback", "https://abcdefg.m.pipedream.net/"),
    (sms, "key", "row 7"),
    (sms, "expires_in", 0.001),
    (sms, "expires_in", 3600),
    (mms, "media_url", "HTTPS://EXAMPLE.COM/IMAGE.JPG"),
    (mms, "text", None),
    (voice, "lang", "zh-CN"),
    (voice, "lang", "en"),
    (voice, "lang", "zh-Hant-TW"),
]


@pytest.mark.parametrize(("make", "name", "value"), ACCEPTED_VALUES)
def test_a_good_value_is_kept_as_it_is(make: Make, name: str, value: object) -> None:
    """A valid value is stored unchanged; only the destination number is rewritten."""
    assert getattr(make(**{name: value}), name) == value


@pytest.mark.parametrize("template_id", ["t-1", "9ca38439-732f-4c88-87c7-0b3eda19dfca", "x" * 128, "a.b_c~d"])
def test_a_template_is_named_by_its_id(template_id: str) -> None:
    """Any short word is accepted as a template ID: the reference mentions a UUID and shows `template-123`."""
    assert SmsMessage(TO, template_id=template_id).template_id == template_id


NO_TEXT = [7, b"bytes", ["list"]]
NO_WEB_ADDRESS = [
    "example.com/image.jpg",
    "//example.com/image.jpg",
    "ftp://example.com/image.jpg",
    "file:///image.jpg",
    "javascript:alert(1)",
    "https://",
    "https:///image.jpg",
    "https://:443/image.jpg",
    "https://[::1/image.jpg",
]
REFUSED_VALUES = [
    *[(sms, "text", value, "must be a str") for value in NO_TEXT],
    *[(voice, "text", value, "must be a str") for value in [None, *NO_TEXT]],
    (sms, "text", "", "is empty"),
    (sms, "text", " \n ", "is empty"),
    (mms, "text", "", "is empty"),
    (voice, "text", " ", "is empty"),
    (sms, "text", "half \ud83d pair", "surrogate"),
    (mms, "text", "half \ud83d pair", "surrogate"),
    (voice, "text", "half \ude00 pair", "surrogate"),
    (sms, "sender", "", "is empty"),
    (sms, "sender", 8612345678888, "must be a str"),
    (sms, "sender", "PICO\r\nX-Evil: 1", "control character"),
    (mms, "sender", "PI\x00CO", "control character"),
    (sms, "sender", "\ud800", "surrogate"),
    (sms, "key", "", "is empty"),
    (sms, "key", 7, "must be a str"),
    (mms, "key", " ", "is empty"),
    (voice, "key", "\ud800", "surrogate"),
    *[(sms, "callback", value, "not a web address") for value in NO_WEB_ADDRESS],
    *[(mms, "media_url", value, "not a web address") for value in NO_WEB_ADDRESS],
    (sms, "callback", 7, "must be a str"),
    (sms, "callback", "", "is empty"),
    (sms, "callback", "https://example.com/\nx", "control character"),
    (sms, "callback", "https://example.com/\ud800", "surrogate"),
    (mms, "media_url", None, "must be a str"),
    (mms, "media_url", "https://exa\tmple.com/", "control character"),
    (mms, "media_url", "https://example.com/\ud800", "surrogate"),
    *[
        (voice, "lang", value, "not a language code")
        for value in ["", "e", "english", "en_US", "en-", "-US", "en US", "en-US\n", "en-USUSUSUSU", "語", None, 7]
    ],
    *[
        (make, "expires_in", value, "positive number of seconds")
        for make in (sms, mms, voice)
        for value in [0, -1, 0.0, math.nan, math.inf, -math.inf, True, "30", Decimal(30)]
    ],
]


@pytest.mark.parametrize(("make", "name", "value", "fault"), REFUSED_VALUES)
def test_a_bad_value_is_refused_by_name(make: Make, name: str, value: object, fault: str) -> None:
    """The error for an invalid value names the argument and the fault, and does not repeat the value."""
    with pytest.raises(InvalidMessageError, match=rf"^`{name}` .*{fault}.*\.$") as caught:
        make(**{name: value})

    assert caught.value.__context__ is None
    if isinstance(value, str) and len(value) > 8:  # a shorter value may occur in the error's example
        assert value not in str(caught.value)


@pytest.mark.parametrize("template_id", ["", " ", "a b", "../sms", "a/b", "x" * 129, "a\n", "語", "\ud800", 7])
def test_what_is_no_id_is_refused(template_id: object) -> None:
    """A template ID that is not a short word is refused, and the error, which is the same for all, repeats no value."""
    with pytest.raises(InvalidMessageError, match=r"^`template_id` is not an ID of Pico's") as other:
        SmsMessage(TO, template_id="?!")

    with pytest.raises(InvalidMessageError) as caught:
        SmsMessage(TO, template_id=template_id)

    assert str(caught.value) == str(other.value)


@given(st.text())
def test_any_text_makes_a_message_or_the_one_error(text: str) -> None:
    """Any text makes a message or raises an `InvalidMessageError` that does not contain the text."""
    if text.strip() and is_encodable(text):
        assert SmsMessage(TO, text).text == text
        return

    with pytest.raises(InvalidMessageError) as caught:
        SmsMessage(TO, text)

    assert len(text) < 4 or text not in str(caught.value)


@pytest.mark.parametrize("url", [None, 7, b"https://example.com", "", *NO_WEB_ADDRESS])
def test_what_is_no_web_address_is_told_apart(url: object) -> None:
    """`is_web_address` returns False, and raises nothing, for a value that is not an http or https URL with a host."""
    assert is_web_address(url) is False


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://example.com/\ud800", id="half of a surrogate pair"),
        pytest.param("https://exa\nmple.com/", id="line break"),
        pytest.param("https://example.com/\x00", id="null character"),
    ],
)
def test_an_address_that_cannot_be_sent_is_none(url: str) -> None:
    """
    `is_web_address` returns False for a URL that cannot be sent. The session's callback and a template's media have no
    other check.
    """
    assert not is_web_address(url)


# --- showing --------------------------------------------------------------------------------------


@of_every_kind
@pytest.mark.parametrize("show", [repr, str, "{}".format], ids=["repr", "str", "format"])
def test_a_message_shows_neither_its_text_nor_its_number(make: Make, show: Callable[[Message], str]) -> None:
    """A message may be printed and logged: it shows only the length of its text and the ends of its number."""
    shown = show(make(to="+86 123 4567 8901", text=TEXT))

    assert shown.startswith(f"{type(make()).__name__}(to=86…01, ")
    assert f"text=<{len(TEXT)} characters>" in shown
    assert "1234" not in shown
    assert "verification" not in shown


def test_a_message_shows_no_address() -> None:
    """
    A message does not show its callback or its media URL, because a URL may contain a signature or a user's token.
    """
    shown = repr([sms(callback="https://example.com/dlr?sign=topsecret"), mms(media_url="https://example.com/~anna")])

    assert "example" not in shown
    assert "topsecret" not in shown
    assert "anna" not in shown


@pytest.mark.parametrize(
    "spelled",
    [
        "8612345678888",
        "+8612345678888",
        "order-8612345678888",
        "86 123 4567 8888",
        "86-123-4567-8888",
        "(86)12345678888",
        pytest.param("86\u2011123\u20114567\u20118888", id="non-breaking hyphens"),
        pytest.param("86\u00a0123\u00a04567\u00a08888", id="non-breaking spaces"),
        pytest.param("86  123  4567  8888", id="double spaces"),
        pytest.param("86 - 123 - 4567 - 8888", id="dashes between spaces"),
    ],
)
def test_a_number_in_a_key_or_a_sender_is_not_shown_whole(spelled: str) -> None:
    """A key or a sender is often a phone number, so a number in it is not shown whole, however it is spelled."""
    shown = repr([sms(key=spelled), sms(sender=spelled), mms(key=spelled), mms(sender=spelled), voice(key=spelled)])

    assert "8612345678888" not in re.sub(r"\\xa0|[^0-9]", "", shown)


def test_a_key_without_a_number_is_shown() -> None:
    """A key without a number is shown, so that the message can be found again."""
    assert "key='row 7 of blast 12'" in repr(sms(key="row 7 of blast 12"))


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            SmsMessage(TO, template_id="t-1"),
            "SmsMessage(to=86…01, text=None, template_id='t-1', sender=None, callback=None, key=None, expires_in=None, "
            "promotional=True)",
        ),
        (
            MmsMessage(TO, IMAGE),
            "MmsMessage(to=86…01, media_url=<29 characters>, text=None, sender=None, key=None, expires_in=None, "
            "promotional=True)",
        ),
        (
            VoiceMessage(TO, TEXT, expires_in=30),
            "VoiceMessage(to=86…01, text=<30 characters>, lang='en-US', key=None, expires_in=30, promotional=True)",
        ),
    ],
)
def test_what_was_left_out_shows_as_none(message: Message, shown: str) -> None:
    """The repr shows an omitted field as None, and does not show when the message was made."""
    assert repr(message) == shown


@given(text=st.text("abcXYZ0123456789 短信", min_size=8).filter(str.strip))
def test_no_repr_holds_any_text(text: str) -> None:
    """The repr of a message contains no run of eight characters of its text, whatever the text is."""
    shown = "".join(repr(make(text=text)) for make in (sms, mms, voice))

    assert not any(text[start : start + 8] in shown for start in range(len(text) - 7))


# --- being a value --------------------------------------------------------------------------------


@of_every_kind
def test_a_message_is_frozen(make: Make) -> None:
    """A message cannot be changed after its values were checked."""
    message = make()

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message.text = "something else"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message.note = "slots leave no room for more"


@of_every_kind
def test_equal_messages_are_equal_whenever_they_were_made(make: Make, virtual_clock: Any) -> None:
    """Messages with equal fields are equal, even if they were made at different times."""
    first = make(key="row 7")
    virtual_clock.now += 60

    second = make(key="row 7")

    assert first == second
    assert hash(first) == hash(second)
    assert first.made_at != second.made_at
    assert first != make(key="row 8")


@of_every_kind
@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, lambda message: pickle.loads(pickle.dumps(message))])
def test_a_copy_is_whole(make: Make, twin_of: Callable[[Message], Message]) -> None:
    """A message that is copied or pickled keeps all its fields and the moment from which `expires_in` counts."""
    message = make(text=TEXT, key="row 7", expires_in=30)

    twin = twin_of(message)

    assert twin == message
    assert attrs.astuple(twin) == attrs.astuple(message)


@of_every_kind
def test_a_message_expires_after_it_was_made(make: Make, virtual_clock: Any) -> None:
    """`expires_in` counts from the making of the message, because a bulk send may reach the message an hour later."""
    virtual_clock.now = 1000.0
    message = make(expires_in=30)
    virtual_clock.now = 5000.0

    assert deadline(message) == 1030.0


@of_every_kind
def test_a_message_without_expiry_has_no_deadline(make: Make) -> None:
    """A message without `expires_in` has no deadline."""
    assert deadline(make()) is None
