"""Delivery receipts are parsed leniently, because their format is not documented."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_async import DeliveryReceipt, DeliveryStatus

MOMENT = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("status=DELIVRD&request_id=r-1&error=000&timestamp=1795600800&to=8612345678901", b""),
        ("pico=a.b.c.d&x=1", b"status=DELIVRD&requestId=r-1&err=000&done_date=1795600800&to=8612345678901&x=2"),
        ("", b'{"Status": "delivrd", "messageId": "r-1", "errorCode": "000", "time": 1795600800000, "to": "8612"}'),
        ("", b'\xef\xbb\xbf [{"state": "DELIVERED", "id": "r-1", "reason": "000", "at": "2026-11-25T10:00:00Z"}]'),
        (
            "",
            b'{"message_status": "delivered", "msg_id": "r-1", "error-code": "000", "Date": "2026-11-25 18:00+08:00"}',
        ),
    ],
    ids=["query", "form", "JSON", "a list of one", "other names"],
)
def test_a_receipt_is_read_from_query_form_or_json(query: str, body: bytes) -> None:
    """
    A receipt is parsed from a query, a form or JSON by the common field names. Other fields are in `extra`, except the
    package's own parameter.
    """
    receipt = DeliveryReceipt.parse(key="order-17", query=query, body=body)

    assert receipt.key == "order-17"
    assert receipt.status is DeliveryStatus.DELIVERED
    assert (receipt.request_id, receipt.error, receipt.at) == ("r-1", "000", MOMENT)
    assert set(receipt.extra) <= {"to", "x"}
    assert receipt.extra.get("x") in (None, "2")


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("ACCEPTD", DeliveryStatus.ACCEPTED),
        ("en-route", DeliveryStatus.SENT),
        ("Delivered", DeliveryStatus.DELIVERED),
        ("UNDELIV", DeliveryStatus.UNDELIVERED),
        ("failed", DeliveryStatus.UNDELIVERED),
        ("EXPIRED", DeliveryStatus.EXPIRED),
        ("REJECTD", DeliveryStatus.REJECTED),
        ("已送達", DeliveryStatus.UNKNOWN),
        ("1", DeliveryStatus.UNKNOWN),
        ("", DeliveryStatus.UNKNOWN),
    ],
)
def test_common_words_are_understood_and_no_other_is_guessed(word: str, status: DeliveryStatus) -> None:
    """Common status words are recognised and no other word is guessed; an unknown word is kept as text."""
    receipt = DeliveryReceipt.parse(body=json.dumps({"status": word}).encode())

    assert receipt.status is status
    assert receipt.status_text == (word or None)


@pytest.mark.parametrize(
    "at",
    [
        *("2026-11-25 10:00:00", "20261125", "yesterday", "1e9", "99999999999999999", "", "NaN", "123456789"),
        *("2611251000", "261125100000", "20261125100000", "2611251000000"),  # dates as SMPP and others write them
    ],
)
def test_a_moment_that_is_not_certain_stays_in_extra(at: str) -> None:
    """A time without a certain meaning stays in `extra`; no UTC offset is invented."""
    receipt = DeliveryReceipt.parse(body=json.dumps({"status": "SENT", "timestamp": at}).encode())

    assert receipt.at is None
    assert receipt.extra["timestamp"] == at


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("status=SENT&at=1795600000", b'{"status": "DELIVRD", "at": 1795600800}'),
        ("status=SENT&at=1795600000", b'{"Status": "DELIVRD", "At": 1795600800}'),
        ("status=SENT&donedate=1795600000", b"state=DELIVRD&timestamp=1795600800.0"),
        ("", b'{"status": "DELIVRD", "done_date": "2611251800", "time": "2026-11-25T10:00:00Z"}'),
    ],
    ids=["same names", "other spelling", "other names", "an uncertain moment first"],
)
def test_the_body_counts_before_the_query(query: str, body: bytes) -> None:
    """
    A value in the body overrides a value in the query, whatever their names. A certain time overrides an uncertain one.
    """
    receipt = DeliveryReceipt.parse(query=query, body=body)

    assert (receipt.status, receipt.at) == (DeliveryStatus.DELIVERED, MOMENT)


def test_an_offset_is_kept() -> None:
    """The time of a receipt keeps its UTC offset."""
    receipt = DeliveryReceipt.parse(query="time=2026-11-25T18%3A00%3A00%2B08%3A00")

    assert receipt.at == MOMENT
    assert receipt.at is not None
    assert receipt.at.utcoffset() == timezone(timedelta(hours=8)).utcoffset(None)


@pytest.mark.parametrize(
    ("body", "kept"),
    [(b"[1, 2]", [1, 2]), (b"null", None), (b'"DELIVRD"', "DELIVRD"), (b"\xff\xfe<xml/>", "\ufffd\ufffd<xml/>")],
)
def test_a_body_of_another_kind_is_kept(body: bytes, kept: object) -> None:
    """A body that is neither a form nor a JSON object is kept in `extra`; no status is guessed from it."""
    receipt = DeliveryReceipt.parse(body=body)

    assert receipt.status is DeliveryStatus.UNKNOWN
    assert receipt.extra == {"body": kept}


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000, b'{"status": ' + b"9" * 5000 + b"}", b"&" * 60_000, b"a=1&" * 15_000, b'{"id": [1], "status": {}}'],
    ids=["nested", "a long number", "empty fields", "many fields", "other types"],
)
def test_a_hostile_body_is_read_as_nothing(body: bytes) -> None:
    """A hostile body raises nothing, and the status of its receipt is UNKNOWN."""
    assert DeliveryReceipt.parse(key="k", body=body).status is DeliveryStatus.UNKNOWN


@given(st.text(max_size=200), st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)))
def test_nothing_raises(query: str, body: bytes) -> None:
    """Any query and any body are parsed as a receipt of the message that the URL names."""
    assert DeliveryReceipt.parse(key="k", query=query, body=body).key == "k"


def test_no_repr_shows_a_number() -> None:
    """The repr of a receipt shows no whole number, whether the number is in the key, in a field or in `extra`."""
    receipt = DeliveryReceipt.parse(
        key="8612345678901", body=b"status=sent to 8612345678901&error=8612345678901&id=8612345678901&to=8612345678901"
    )

    assert "8612345678901" not in repr(receipt)
