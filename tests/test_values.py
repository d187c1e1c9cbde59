"""Each value has a dict of plain JSON types, is a type of pydantic's, and can be pickled and copied."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, get_args

import pydantic
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import pico_async
from pico_async import (
    Accepted,
    Acknowledged,
    AuthenticationError,
    Balance,
    BulkReport,
    Campaign,
    ConfigurationError,
    CreatedCampaign,
    DeliveryReceipt,
    DeliveryStatus,
    InDoubtError,
    InvalidMessageError,
    JournalRecord,
    JournalState,
    Listing,
    Message,
    MmsMessage,
    NotSentError,
    NumberRule,
    Outcome,
    PhoneNumber,
    PicoError,
    Preflight,
    Reason,
    RejectedError,
    SendResult,
    SmsMessage,
    Template,
    UserToken,
    VoiceMessage,
    events,
    segments,
)
from pico_async._values import Value
from pico_async.bulk.preflight_report import Country, Fault, Forced, NumberKind, Repeat
from pico_async.integrations.postgres.ledger import LedgerRecord
from pico_async.integrations.procrastinate import EnqueueReport
from pico_async.receipts.callbacks import SignedCallback
from tests.support.reference.requests import TOKEN

TO = "8612345678901"
AT = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
EXTRA: Mapping[str, Any] = {"price": Decimal("0.040"), "parts": [1, {"at": None}]}
SMS = SmsMessage(TO, "Your code is 1234", key="row-1", expires_in=60)
MMS = MmsMessage(TO, "https://example.com/image.jpg", promotional=False)
VOICE = VoiceMessage(TO, "Your code is 1234")
ERROR = RejectedError("Pico refused it.", status_code=400, errors=("bad",), retry_after=1.5, attempts=2)
RESULTS = tuple(
    SendResult(index=index, message=message, outcome=error.outcome, error=error, attempts=1)
    for index, (message, error) in enumerate(
        [(SMS, ERROR), (MMS, NotSentError("No connection.")), (VOICE, InDoubtError("No reply.")), (None, ERROR)]
    )
)
LISTING = Listing((Campaign("campaign-123", "My Campaign", None, AT), Campaign("campaign-124")), "r-1", extra=EXTRA)
VALUES: list[Any] = [
    Accepted("r-1", extra=EXTRA),
    Acknowledged("r-1", extra=EXTRA),
    CreatedCampaign("campaign-123", extra=EXTRA),
    Campaign("campaign-123", "My Campaign", None, AT, extra=EXTRA),
    Template("template-123", "Verification Code", "Your code is {{code}}", "campaign-123", created_at=AT),
    LISTING,
    Balance(Decimal("1234.50"), "user333", "r-1", extra=EXTRA),
    SMS,
    MMS,
    VOICE,
    SendResult(index=7, message=SMS, outcome=Outcome.ACCEPTED, accepted=Accepted("r-1"), attempts=1),
    *RESULTS,
    BulkReport(total=4, accepted=0, rejected=2, not_sent=1, in_doubt=1, elapsed=2.5, pace=29.0, failures=RESULTS),
    Fault(3, "`to` is empty."),
    Repeat(4, 1),
    Country("886", 3, 1),
    NumberKind("fixed line", 2),
    Forced("“", 5),
    Preflight(
        total=9,
        countries=(Country("886", 3, 1),),
        forced=(Forced("“", 5),),
        gsm7_parts=7,
        price=Decimal("0.04"),
        balance=Decimal(10),
        texts=7,
        per_s=29.0,
        faults=(Fault(3, "`to` is empty."),),
    ),
    JournalRecord("5f", JournalState.IN_DOUBT, None, 7, 1_700_000_000),
    LedgerRecord(id="5f", name="row-1", state=JournalState.SENDING, request_id=None, changed_at=1_700_000_000),
    EnqueueReport(total=4, failed=4, failures=RESULTS),
    SignedCallback(id="a", key=None, expires_at=1_700_000_000),
    segments("Ça va “bien”?"),
    segments("x" * 161),
    *segments("“").foreign,
    DeliveryReceipt(key="row-1", status=DeliveryStatus.DELIVERED, at=AT, extra={"msisdn": TO}),
    events.CallStarted(
        call=1, blast=None, operation="sms.send", rate_group="sms", method="POST", host="example.com", port=443
    ),
    events.SlotGranted(call=1, operation="sms.send", rate_group="sms", waited_s=0.5, pace=None),
    events.AttemptStarted(call=1, operation="sms.send", attempt=1),
    events.AttemptEnded(
        call=1,
        operation="sms.send",
        attempt=1,
        outcome=Outcome.ACCEPTED,
        status_code=200,
        error=None,
        duration_s=0.1,
    ),
    events.RateRefused(call=1, operation="sms.send", rate_group="sms", retry_after_s=None),
    events.Retrying(call=1, operation="sms.send", attempt=1, reason="RateLimitError", delay_s=1.0),
    events.TokenRefreshed(call=1),
    events.CallEnded(
        call=1,
        blast=None,
        operation="sms.send",
        outcome=Outcome.ACCEPTED,
        status_code=200,
        request_id="r-1",
        error=None,
        attempts=1,
        waited_s=0.5,
        duration_s=0.7,
    ),
    events.BlastStarted(blast=1, concurrency=64),
    events.BlastEnded(
        blast=1,
        total=1,
        accepted=1,
        rejected=0,
        not_sent=0,
        in_doubt=0,
        skipped=0,
        suppressed=0,
        duration_s=1.0,
        rate=1.0,
        ended_early=False,
    ),
]
of_each = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


def annotated(value: object) -> Any:
    return Listing[Campaign] if isinstance(value, Listing) else type(value)


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_each_value_of_the_package_is_among_these() -> None:
    """Each class of values has an example in this file, so the tests of this file hold for all of them."""
    known = {kind for kind in subclasses(Value) if kind.__module__.startswith("pico_async.") and kind is not Value}

    assert {kind.__name__ for kind in known if not kind.__name__.startswith("_")} == {
        "UserToken",
        *(type(value).__name__ for value in VALUES),
    }


def test_what_the_operations_return_and_what_events_there_are_are_values() -> None:
    """All exported attrs classes that come out of a session are values."""
    exported = {
        thing
        for name in pico_async.__all__
        if isinstance(thing := getattr(pico_async, name), type) and hasattr(thing, "__attrs_attrs__")
    }

    assert {kind.__name__ for kind in exported if not issubclass(kind, Value)} <= {"Rates", "Identity", "NumberRule"}
    assert all(issubclass(event, Value) for event in get_args(pico_async.Event))


@of_each
def test_the_dict_is_plain_json(value: Any) -> None:
    """`to_dict()` is equal to what JSON makes of it, so it has no tuple, enum, Decimal or time in it."""
    shown = value.to_dict()

    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert "<" not in json.dumps(shown)  # an enum's repr, or a masked field


def test_the_dict_has_fields_and_properties() -> None:
    """`to_dict()` writes times as ISO 8601, decimals as strings and enums by their values, and has the properties."""
    assert Balance(Decimal("1234.50"), extra=EXTRA).to_dict() == {
        "balance": "1234.50",
        "username": None,
        "request_id": None,
        "extra": {"price": "0.040", "parts": [1, {"at": None}]},
    }
    assert LISTING.to_dict()["items"][0]["created_at"] == "2024-01-15T10:30:00+00:00"
    assert CreatedCampaign("campaign-123").to_dict()["campaign_id"] == "campaign-123"
    assert RESULTS[0].to_dict() == {
        "index": 0,
        "message": SMS.to_dict(),
        "outcome": "rejected",
        "accepted": None,
        "error": {
            "type": "RejectedError",
            "message": "Pico refused it.",
            "outcome": "rejected",
            "status_code": 400,
            "request_id": None,
            "errors": ["bad"],
            "retry_after": 1.5,
            "attempts": 2,
            "argument": None,
            "reason": None,
        },
        "attempts": 1,
        "key": "row-1",
        "request_id": None,
        "ok": False,
    }


def test_a_receipts_bytes_are_base64() -> None:
    """A receipt's body that is not UTF-8 is Base64 in the dict, which loses nothing of it."""
    receipt = DeliveryReceipt(extra={"body": b"\xff\xfe"})

    assert receipt.to_dict()["extra"] == {"body": "//4="}


