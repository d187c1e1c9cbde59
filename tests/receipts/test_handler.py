"""
The receipt handler accepts each receipt once, moves a message only forward, and refuses receipts that are not signed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import random
import string
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from pico_async import CallbackSigner, ConfigurationError, DeliveryReceipt, DeliveryStatus, SqliteJournal
from pico_async.errors import JournalError, NotInDoubtError
from pico_async.receipts.deduplication import LocalSeenReceipts, ReceiptHistory
from pico_async.receipts.handler import ReceiptHandler, ReceiptVerdict

URL = "https://shop.example/receipts"
SECRET = "a-secret-of-32-characters-or-so-"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Box:
    """A callback that keeps the receipts that it was called with."""

    def __init__(self) -> None:
        self.receipts: list[DeliveryReceipt] = []

    def __call__(self, receipt: DeliveryReceipt) -> None:
        self.receipts.append(receipt)


class Confirmed:
    """A journal that has only the message "known", and that raises an error while `broken` is True."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str | None]] = []
        self.broken = False

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        if self.broken:
            raise JournalError("The disk is full.")
        if name != "known":
            raise NotInDoubtError("none of that name")
        self.names.append((name, request_id))
        return True


async def pieces(content: bytes, size: int = 4096) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def post(handler: ReceiptHandler, url: str, body: bytes = b"", method: str = "POST") -> ReceiptVerdict:
    parts = urlsplit(url)
    return await handler.handle(method, parts.path, parts.query, pieces(body))


def said(status: str, **more: str) -> bytes:
    return json.dumps({"status": status, **more}).encode()


async def test_a_receipt_is_handled_once_and_its_message_is_confirmed() -> None:
    """A receipt calls `on_receipt` once and settles its message, however often and in whichever form it is sent."""
    box, journal, signer = Box(), Confirmed(), CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box, journal=journal)
    url = signer.sign(URL, "known")

    verdicts = [
        await post(handler, url, said("DELIVRD", request_id="r-1")),
        await post(handler, url, said("DELIVRD", request_id="r-1")),
        await post(handler, f"{url}&status=delivered", method="GET"),
    ]

    assert verdicts == [ReceiptVerdict.HANDLED, ReceiptVerdict.DUPLICATE, ReceiptVerdict.DUPLICATE]
    assert [(receipt.key, receipt.status) for receipt in box.receipts] == [("known", DeliveryStatus.DELIVERED)]
    assert journal.names == [("known", "r-1")]


async def test_the_same_multipart_receipt_is_handled_once() -> None:
    """A receipt in `multipart/form-data` that comes again, with another boundary, is a duplicate."""
    box, signer = Box(), CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box)
    url = signer.sign(URL, "order-17")
    body = '--{0}\r\nContent-Disposition: form-data; name="status"\r\n\r\nodd\r\n--{0}--\r\n'

    verdicts = [await post(handler, url, body.format(boundary).encode()) for boundary in ("one", "another")]

    assert verdicts == [ReceiptVerdict.HANDLED, ReceiptVerdict.DUPLICATE]
    assert [receipt.status_text for receipt in box.receipts] == ["odd"]


async def test_a_receipt_compressed_again_is_handled_once() -> None:
    """A receipt that comes again packed by gzip, with another time in its head, is a duplicate."""
    signer, box = CallbackSigner([SECRET]), Box()
    handler = ReceiptHandler(signer, on_receipt=box)
    url = signer.sign(URL, "order-17")

    verdicts = [await post(handler, url, gzip.compress(said("handed on"), mtime=at)) for at in (1, 2)]

    assert verdicts == [ReceiptVerdict.HANDLED, ReceiptVerdict.DUPLICATE]
    assert [receipt.status_text for receipt in box.receipts] == ["handed on"]


async def test_the_charset_that_is_named_reaches_the_receipt() -> None:
    """A receipt is read in the charset that its Content-Type names, also where its bytes could be another one."""
    box, signer = Box(), CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box)
    parts = urlsplit(signer.sign(URL, "order-17"))
    body = '{"status": "failed", "error": "驗證失敗"}'.encode("big5")

    await handler.handle("POST", parts.path, parts.query, pieces(body), "application/json;charset=Big5")

    assert [receipt.error for receipt in box.receipts] == ["驗證失敗"]


