"""The sandbox sends delivery receipts in several forms when they are due, and loses none."""

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import anyio
import httpx
import pytest

from pico_async.sandbox import BANNER, FaultRule, ReceiptForm, Receipts, Sandbox
from tests.sandbox.conftest import FakeClock
from tests.sandbox.receiver import receiving
from tests.support.waiting import PATIENCE_S, until

# No try ends by its bound, however slow the machine is.
AT_ONCE = {"sent_after_s": 0.0, "delivered_after_s": 0.02, "backoff_s": 0.02, "timeout_s": 3600.0}


def statuses(receiver) -> list[str]:
    return [json.loads(body)["status"] for _, _, body in receiver.got]


async def shown_after(pico: httpx.AsyncClient, tries: int) -> dict[str, Any]:
    """Return the first message as the outbox shows it, once so many tries of its receipts have ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            shown = (await pico.get("/_sandbox/outbox/messages/0")).json()
            if len(shown["tries"]) >= tries:
                return shown
            await anyio.sleep(0.005)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> FakeClock:
    """Return the clock by which a server's receipts come due; it moves only by hand."""
    monkeypatch.setattr("pico_async.sandbox.receipts.delivery.time", SimpleNamespace(monotonic=clock))
    return clock


async def test_a_message_with_a_callback_gets_two_receipts(connect, sms, by_hand) -> None:
    """A message with a callback gets SENT and then DELIVERED as JSON by POST; one without a callback gets none."""
    async with receiving() as receiver:
        sandbox = Sandbox(receipts=Receipts(**AT_ONCE))
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            await pico.post("/sms", json=sms())
            reply = await pico.post("/sms", json=sms(callback=f"{receiver.url}/dlr"))
            await receiver.wait_for(1)
            by_hand.advance(0.02)
            await receiver.wait_for(2)

    bodies = [json.loads(body) for _, _, body in receiver.got]
    assert [line for line, _, _ in receiver.got] == ["POST /dlr HTTP/1.1"] * 2
    assert receiver.got[0][1]["content-type"] == "application/json"
    assert [body.pop("status") for body in bodies] == ["SENT", "DELIVERED"]
    assert all(body.pop("timestamp").endswith("Z") for body in bodies)
    assert bodies == [{"request_id": reply.json()["request_id"], "to": "8612345678901", "error": None}] * 2


async def test_the_callback_url_is_not_changed(connect, sms) -> None:
    """Path and query of a callback URL, which may be signed, are sent exactly as the message named them."""
    target = "/a%2fb/C%C3%a9?sig=Ab-_%3D%3d&x=a+b&q=|'{}[]~*<>^`&p=100%"
    async with receiving() as receiver:
        sandbox = Sandbox(receipts=Receipts(timeout_s=PATIENCE_S))
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=f"{receiver.url}{target}#part"))
        await sandbox.deliver_receipts(everything=True)

    assert receiver.got[0][0] == f"POST {target} HTTP/1.1"
    assert receiver.got[0][1]["host"] == receiver.url.removeprefix("http://")


@pytest.mark.parametrize("target", ["", "?", "?a=1&b=%20", "/p?x"])
async def test_a_receipt_as_a_query_adds_to_the_urls_own(connect, sms, target) -> None:
    """A receipt as a query is a GET, and the URL's own query comes first and unchanged."""
    async with receiving() as receiver:
        sandbox = Sandbox(receipts=Receipts(timeout_s=PATIENCE_S, form="query", undelivered=1.0))
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=f"{receiver.url}{target}"))
        await sandbox.deliver_receipts(everything=True)

    method, sent, _ = receiver.got[1][0].split(" ")
    own = target if target.startswith("/") else f"/{target}"
    assert method == "GET"
    assert sent.startswith(own + ("&" if "?" in own else "?"))
    assert {name: value for name, value in parse_qsl(sent[len(own) :].lstrip("?&")) if name != "timestamp"} == {
        "request_id": sandbox.ledger.accepted[0].request_id,
        "to": "8612345678901",
        "status": "UNDELIVERED",
        "error": "ABSENT_SUBSCRIBER",
    }