def test_a_message_says_nothing_of_when_it_was_made() -> None:
    """The dict has no `made_at`, which is a time on this machine's clock, and is what the constructor takes."""
    assert SmsMessage(**SMS.to_dict()) == SMS
    assert "made_at" not in SMS.to_dict()


def test_the_token_is_in_no_dict() -> None:
    """Neither `to_dict()` nor pydantic's dump nor `vars()` of a `UserToken` contains the token."""
    value = UserToken(TOKEN, "r-1")

    assert value.to_dict() == {"request_id": "r-1", "extra": {}} == vars(value)
    assert TypeAdapter(UserToken).dump_json(value) == b'{"request_id":"r-1","extra":{}}'
    assert "token" not in TypeAdapter(UserToken).json_schema(mode="serialization")["properties"]


@of_each
def test_a_value_can_be_pickled_and_copied(value: Any) -> None:
    """A pickle and a copy have all fields of the value."""
    for twin in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert type(twin) is type(value)
        assert twin.to_dict() == value.to_dict()
        assert repr(twin) == repr(value)


# --- pydantic -------------------------------------------------------------------------------------


@of_each
def test_a_value_survives_pydantic(value: Any) -> None:
    """pydantic writes each value as `to_dict()` does, and makes an equal value of what it wrote."""
    adapter = TypeAdapter(annotated(value))

    written = adapter.dump_json(value)
    read = adapter.validate_json(written)

    assert json.loads(written) == value.to_dict() == adapter.dump_python(value)
    assert type(read) is type(value)
    assert read.to_dict() == value.to_dict()
    assert adapter.validate_python(value) is value


