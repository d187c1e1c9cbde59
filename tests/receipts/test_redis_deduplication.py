"""Several processes, with a real Valkey and a client for each, call `on_receipt` once for each receipt."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
import redis
from redis.asyncio import Redis

from pico_async import CallbackSigner, ConfigurationError, DeliveryReceipt, RedisSeenReceipts
from pico_async.receipts.handler import ReceiptHandler, ReceiptVerdict
from tests.support.valkey_server import ValkeyServer, valkey_server
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.lower_bounds

SIGNER = CallbackSigner(["a-secret-of-32-characters-or-so-"])
URL = "https://shop.example/receipts"


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the lock timeout to the time that a busy machine needs."""
    monkeypatch.setattr("pico_async.receipts.redis_deduplication.LOCK_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr("pico_async.receipts.redis_deduplication._RELEASE_S", PATIENCE_S)


def patient_store(url: str) -> RedisSeenReceipts:
    return RedisSeenReceipts.from_url(url, timeout=PATIENCE_S)


@asynccontextmanager
async def handlers(url: str, count: int, received: list[DeliveryReceipt]) -> AsyncIterator[list[ReceiptHandler]]:
    """Make a receipt handler for each process; the app's callback takes a moment with each receipt."""

    async def on_receipt(receipt: DeliveryReceipt) -> None:
        await asyncio.sleep(0.02)
        received.append(receipt)

    async with AsyncExitStack() as held:
        stores = [await held.enter_async_context(patient_store(url)) for _ in range(count)]
        yield [ReceiptHandler(SIGNER, on_receipt=on_receipt, seen_receipts=store) for store in stores]


async def post(handler: ReceiptHandler, callback: str, status: str) -> ReceiptVerdict:
    async def body() -> AsyncIterator[bytes]:
        yield json.dumps({"status": status, "to": "8612345678901"}).encode()

    parts = urlsplit(callback)
    return await handler.handle("POST", parts.path, parts.query, body())


async def test_a_receipt_in_several_processes_is_handled_once(url: str) -> None:
    """A receipt that all processes get at the same moment calls `on_receipt` once, also after a restart."""
    received: list[DeliveryReceipt] = []
    callback = SIGNER.sign(URL, "order-17")

    async with handlers(url, 4, received) as processes:
        verdicts = await asyncio.gather(*(post(process, callback, "DELIVRD") for process in processes * 3))
    async with handlers(url, 1, received) as (restarted,):
        verdicts.append(await post(restarted, callback, "DELIVRD"))
        verdicts.append(await post(restarted, callback, "FAILED"))

    assert Counter(verdicts) == {
        ReceiptVerdict.HANDLED: 1,
        ReceiptVerdict.DUPLICATE: 12,
        ReceiptVerdict.CONTRADICTED: 1,
    }
    assert len(received) == 1


async def test_a_message_moves_forward_across_processes(url: str) -> None:
    """A message moves only forward across processes, because each process knows the receipts of the others."""
    received: list[DeliveryReceipt] = []
    callback = SIGNER.sign(URL, "order-17")

    async with handlers(url, 2, received) as (one, other):
        verdicts = [
            await post(handler, callback, word) for handler, word in ((one, "SENT"), (other, "DELIVRD"), (one, "SENT"))
        ]

    assert verdicts == [ReceiptVerdict.HANDLED, ReceiptVerdict.HANDLED, ReceiptVerdict.DUPLICATE]
    assert [receipt.status_text for receipt in received] == ["SENT", "DELIVRD"]


async def test_redis_holds_nothing_of_the_message_and_forgets_with_the_url(url: str) -> None:
    """Redis holds neither the message's key nor its number. No key in Redis outlives the URL, and no lock remains."""
    async with handlers(url, 1, []) as (handler,):
        await post(handler, SIGNER.sign(URL, "order-17"), "DELIVRD")

    with redis.Redis.from_url(url, decode_responses=True) as client:
        (name,) = client.keys("*")
        kept, lives_s = client.get(name), client.ttl(name)
    assert name.startswith("pico:receipt:")
    assert "order" not in f"{name} {kept}"
    assert "86123456" not in f"{name} {kept}"
    assert 71 * 3600 < lives_s <= 72 * 3600


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


async def test_while_redis_is_away_a_receipt_is_asked_for_again(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """
    While Redis is away, a receipt is answered with 503 and does not call `on_receipt`; it is handled when it is sent
    again.
    """
    received: list[DeliveryReceipt] = []
    callback = SIGNER.sign(URL, "order-17")

    async with handlers(server.url, 1, received) as (handler,):
        server.kill()
        away = await post(handler, callback, "DELIVRD")
        server.start()
        back = await post(handler, callback, "DELIVRD")

    assert (away, away.status_code, back) == (ReceiptVerdict.FAILED, 503, ReceiptVerdict.HANDLED)
    assert len(received) == 1
    assert "8612345678901" not in caplog.text


async def test_the_lock_of_a_process_that_died_expires(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a process that died expires; until then, other processes ask for the receipt again."""
    callback = SIGNER.sign(URL, "order-17")
    nonce = callback.split(".")[-2]
    name = f"pico:receipt:{nonce}:lock"

    async with handlers(url, 1, []) as (handler,), Redis.from_url(url) as dead:
        async with handler._seen_receipts.lock(nonce):
            expires_in_ms = await dead.pttl(name)
        assert await dead.lock(name, timeout=3600).acquire()
        with monkeypatch.context() as patched:
            patched.setattr("pico_async.receipts.redis_deduplication.LOCK_TIMEOUT_S", 0.2)
            waiting = await post(handler, callback, "DELIVRD")
        await dead.pexpire(name, 50)
        after = await post(handler, callback, "DELIVRD")

    assert 0 < expires_in_ms <= 60_000
    assert (waiting, after) == (ReceiptVerdict.FAILED, ReceiptVerdict.HANDLED)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", "null", "[]", "{}", '{"status": "x", "digests": []}', '{"digests": 5}', 7]
)
async def test_what_another_program_has_written_is_replaced(
    url: str, content: str | bytes | int, caplog: pytest.LogCaptureFixture
) -> None:
    """A receipt is handled once, although another program has written to its key in Redis; a warning names the key."""
    received: list[DeliveryReceipt] = []
    callback = SIGNER.sign(URL, "order-17")
    name = f"pico:receipt:{callback.split('.')[-2]}"
    with redis.Redis.from_url(url) as client:
        if isinstance(content, int):
            client.rpush(name, content)
        else:
            client.set(name, content)

    async with handlers(url, 1, received) as (handler,):
        verdicts = [await post(handler, callback, "DELIVRD") for _ in range(2)]

    assert verdicts == [ReceiptVerdict.HANDLED, ReceiptVerdict.DUPLICATE]
    assert name in caplog.text


async def test_a_lock_without_an_expiry_expires(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of a receipt without an expiry, which no process sets, expires as one of a process that died."""
    callback = SIGNER.sign(URL, "order-17")
    name = f"pico:receipt:{callback.split('.')[-2]}:lock"
    monkeypatch.setattr("pico_async.receipts.redis_deduplication.LOCK_TIMEOUT_S", 0.2)
    with redis.Redis.from_url(url) as client:
        client.set(name, "another program")

        async with handlers(url, 1, []) as (handler,):
            waiting = await post(handler, callback, "DELIVRD")

        assert waiting is ReceiptVerdict.FAILED
        assert 0 < client.pttl(name) <= 60_000


@pytest.mark.parametrize("prefix", ["", 5])
def test_a_wrong_argument_is_named(prefix: object) -> None:
    """A wrong argument is named, and an address is not repeated, because it may contain a password."""
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisSeenReceipts.from_url("redis://localhost", prefix=prefix)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="client"):
        RedisSeenReceipts("redis://localhost")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as raised:
        RedisSeenReceipts.from_url("http://user:s3cret@localhost")
    assert "s3cret" not in str(raised.value)
