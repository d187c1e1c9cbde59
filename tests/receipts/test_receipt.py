"""Delivery receipts are parsed leniently, because their format is not documented."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, strategies as st

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


CHARSETS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gbk", "gb18030", "big5"]


@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
@pytest.mark.parametrize("charset", CHARSETS)
def test_json_is_read_in_any_charset(charset: str, named: bool) -> None:
    """A receipt in JSON is read in each charset of the region; the second byte of a character may be a backslash."""
    body = '{"status": "undelivered", "reason": "功能"}'.encode(charset)

    receipt = DeliveryReceipt.parse(body=body, content_type=f"application/json; charset={charset}" if named else "")

    assert (receipt.status, receipt.error) == (DeliveryStatus.UNDELIVERED, "功能")
    assert receipt.extra == {}


@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "as it is"])
@pytest.mark.parametrize("charset", ["utf-8", "gbk", "gb18030", "big5"])
def test_a_form_is_read_in_any_charset(charset: str, escaped: bool, named: bool) -> None:
    """A form and a query are read in each charset of the region, whether its bytes are percent-encoded or not."""
    reason = "功能".encode(charset)
    form = b"status=undelivered&reason=" + (quote(reason).encode() if escaped else reason)
    content_type = f"application/x-www-form-urlencoded; charset={charset}" if named else ""

    of_body = DeliveryReceipt.parse(body=form, content_type=content_type)
    of_query = DeliveryReceipt.parse(query=form.decode("latin-1"))

    assert (of_body.status, of_body.error) == (DeliveryStatus.UNDELIVERED, "功能")
    assert of_query == of_body


def test_a_form_in_utf_16_is_read() -> None:
    """A form in UTF-16 is read, with a byte order mark and without."""
    for charset in ("utf-16", "utf-16-le"):
        receipt = DeliveryReceipt.parse(body="status=undelivered&reason=功能".encode(charset))

        assert (receipt.status, receipt.error) == (DeliveryStatus.UNDELIVERED, "功能")


def multipart(fields: dict[str, bytes], *heads: str, boundary: str = "----Boundary7MA4YWxk") -> bytes:
    """Make a body in `multipart/form-data`, with further heads for each part."""
    parts = [
        "\r\n".join([f"--{boundary}", f'Content-Disposition: form-data; name="{name}"', *heads, "", ""]).encode()
        + value
        for name, value in fields.items()
    ]
    return b"\r\n".join([*parts, f"--{boundary}--".encode(), b""])


@pytest.mark.parametrize("charset", ["utf-8", "gbk", "big5"])
@pytest.mark.parametrize("heads", [[], ["Content-Type: text/plain; charset={}"], ["Content-Transfer-Encoding: 8bit"]])
@pytest.mark.parametrize("boundary", ["x", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "a b'c", "-" * 69 + "x"])
def test_a_form_in_parts_is_read(boundary: str, heads: list[str], charset: str) -> None:
    """A receipt in `multipart/form-data` is read, with any boundary and in each charset of the region."""
    fields = {"status": b"undelivered", "reason": "功能".encode(charset), "to": b"8612345678901", "note": b""}
    body = multipart(fields, *(head.format(charset) for head in heads), boundary=boundary)

    receipt = DeliveryReceipt.parse(body=body)

    assert (receipt.status, receipt.error) == (DeliveryStatus.UNDELIVERED, "功能")
    assert receipt.extra == {"to": "8612345678901", "note": ""}


def test_a_form_in_parts_may_hold_json_or_be_packed() -> None:
    """A part may hold the whole receipt as JSON, be a file, be in base64, or have a name with brackets."""
    receipt = b'{"status": "delivered", "id": "r-1"}'
    bodies = [
        multipart({"receipt": receipt}, "Content-Type: application/json"),
        multipart({'dlr"; filename="dlr.json': receipt}),
        multipart({"receipt": b64encode(receipt)}, "Content-Transfer-Encoding: base64"),
        multipart({"data[status]": b"delivered", "data[id]": b"r-1"}),
    ]

    read = [DeliveryReceipt.parse(body=body) for body in bodies]

    assert {(receipt.status, receipt.request_id) for receipt in read} == {(DeliveryStatus.DELIVERED, "r-1")}


ONE = {"status": "DELIVRD", "requestId": "r-1", "time": 1795600800}


@pytest.mark.parametrize(
    "payload",
    [
        {"data": ONE},
        {"results": [ONE]},
        {"data": [ONE]},
        {"data": {"results": [ONE]}},
        {"code": 200, "msg": "success", "data": ONE},
        {"status": "ok", "data": ONE},
        {"status": "accepted", "data": ONE},
        {"status": 0, "error": 0, "report": {**ONE, "error": "000"}},
        {"event": "dlr", "payload": json.dumps(ONE)},
        json.dumps(ONE),
        [ONE],
        [[ONE]],
        [{"message": ONE}],
        {"anything": ONE},
        {"a": {"b": {"c": [ONE]}}},
        {"Delivery-Report": ONE, "data": None},
        {"status": "DELIVRD", "data": {"requestId": "r-1", "time": 1795600800}},
        {"status": "DELIVRD", "requestId": "r-1", "time": 1795600800, "price": {"status": "pending"}},
    ],
    ids=lambda payload: json.dumps(payload)[:40],
)
@pytest.mark.parametrize("form", ["JSON", "a field of a form", "a field of the query"])
def test_a_receipt_is_found_in_what_is_around_it(payload: object, form: str) -> None:
    """The fields of a receipt are found within other fields and in lists; a status around them is not the message's."""
    text = json.dumps(payload)
    field = urlencode({"payload": text})

    receipt = DeliveryReceipt.parse(
        body=text.encode() if form == "JSON" else field.encode() if form == "a field of a form" else b"",
        query=field if form == "a field of the query" else "",
    )

    assert (receipt.status, receipt.at) == (DeliveryStatus.DELIVERED, MOMENT)