async def test_a_message_moves_only_forward() -> None:
    """A message moves only forward, whatever the order of its receipts; a second final status is refused."""
    box, signer = Box(), CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box)
    url = signer.sign(URL, "order-17")

    verdicts = [
        await post(handler, url, said(word))
        for word in ("QUEUED", "already", "SENT", "QUEUED", "ENROUTE", "DELIVRD", "SENT", "what", "DELIVRD", "FAILED")
    ]

    assert verdicts == [
        ReceiptVerdict.HANDLED,
        ReceiptVerdict.HANDLED,
        ReceiptVerdict.HANDLED,
        ReceiptVerdict.DUPLICATE,
        ReceiptVerdict.DUPLICATE,
        ReceiptVerdict.HANDLED,
        ReceiptVerdict.DUPLICATE,
        ReceiptVerdict.LATE,
        ReceiptVerdict.DUPLICATE,
        ReceiptVerdict.CONTRADICTED,
    ]
    assert [receipt.status_text for receipt in box.receipts] == ["QUEUED", "already", "SENT", "DELIVRD"]


async def test_receipts_in_the_wrong_order_keep_the_last_status() -> None:
    """
    A receipt with an earlier status than the known one is late, and is answered with 200 so that it is not sent again.
    """
    box, signer = Box(), CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box)
    url = signer.sign(URL, "order-17")

    verdicts = [await post(handler, url, said(word)) for word in ("DELIVRD", "SENT", "ACCEPTD")]

    assert verdicts == [ReceiptVerdict.HANDLED, ReceiptVerdict.LATE, ReceiptVerdict.LATE]
    assert all(verdict.status_code == 200 for verdict in verdicts)
    assert len(box.receipts) == 1


@pytest.mark.virtual_time
async def test_copies_of_a_receipt_at_once_are_handled_once() -> None:
    """Many copies of a receipt at once call a slow `on_receipt` once. The other copies wait, and no lock remains."""
    received: list[DeliveryReceipt] = []
    signer = CallbackSigner([SECRET])

    async def slow(receipt: DeliveryReceipt) -> None:
        await asyncio.sleep(0.01)
        received.append(receipt)

    handler = ReceiptHandler(signer, on_receipt=slow)
    url = signer.sign(URL, "order-17")

    verdicts = await asyncio.gather(*(post(handler, url, said("DELIVRD")) for _ in range(20)))

    assert Counter(verdicts) == {ReceiptVerdict.HANDLED: 1, ReceiptVerdict.DUPLICATE: 19}
    assert len(received) == 1
    assert not handler._seen_receipts._locks


async def test_what_fails_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    """
    When `on_receipt` or the journal fails, the receipt is answered with 503, and it is handled when it is sent again.
    """
    signer, journal, received = CallbackSigner([SECRET]), Confirmed(), []
    works = False

    def on_receipt(receipt: DeliveryReceipt) -> None:
        if not works:
            raise RuntimeError("the app's own mistake")
        received.append(receipt)

    handler = ReceiptHandler(signer, on_receipt=on_receipt, journal=journal)
    url = signer.sign(URL, "known")
    journal.broken = True
    verdicts = [await post(handler, url, said("DELIVRD"))]
    journal.broken = False
    verdicts.append(await post(handler, url, said("DELIVRD")))
    works = True
    verdicts += [await post(handler, url, said("DELIVRD")) for _ in range(2)]

    assert verdicts == [ReceiptVerdict.FAILED, ReceiptVerdict.FAILED, ReceiptVerdict.HANDLED, ReceiptVerdict.DUPLICATE]
    assert ReceiptVerdict.FAILED.status_code == 503
    assert len(received) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "the app's own mistake" in caplog.text


async def test_a_receipt_whose_request_is_cancelled_comes_again() -> None:
    """A receipt whose request is cancelled, as by a stopping server, is handled when it is sent again."""
    signer, begun, box = CallbackSigner([SECRET]), asyncio.Event(), Box()
    hangs = True

    async def on_receipt(receipt: DeliveryReceipt) -> None:
        begun.set()
        if hangs:
            await asyncio.Event().wait()
        box(receipt)

    handler = ReceiptHandler(signer, on_receipt=on_receipt)
    url = signer.sign(URL, "order-17")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(post(handler, url, said("DELIVRD")))
        await begun.wait()
        task.cancel()
    hangs = False

    assert await post(handler, url, said("DELIVRD")) is ReceiptVerdict.HANDLED
    assert len(box.receipts) == 1
    assert not handler._seen_receipts._locks