async def test_a_receipt_as_a_form(connect, sms) -> None:
    """A receipt as a form is a POST with a urlencoded body."""
    async with receiving() as receiver:
        sandbox = Sandbox(receipts=Receipts(timeout_s=PATIENCE_S, form=ReceiptForm.FORM))
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=receiver.url))
        await sandbox.deliver_receipts(everything=True)

    line, headers, body = receiver.got[1]
    assert line == "POST / HTTP/1.1"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(body.decode())["status"] == ["DELIVERED"]


async def test_a_receipt_is_retried_until_acknowledged(connect, sms) -> None:
    """A receipt is retried until a 2xx reply; a redirect counts as a failure and is not followed."""
    async with receiving(500, 302, 204, headers="location: /elsewhere\r\n") as receiver:
        sandbox = Sandbox(receipts=Receipts(**{**AT_ONCE, "delivered_after_s": 3600.0}))
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            await pico.post("/sms", json=sms(callback=f"{receiver.url}/dlr"))
            shown = await shown_after(pico, tries=3)

    assert [line for line, _, _ in receiver.got] == ["POST /dlr HTTP/1.1"] * 3
    assert statuses(receiver) == ["SENT"] * 3
    assert [(one["number"], one["result"], one["acknowledged"]) for one in shown["tries"]] == [
        (1, "500", False),
        (2, "302", False),
        (3, "204", True),
    ]
    assert shown["state"] == "sent"


async def test_a_receipt_is_given_up_after_its_tries(connect, sms, clock) -> None:
    """A receipt is given up after `tries` tries, which are 1, 2 and 4 seconds apart on the sandbox's clock."""
    async with receiving(503) as receiver:
        sandbox = Sandbox(
            clock=clock, receipts=Receipts(timeout_s=PATIENCE_S, tries=4, backoff_s=1.0, delivered_after_s=3600.0)
        )
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=receiver.url))
        tried = []
        for _ in range(100):
            tried += [round(clock.now - 1000.0, 1)] * await sandbox.deliver_receipts()
            clock.advance(0.1)
        shown = (await pico.get("/_sandbox/outbox/messages/0")).json()

    assert tried == pytest.approx([0.2, 1.2, 3.2, 7.2], abs=0.11)
    assert shown["state"] == "failed"


async def test_receipts_come_due_on_the_sandboxs_clock(connect, sms, clock) -> None:
    """In-process a receipt is sent only after the test advances the clock, and only once."""
    async with receiving() as receiver:
        sandbox = Sandbox(
            clock=clock, receipts=Receipts(timeout_s=PATIENCE_S, sent_after_s=1.0, delivered_after_s=60.0)
        )
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=receiver.url))

        due = [await sandbox.deliver_receipts()]
        for seconds in (1.0, 58.0, 1.0, 100.0):
            clock.advance(seconds)
            due.append(await sandbox.deliver_receipts())

    assert due == [0, 1, 0, 1, 0]
    assert statuses(receiver) == ["SENT", "DELIVERED"]


async def test_duplicates_and_reordering(connect, sms, by_hand) -> None:
    """Duplicated and reordered receipts come twice each, with SENT after DELIVERED."""
    async with receiving() as receiver:
        sandbox = Sandbox(receipts=Receipts(**AT_ONCE, duplicates=1.0, reordered=1.0))
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            await pico.post("/sms", json=sms(callback=receiver.url))
            await until(lambda: sandbox._delivery._pending, "the receipts are planned")
            # DELIVERED is due first, then its copy and SENT at one moment, and last the copy of SENT.
            for seconds, came in ((0.021, 1), (0.1, 3), (0.1, 4)):
                by_hand.advance(seconds)
                await receiver.wait_for(came)
            shown = await shown_after(pico, tries=4)

    assert sorted(statuses(receiver)) == ["DELIVERED", "DELIVERED", "SENT", "SENT"]
    assert statuses(receiver)[0] == "DELIVERED"
    assert statuses(receiver)[-1] == "SENT"
    assert sum(one["is_copy"] for one in shown["tries"]) == 2
    assert shown["state"] == "delivered"