@pytest.mark.parametrize(
    "body",
    [
        b"data[status]=DELIVRD&data[msg_id]=r-1&x=1",
        b"data%5Bstatus%5D=DELIVRD&data%5Bmsg_id%5D=r-1&x=1",
        b"results[0][status]=DELIVRD&results[0][id]=r-1&x=1",
        b"results[][status]=DELIVRD&results[][id]=r-1&x=1",
        b"data.status=DELIVRD&data.id=r-1&x=1",
        b"status[]=DELIVRD&id[]=r-1&x=1&x=1",
        b'{"data.status": "DELIVRD", "data": {"id": "r-1"}, "x": "1"}',
        b'{"results": {"0": {"status": "DELIVRD", "id": "r-1"}}, "x": "1"}',
        b'{"status": "DELIVRD", "id": "r-1", "x": "1"}\n',
        b"<dlr><status>DELIVRD</status><id>r-1</id><x>1</x></dlr>",
        b'<?xml version="1.0" encoding="GBK"?><dlr status="DELIVRD" id="r-1" x="1"/>',
        b'<s:a xmlns:s="u"><s:b><s:status>\n DELIVRD </s:status><s:id>r-1</s:id><s:x>1</s:x></s:b></s:a>',
        b"id:r-1 stat:DELIVRD x:1",
        b'{"message": "id:r-1 stat:DELIVRD", "x": "1"}',
    ],
    ids=lambda body: body[:40].decode(),
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress], ids=["plain", "gzip", "deflate"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no BOM", "BOM"])
def test_a_receipt_is_read_in_each_form(body: bytes, pack: Callable[[bytes], bytes], mark: str) -> None:
    """A receipt is read from names with brackets or dots, JSON, XML and SMPP's text, with a BOM and packed, or not."""
    receipt = DeliveryReceipt.parse(body=pack(mark.encode() + body))

    assert (receipt.status, receipt.request_id) == (DeliveryStatus.DELIVERED, "r-1")
    assert receipt.extra == {"x": "1"}


def test_the_text_of_smpp_is_read() -> None:
    """In the text form of SMPP, what follows "text:" is the message's, whatever it says."""
    text = "id:r-1 sub:001 dlvrd:000 submit date:2611251000 done date:2611251001 stat:UNDELIV err:045 text:stat:DELIVRD"

    receipt = DeliveryReceipt.parse(body=text.encode())

    assert (receipt.status, receipt.error, receipt.at) == (DeliveryStatus.UNDELIVERED, "045", None)
    assert (receipt.extra["done date"], receipt.extra["text"]) == ("2611251001", "stat:DELIVRD")


@pytest.mark.parametrize(
    "body",
    [
        b"status=DELIVRD&status=UNDELIV",
        b"id=1&status=DELIVRD&id=2&status=UNDELIV",
        b"data[status]=DELIVRD&data.status=UNDELIV",
        multipart({"status": b"DELIVRD"})[:-4] + b"\r\n" + multipart({"status": b"UNDELIV"}),
        b'{"status": "DELIVRD", "status": "UNDELIV"}',
        b'{"status": "DELIVRD", "id": 1}\n{"status": "UNDELIV", "id": 2}',
        b"results[0][status]=DELIVRD&results[0][id]=1&results[1][status]=UNDELIV&results[1][id]=2",
        b"<a><dlr status='DELIVRD' id='1'/><dlr status='UNDELIV' id='2'/></a>",
        b"id:1 stat:DELIVRD stat:UNDELIV",
        b"<!DOCTYPE a [<!ENTITY s 'DELIVRD'>]><a><status>&s;</status></a>",
        b"<status code='1'>DELIVRD</status>",
    ],
    ids=lambda body: body[:40].decode(),
)
def test_two_statuses_are_none(body: bytes) -> None:
    """Where a body says two things, or one that is not certain, no status is guessed, and all of it is kept."""
    receipt = DeliveryReceipt.parse(body=body)

    assert (receipt.status, receipt.status_text) == (DeliveryStatus.UNKNOWN, None)
    assert "DELIVRD" in str(receipt.extra)


def test_several_objects_of_one_message_are_read_as_a_list_is() -> None:
    """Of several JSON objects of one message, one after the other, the furthest counts."""
    for between in (b"", b"\n", b"\r\n", b" \x1e"):
        body = between.join([b'{"status": "SENT", "id": 1}', b'{"status": "DELIVRD", "id": 1}', b""])
        assert DeliveryReceipt.parse(body=body).status is DeliveryStatus.DELIVERED


@pytest.mark.parametrize("text", ['{"status": "DELIVRD"}', "id:1 stat:DELIVRD", "<status>DELIVRD</status>"])
def test_the_text_of_a_message_is_no_receipt(text: str) -> None:
    """A message whose text looks like a receipt, and comes back in one, does not speak for it."""
    body = json.dumps({"status": "UNDELIV", "message": text}).encode()

    assert DeliveryReceipt.parse(body=body).status is DeliveryStatus.UNDELIVERED


def test_the_fields_around_a_receipt_are_kept() -> None:
    """What stands around a receipt is in `extra`, and so is the rest of the receipt."""
    receipt = DeliveryReceipt.parse(body=json.dumps({"code": 200, "data": [{**ONE, "to": "8612"}]}).encode())

    assert receipt.request_id == "r-1"
    assert receipt.extra == {"code": 200, "to": "8612"}


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"results": items}], ids=["a list", "results"])
def test_of_several_receipts_of_one_message_the_furthest_counts(wrap: Callable[[object], object]) -> None:
    """Of several receipts of one message, the one that is furthest along counts, and all are kept."""
    items = [{"id": "r-1", "status": word} for word in ("SENT", "DELIVRD", "ACCEPTD")]

    receipt = DeliveryReceipt.parse(body=json.dumps(wrap(items)).encode())

    assert (receipt.status, receipt.request_id) == (DeliveryStatus.DELIVERED, "r-1")
    assert receipt.extra == {"body": items}