@pytest.mark.virtual_time
async def test_an_app_that_hangs_gathers_no_requests(caplog: pytest.LogCaptureFixture) -> None:
    """
    While `on_receipt` hangs, all copies of the receipt but the first are asked for again, and nothing of them remains.
    """
    signer, goes_on, box = CallbackSigner([SECRET]), asyncio.Event(), Box()

    async def on_receipt(receipt: DeliveryReceipt) -> None:
        await goes_on.wait()
        box(receipt)

    handler = ReceiptHandler(signer, on_receipt=on_receipt)
    url = signer.sign(URL, "order-17")
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(post(handler, url, said("DELIVRD")))
        await asyncio.sleep(0)
        others = await asyncio.gather(*(post(handler, url, said("DELIVRD")) for _ in range(20)))
        waiting = [lock.users for lock in handler._seen_receipts._locks.values()]
        goes_on.set()

    assert set(others) == {ReceiptVerdict.FAILED}
    assert waiting == [1]
    assert await first is ReceiptVerdict.HANDLED
    assert await post(handler, url, said("DELIVRD")) is ReceiptVerdict.DUPLICATE
    assert not handler._seen_receipts._locks
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize("limit", [0, -1, True, "9"])
def test_a_store_that_holds_nothing_is_refused(limit: object) -> None:
    """`limit` must be a positive whole number, because no receipt could be taken with room for none."""
    with pytest.raises(ConfigurationError, match="`limit`"):
        LocalSeenReceipts(limit=limit)  # type: ignore[arg-type]


async def test_before_the_first_blast_there_is_nothing_to_settle(tmp_path: Path) -> None:
    """Before the journal's file exists, a receipt calls `on_receipt` and makes no file."""
    box, signer = Box(), CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box, journal=SqliteJournal(tmp_path / "blast.db"))

    assert await post(handler, signer.sign(URL, "order-17"), said("DELIVRD")) is ReceiptVerdict.HANDLED
    assert len(box.receipts) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["stranger", None])
async def test_a_receipt_of_a_message_that_no_journal_has_is_handled(key: str | None) -> None:
    """
    A receipt of a message that the journal does not have calls `on_receipt`: most apps send some messages without a
    journal.
    """
    box, signer = Box(), CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box, journal=Confirmed())

    assert await post(handler, signer.sign(URL, key), said("DELIVRD")) is ReceiptVerdict.HANDLED
    assert [receipt.key for receipt in box.receipts] == [key]


async def test_what_is_too_much_is_refused_unread() -> None:
    """
    A body that is too large is not read to its end, and a forged request is not read at all. A long query, a wrong
    method and a lost connection are refused.
    """
    signer = CallbackSigner([SECRET])
    handler = ReceiptHandler(signer)
    url = signer.sign(URL, "order-17")
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1024
            yield b"x" * 1024

    async def leaves() -> AsyncIterator[bytes]:
        yield b"{"
        raise ConnectionResetError

    parts = urlsplit(url)
    assert await handler.handle("POST", parts.path, parts.query, endless()) is ReceiptVerdict.TOO_LARGE
    assert read <= 66 * 1024
    read = 0
    assert await handler.handle("POST", "/other", parts.query, endless()) is ReceiptVerdict.FORGED
    assert read == 0
    assert await handler.handle("DELETE", parts.path, parts.query, endless()) is ReceiptVerdict.NOT_ALLOWED
    assert (
        await handler.handle("POST", parts.path, f"{parts.query}&x={'y' * 9000}", endless()) is ReceiptVerdict.TOO_LARGE
    )
    assert await handler.handle("POST", parts.path, parts.query, leaves()) is ReceiptVerdict.UNREADABLE
    assert await post(handler, url, said("DELIVRD")) is ReceiptVerdict.HANDLED