@of_each
def test_the_schema_describes_the_dict(value: Any) -> None:
    """The JSON schema of a value that comes out requires each entry of its dict, and has no other."""
    schema = TypeAdapter(annotated(value)).json_schema(mode="serialization")

    assert list(schema["properties"]) == schema["required"]
    assert set(schema["properties"]) == set(value.to_dict())
    assert schema["title"] == type(value).__name__
    assert schema["description"].endswith((".", "`."))


def test_values_are_fields_of_a_model() -> None:
    """A model with values as fields can be written and read, also where a value is one of several kinds."""

    class Order(BaseModel):
        accepted: Accepted
        messages: list[Message]
        error: PicoError | None = None

    order = Order(accepted=Accepted("r-1"), messages=[SMS, MMS, VOICE], error=AuthenticationError("No.", attempts=1))

    twin = Order.model_validate_json(order.model_dump_json())

    assert twin.accepted == order.accepted
    assert twin.messages == order.messages
    assert isinstance(twin.error, AuthenticationError)
    assert (str(twin.error), twin.error.attempts, twin.error.outcome) == ("No.", 1, Outcome.REJECTED)


def test_an_invalid_messages_reason_survives_pydantic() -> None:
    """The argument and the reason of an `InvalidMessageError` are read again, too."""
    error = InvalidMessageError("`to` is empty.", argument="to", reason=Reason.EMPTY)

    twin = TypeAdapter(PicoError).validate_python(error.to_dict())

    assert isinstance(twin, InvalidMessageError)
    assert (twin.argument, twin.reason) == ("to", Reason.EMPTY)


def test_an_error_of_another_name_is_read_as_the_class_that_was_annotated() -> None:
    """An unknown class name, or one of another kind, makes no other class than an error of the annotated kind."""
    written = ERROR.to_dict() | {"type": "Any"}

    assert type(TypeAdapter(PicoError).validate_python(written)) is PicoError
    assert type(TypeAdapter(InDoubtError).validate_python(ERROR.to_dict())) is InDoubtError
    assert TypeAdapter(PicoError).validate_python(written).outcome is Outcome.REJECTED


@pytest.mark.parametrize(
    ("given", "at", "kind", "fault"),
    [
        ({"to": "123", "text": "x"}, ("to",), "too_short", "`to` has 3 digits"),
        ({"to": TO, "text": ""}, ("text",), "empty", "`text` is empty."),
        (
            {"to": TO, "text": "x", "sender_id": "PICO"},
            ("sender_id",),
            "extra_forbidden",
            "Extra inputs are not permitted",
        ),
        ({"text": "x"}, ("to",), "missing", "Field required"),
        ({"to": TO}, (), "missing", "Pass exactly one of `text` and `template_id`."),
        ("a text", (), "dict_type", "Input should be a valid dictionary"),
    ],
)
def test_a_fault_is_reported_at_its_field(given: object, at: tuple[str, ...], kind: str, fault: str) -> None:
    """pydantic reports what is wrong with a message at its field, in the words of `InvalidMessageError`."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SmsMessage).validate_python(given)

    (error,) = caught.value.errors()
    assert error["loc"] == at
    assert error["type"] == kind
    assert error["msg"].startswith(fault)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"to": TO, "text": "x"}, SmsMessage),
        ({"to": TO, "template_id": "t-1"}, SmsMessage),
        ({"to": TO, "media_url": "https://example.com/image.jpg", "text": "x"}, MmsMessage),
        ({"to": TO, "text": "x", "lang": "en-US"}, VoiceMessage),
    ],
)
def test_the_fields_decide_which_kind_of_message_it_is(given: dict[str, str], kind: type) -> None:
    """Of several kinds of messages, pydantic makes the one that has these fields; a number and a text are an SMS."""
    assert type(TypeAdapter(Message).validate_python(given)) is kind


def test_a_phone_number_is_a_normalised_str() -> None:
    """`PhoneNumber` is a str of digits, and a region reads what people there write; both say what they are."""
    national = TypeAdapter(Annotated[str, NumberRule(region="TW")])

    assert TypeAdapter(PhoneNumber).validate_python("+886 912-345-678") == "886912345678"
    assert national.validate_python("0912 345 678") == "886912345678"
    assert national.json_schema() == {"type": "string", "format": "phone"}
    with pytest.raises(ValidationError, match="starts with 0"):
        TypeAdapter(PhoneNumber).validate_python("0912 345 678")


def test_a_phone_number_of_no_region_is_an_error_of_the_app() -> None:
    """An unknown region is refused when the app is defined, and not with its first number."""
    with pytest.raises(ConfigurationError, match="`region`"):
        NumberRule(region="Taiwan")


def test_only_pydantic_imports_pydantic() -> None:
    """Nothing of the package imports pydantic: neither the import of everything, nor a value's dict."""
    code = (
        "import sys\nfrom pico_async import *\n"
        "Accepted('r-1').to_dict(), SmsMessage('8612345678901', 'x').to_dict(), NotSentError('x').to_dict()\n"
        "assert not any(name.startswith('pydantic') for name in sys.modules)\n"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert pydantic.VERSION
    assert ran.returncode == 0, ran.stderr