@pytest.mark.parametrize("name", ["id", "messageId", "to", "msisdn"])
@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"results": items}], ids=["a list", "results"])
def test_receipts_of_several_messages_count_for_none(wrap: Callable[[object], object], name: str) -> None:
    """
    A list of receipts of several messages says nothing of the one message that the URL is of, and is kept.

    Another message's status must not be taken for this one's.
    """
    items = [{name: "1", "status": "DELIVRD"}, {name: "2", "status": "UNDELIV"}]

    receipt = DeliveryReceipt.parse(key="order-17", body=json.dumps(wrap(items)).encode())

    assert (receipt.status, receipt.request_id) == (DeliveryStatus.UNKNOWN, None)
    assert items in receipt.extra.values()


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


PACKED = gzip.compress(b"a=1&status=DELIVRD", mtime=0)
BOMB = gzip.compress(b'{"status": "DELIVRD"}' + b" " * 10_000_000, mtime=0)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"[1, 2]", [1, 2]),
        (b"null", None),
        (b'"DELIVRD"', "DELIVRD"),
        (b"<html><body id='x'>sent</body></html>", "<html><body id='x'>sent</body></html>"),
        (b"<status>sent", "<status>sent"),
        (b'{"status": "DELIVRD", "text": "a=', '{"status": "DELIVRD", "text": "a='),
        (b'{"status": "DELIVRD"}\n{"stat', '{"status": "DELIVRD"}\n{"stat'),
        (b"id:77 text: stat:DELIVRD", "id:77 text: stat:DELIVRD"),
        (PACKED[:-1], PACKED[:-1]),
        (PACKED[:-8] + b"\0" + PACKED[-7:], PACKED[:-8] + b"\0" + PACKED[-7:]),
        (PACKED + PACKED, PACKED + PACKED),
        (BOMB, BOMB),
        (b"\xff\xfe<xml/>", b"\xff\xfe<xml/>"),
        (b"\xb9\xa6", b"\xb9\xa6"),
        (b"--x\r\n\xb9", b"--x\r\n\xb9"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_of_another_kind_is_kept(body: bytes, kept: object) -> None:
    """
    A body that is no receipt in a form that is known, or that is cut off, is kept; no status is guessed from it.

    It is kept as bytes if it is no text in UTF-8.
    """
    receipt = DeliveryReceipt.parse(body=body)

    assert receipt.status is DeliveryStatus.UNKNOWN
    assert receipt.extra == {"body": kept}


@pytest.mark.parametrize(
    "body",
    [
        multipart({f"a{number}": b"" for number in range(900)}),
        b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" * 1000,
        b"--x\r\nContent-Disposition: form-data; name*" + b"9" * 5000 + b'="status"\r\n\r\nsent\r\n--x--',
        b'{"data": ' * 5000 + b"1" + b"}" * 5000,
        b"[" * 60_000,
        b'{"status": ' + b"9" * 5000 + b"}",
        b"&" * 60_000,
        b"a=1&" * 15_000,
        b'{"id": [1], "status": {}}',
        b"<a>" * 20_000,
        b"<a>" * 9_000 + b"</a>" * 9_000,
        b"<!DOCTYPE a [<!ENTITY b '" + b"x" * 1000 + b"'>]><a>" + b"&b;" * 20_000 + b"</a>",
        b"a[b]" * 15_000 + b"=1",
        b"a" + b"[b]" * 20_000 + b"=1",
        b"a" * 60_000 + b":",
        b"id:" + b"a:b " * 15_000,
        b"{}" * 30_000,
        b'{"a":1,"a":2,' + b'"a":3,' * 10_000 + b'"a":4}',
    ],
    ids=[
        "many parts",
        "parts within parts",
        "a long continuation",
        "wrapped deep",
        "nested",
        "a long number",
        "empty fields",
        "many fields",
        "other types",
        "XML without an end",
        "nested XML",
        "entities",
        "brackets that are none",
        "many brackets",
        "a long name",
        "many names of SMPP",
        "many objects",
        "one name many times",
    ],
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


@pytest.mark.parametrize(
    "form", ['{"status":"undelivered","text":"a\nb\tc"}', '{"data":"{\\"status\\":\\"undelivered\\"}","text":"a\nb"}']
)
def test_a_line_break_within_a_text_hides_no_status(form: str) -> None:
    """JSON with a bare line break in a text, which is not allowed in JSON, is read all the same."""
    receipt = DeliveryReceipt.parse(body=form.encode(), content_type="application/json")

    assert receipt.status is DeliveryStatus.UNDELIVERED