@pytest.mark.virtual_time
async def test_a_body_that_does_not_end_is_given_up() -> None:
    """A request whose body does not end is refused after a time, so it does not hold its connection for ever."""
    signer = CallbackSigner([SECRET])
    parts = urlsplit(signer.sign(URL, "order-17"))

    async def silent() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert await ReceiptHandler(signer).handle("POST", parts.path, parts.query, silent()) is ReceiptVerdict.TOO_SLOW


async def test_the_seen_receipts_are_bounded() -> None:
    """`LocalSeenReceipts` keeps a bounded number of messages and removes the oldest first."""
    store = LocalSeenReceipts(limit=3)

    for name in "abcd":
        await store.put(name, ReceiptHistory(DeliveryStatus.SENT, (b"",)), 0)

    assert await store.get("a") is None
    assert await store.get("d") is not None


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"signer": SECRET}, "CallbackSigner"),
        ({"signer": None}, "PICO_CALLBACK_SECRETS"),
        ({"on_receipt": "delivered"}, "`on_receipt`"),
        ({"journal": "blast.db"}, "`journal`"),
        ({"seen_receipts": {}}, "`seen_receipts`"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], fault: str) -> None:
    """A wrong argument is named when the receipt handler is made."""
    with pytest.raises(ConfigurationError, match=fault):
        ReceiptHandler(**{"signer": CallbackSigner([SECRET]), **arguments})  # type: ignore[arg-type]


async def test_the_repr_shows_the_live_state() -> None:
    """The repr of a receipt handler shows its journal's type, and how many messages it knows and has locked."""
    signer, shown = CallbackSigner([SECRET]), []
    handler = ReceiptHandler(signer, on_receipt=lambda _: shown.append(repr(handler)), journal=Confirmed())

    for number in range(2):
        await post(handler, signer.sign(URL, f"order-{number}"), said("DELIVRD"))

    assert shown == [
        f"<ReceiptHandler, journal: Confirmed, seen receipts: <LocalSeenReceipts, messages: {number} of 100000, "
        "locked: 1>>"
        for number in range(2)
    ]