async def test_shares_are_seeded(connect, sms) -> None:
    """One seed always yields the same outcome, near the share; another seed yields another outcome."""

    async def outcome(seed: int) -> str:
        got = []

        async def app(scope, receive, send) -> None:
            got.append(json.loads((await receive())["body"])["status"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        receipts = Receipts(undelivered=0.3, seed=seed, transport=httpx.ASGITransport(app))
        sandbox = Sandbox(rates={}, receipts=receipts)
        pico = await connect(sandbox)
        for _ in range(100):
            await pico.post("/sms", json=sms(callback="https://shop.example/dlr"))
        assert await sandbox.deliver_receipts(everything=True) == 200
        return "".join(status[0] for status in got if status != "SENT")

    first = await outcome(1)

    assert await outcome(1) == first
    assert await outcome(2) != first
    assert 15 <= first.count("U") <= 45


async def test_a_message_whose_reply_was_lost_gets_receipts(connect, sms) -> None:
    """A message whose reply was lost after its acceptance still gets its receipts."""
    async with receiving() as receiver:
        sandbox = Sandbox(faults=[FaultRule("accept-then-drop")], receipts=Receipts(**AT_ONCE))
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            with pytest.raises(httpx.RemoteProtocolError):
                await pico.post("/sms", json=sms(callback=receiver.url))
            await receiver.wait_for(2)

    assert json.loads(receiver.got[0][2])["request_id"] == sandbox.ledger.accepted[0].request_id


@pytest.mark.parametrize("fault", ["drop-before-accept", "bad-request", "rate-limited"])
async def test_a_message_that_was_not_accepted_gets_no_receipt(connect, sms, fault) -> None:
    """A message that was not accepted gets no receipt."""
    async with receiving() as receiver:
        sandbox = Sandbox(faults=[FaultRule(fault)], receipts=Receipts(timeout_s=PATIENCE_S))
        pico = await connect(sandbox)
        with contextlib.suppress(httpx.RemoteProtocolError):
            await pico.post("/sms", json=sms(callback=receiver.url))

        assert await sandbox.deliver_receipts(everything=True) == 0
    assert receiver.got == []


# Failures and shutdown.


async def test_a_receiver_that_hangs_delays_no_other(connect, sms) -> None:
    """A receiver that hangs delays no other receiver, and each try ends after its timeout."""
    async with receiving(hang=True) as hanging, receiving() as receiver:
        sandbox = Sandbox(rates={}, receipts=Receipts(**AT_ONCE))
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            for _ in range(4):
                await pico.post("/sms", json=sms(callback=hanging.url))
            await pico.post("/sms", json=sms(callback=receiver.url))
            await receiver.wait_for(2)
            meanwhile = await shown_after(pico, tries=0)
        sandbox = Sandbox(rates={}, receipts=Receipts(**{**AT_ONCE, "timeout_s": 0.2}, tries=1))
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            await pico.post("/sms", json=sms(callback=hanging.url))
            shown = await shown_after(pico, tries=2)

    assert meanwhile["tries"] == []
    assert [one["result"] for one in shown["tries"]] == ["no reply within 0.2 s"] * 2
    assert shown["state"] == "failed"


async def test_no_more_than_sixteen_at_once(connect, sms) -> None:
    """No more than 16 receipts are sent at once, however many are due."""
    async with receiving(hang=True) as hanging:
        sandbox = Sandbox(rates={}, receipts=Receipts(**{**AT_ONCE, "delivered_after_s": 3600.0}))
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            for _ in range(30):
                await pico.post("/sms", json=sms(callback=hanging.url))
            await hanging.wait_for(16)
            await anyio.sleep(0.1)
            at_once = len(hanging.got)

    assert at_once == 16


async def test_closing_loses_no_waiting_receipt(connect, sms) -> None:
    """Receipts that were in flight or waiting when the server closed are all tried by the next delivery."""
    sandbox = Sandbox(rates={}, receipts=Receipts(**{**AT_ONCE, "delivered_after_s": 3600.0, "tries": 1}))
    async with receiving(hang=True) as hanging:
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            for _ in range(20):
                await pico.post("/sms", json=sms(callback=hanging.url))
            await hanging.wait_for(16)
            await anyio.sleep(0.1)

    await sandbox.deliver_receipts()

    assert [len(progress.tries) for progress in sandbox._delivery._progress.values()] == [1] * 20


async def test_closing_leaves_no_task_and_loses_no_receipt_in_flight(connect, sms) -> None:
    """Closing the server leaves no task, and the next server of the same sandbox sends the receipts in flight."""
    sandbox = Sandbox(receipts=Receipts(**AT_ONCE))
    async with receiving(hang=True) as receiver:
        before = asyncio.all_tasks()
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            await pico.post("/sms", json=sms(callback=receiver.url))
            await receiver.wait_for(2)
        # A server that waited for its tries would not end: each takes an hour.
        left = asyncio.all_tasks() - before
        async with sandbox.serve():
            await receiver.wait_for(4)

    assert {task for task in left if "serve" not in repr(task.get_coro())} == set()
    assert sorted(statuses(receiver)) == ["DELIVERED", "DELIVERED", "SENT", "SENT"]


async def test_a_delivery_that_is_cancelled_loses_no_receipt(connect, sms) -> None:
    """In-process, a receipt whose delivery was cancelled is sent by the next call."""
    async with receiving(hang=True) as hanging:
        sandbox = Sandbox(receipts=Receipts(timeout_s=3600.0))
        pico = await connect(sandbox)
        await pico.post("/sms", json=sms(callback=hanging.url))
        for came in (1, 2):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: sandbox.deliver_receipts(everything=True))
                await hanging.wait_for(came)
                group.cancel_scope.cancel()

    assert statuses(hanging) == ["SENT", "SENT"]


async def test_receipts_are_off_by_default(connect, sms) -> None:
    """By default no receipt is sent, and `deliver_receipts` raises an error that shows how to turn receipts on."""
    async with receiving() as receiver:
        sandbox = Sandbox()
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            await pico.post("/sms", json=sms(callback=receiver.url))
            await anyio.sleep(0.2)
            shown = (await pico.get("/_sandbox/outbox/messages/0")).json()
        with pytest.raises(RuntimeError, match=r"receipts=Receipts\(\)"):
            await sandbox.deliver_receipts()

    assert receiver.got == []
    assert shown["state"] == "off"
    assert "delivery receipts" in BANNER


async def test_a_receiver_app_that_raises_makes_the_try_fail(connect, sms) -> None:
    """A receiver app that raises makes the try fail, and only the type of its error is recorded."""

    async def app(scope, receive, send) -> None:
        raise KeyError("secret")

    sandbox = Sandbox(receipts=Receipts(transport=httpx.ASGITransport(app), tries=1))
    pico = await connect(sandbox)
    await pico.post("/sms", json=sms(callback="https://shop.example/dlr"))

    await sandbox.deliver_receipts(everything=True)

    shown = (await pico.get("/_sandbox/outbox/messages/0")).json()
    assert {one["result"] for one in shown["tries"]} == {"failed with KeyError"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"form": "pigeon"},
        {"sent_after_s": -1},
        {"sent_after_s": float("nan")},
        {"delivered_after_s": float("inf")},
        {"undelivered": 1.5},
        {"duplicates": True},
        {"tries": 0},
        {"tries": 2.5},
        {"timeout_s": 0},
        {"seed": "x"},
    ],
)
def test_a_wrong_setting_is_refused(wrong) -> None:
    """A wrong setting raises an error that names the setting or its value, when the settings are made."""
    with pytest.raises(ValueError, match=next(iter(wrong)) if "form" not in wrong else "pigeon"):
        Receipts(**wrong)