async def test_the_secrets_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt handler reads its secrets from the environment, as the session does."""
    monkeypatch.setenv("PICO_CALLBACK_SECRETS", f"{SECRET}, an-older-secret-of-32-characters")

    verdict = await post(ReceiptHandler(), CallbackSigner([SECRET]).sign(URL, "order-17"), said("DELIVRD"))

    assert verdict is ReceiptVerdict.HANDLED


# --- thousands of each ------------------------------------------------------------------------------

COUNTS = [2_000, pytest.param(10_000, marks=pytest.mark.full)]

TOKEN = string.ascii_letters + string.digits + "-_."


def damaged(url: str, chance: random.Random) -> str:
    """Return the URL with one change in its signed part that changes its meaning."""
    base, _, token = url.partition("?pico=")
    place = chance.randrange(len(token))
    how = chance.randrange(4)
    if how == 0:
        token = token[:place] + chance.choice(TOKEN.replace(token[place], "")) + token[place + 1 :]
    elif how == 1:
        token = token[:place] + token[place + 1 :]
    elif how == 2:
        token = token[:place] + chance.choice(TOKEN) + token[place:]
    else:
        token = token[:place]
    return f"{base}?pico={token}"


def forged(url: str, chance: random.Random) -> str:
    """Make a URL that is signed with another secret, or that is not signed."""
    if chance.random() < 0.5:
        return CallbackSigner([f"{chance.getrandbits(128):032x}"]).sign(URL, "known")
    token = "".join(chance.choices(TOKEN, k=chance.randrange(200)))
    return f"{URL}?{quote(chance.choice(['pico', 'Pico', 'pico[]', '']))}={token}"


@pytest.mark.parametrize("count", COUNTS)
async def test_forged_damaged_expired_and_replayed_urls_are_not_handled(count: int) -> None:
    """Of thousands of forged, damaged, expired or replayed URLs, none is handled or raises; a genuine one is."""
    chance, clock, box = random.Random(6), Clock(), Box()
    signer = CallbackSigner([SECRET], clock=clock)
    handler = ReceiptHandler(signer, on_receipt=box, journal=Confirmed())
    clock.now -= 73 * 3600
    expired = [signer.sign(URL, f"order-{number}") for number in range(50)]
    clock.now += 73 * 3600
    used = [signer.sign(URL, f"order-{number}") for number in range(50)]
    for url in used:
        assert await post(handler, url, said("DELIVRD")) is ReceiptVerdict.HANDLED
    received = len(box.receipts)
    kinds: list[tuple[Callable[[str], str], set[ReceiptVerdict]]] = [
        (lambda url: damaged(url, chance), {ReceiptVerdict.FORGED}),
        (lambda url: forged(url, chance), {ReceiptVerdict.FORGED, ReceiptVerdict.UNSIGNED}),
        (lambda url: chance.choice(expired), {ReceiptVerdict.EXPIRED}),
        (lambda url: chance.choice(used), {ReceiptVerdict.DUPLICATE, ReceiptVerdict.LATE, ReceiptVerdict.CONTRADICTED}),
        (lambda url: url.replace("/receipts", "/other"), {ReceiptVerdict.FORGED}),
    ]

    for number in range(count):
        make, expected = kinds[number % len(kinds)]
        url = make(used[number % len(used)])
        verdict = await post(handler, url, said(chance.choice(["DELIVRD", "FAILED", "SENT", "no such word"])))
        assert verdict in expected, url

    assert len(box.receipts) == received
    assert await post(handler, signer.sign(URL, "order-51"), said("DELIVRD")) is ReceiptVerdict.HANDLED


def body(chance: random.Random) -> bytes:
    """Make a request body: JSON, a form, or neither, whole or cut."""
    word = chance.choice(["DELIVRD", "SENT", "x" * 300, "送達", "\x00", "8612345678901"])
    made: object = {
        chance.choice(["status", "STATUS", "dlr_status", "s"]): chance.choice([word, 1, None, [word], {"a": word}]),
        chance.choice(["time", "timestamp", "at"]): chance.choice([word, 1e300, -1, "2026-11-25T10:00:00Z", 10**40]),
        "extra": {"deep": [[[word]]]},
    }
    raw = [
        lambda: json.dumps(made, ensure_ascii=chance.random() < 0.5).encode(),
        lambda: f"status={quote(word)}&{word}&&=&time=NaN".encode(),
        lambda: chance.randbytes(chance.randrange(2000)),
        lambda: b"[" * chance.randrange(1, 60_000),
        lambda: b'{"a":' * chance.randrange(1, 10_000),
        lambda: b'{"status": ' + b"9" * chance.randrange(10_000) + b"}",
        lambda: b"a=b&" * chance.randrange(15_000),
        lambda: b"%" * chance.randrange(60_000),
        lambda: b"--boundary\r\nContent-Disposition: form-data; name=status\r\n\r\nDELIVRD\r\n--boundary--",
        lambda: b"\xef\xbb\xbf" + json.dumps(made).encode("utf-16"),
        lambda: f"data[status]={word}&data[status][a]=1&data.id={word}&[]=&[status]=x&a[=1".encode(),
        lambda: json.dumps(made).encode() * chance.randrange(1, 5),
        lambda: gzip.compress(json.dumps(made).encode()),
        lambda: f"<a status='{word}'><b>{word}</b>{word}<status/></a>".encode(),
        lambda: f"id:{word} sub:001 stat:{word} err: text:{word}".encode(),
    ][chance.randrange(15)]()
    return raw[: chance.randrange(1, len(raw) + 1)] if raw and chance.random() < 0.2 else raw


@pytest.mark.no_cover
@pytest.mark.parametrize("count", COUNTS)
async def test_no_generated_body_raises(count: int) -> None:
    """None of thousands of generated bodies raises. Each is a receipt of its message at a genuine URL alone."""
    chance, box = random.Random(6), Box()
    signer = CallbackSigner([SECRET])
    handler = ReceiptHandler(signer, on_receipt=box)
    other = CallbackSigner(["another-secret-of-32-characters-"])

    taken = 0
    for number in range(count):
        content, genuine = body(chance), number % 2 == 0
        url = (signer if genuine else other).sign(URL, f"order-{number}")
        verdict = await post(handler, url, content)
        assert verdict is (ReceiptVerdict.HANDLED if genuine else ReceiptVerdict.FORGED), content[:100]
        taken += genuine

    assert len(box.receipts) == taken
    assert all(repr(receipt) for receipt in box.receipts[:500])
