"""The outbox page receives what the ledger records, and a slow reader delays no other reader."""

import asyncio
import json
from types import SimpleNamespace

import anyio
import httpx
import pytest

from pico_async.sandbox import FaultRule, Sandbox
from tests.sandbox.event_stream import listening
from tests.sandbox.receiver import receiving
from tests.support.waiting import PATIENCE_S, until

HOSTILE = "</script><script>alert(1)</script>\u2028\r\n\n\"'\x00<img src=x onerror=alert(1)>"


async def test_the_stream_sends_messages_and_resumes_at_its_cursor(served, sms) -> None:
    """The stream sends each message once and in order, including those that arrived while no reader was connected."""
    _, client = served
    async with listening(str(client.base_url)) as next_event:
        hello, _ = await next_event("hello")
        await client.post("/sms", json=sms(text="one"))
        first, cursor = await next_event("messages")
    for text in ("two", "three"):
        await client.post("/sms", json=sms(text=text))
    async with listening(str(client.base_url), after=cursor) as next_event:
        again, _ = await next_event("hello")
        rest, _ = await next_event("messages")

    assert (hello["resumed"], again["resumed"]) == (False, True)
    assert [row["text"] for row in first["rows"] + rest["rows"]] == ["one", "two", "three"]
    assert [row["n"] for row in first["rows"] + rest["rows"]] == [0, 1, 2]
    assert first["rows"][0]["parts"] == {"encoding": "GSM-7", "units": 3, "count": 1}


@pytest.mark.parametrize("after", ["", "x", "another.0.0", "RUN.9.0", "RUN.0.9", "RUN.-1.0", "RUN.²³.0", "RUN.0", "é"])
async def test_an_unknown_cursor_starts_from_the_beginning(served, sms, after) -> None:
    """An unknown cursor, as after a restart, starts the stream from the beginning and marks it as not resumed."""
    _, client = served
    await client.post("/sms", json=sms())
    async with listening(str(client.base_url)) as next_event:
        _, cursor = await next_event("hello")

    async with listening(str(client.base_url), after=after.replace("RUN", cursor.split(".")[0]).encode()) as next_event:
        hello, _ = await next_event("hello")
        messages, _ = await next_event("messages")

    assert hello["resumed"] is False
    assert len(messages["rows"]) == 1


async def test_a_new_page_gets_only_the_newest_messages(connect, sms, monkeypatch) -> None:
    """A page that opens receives a limited number of the newest messages, in batches."""
    monkeypatch.setattr("pico_async.sandbox.outbox.feed.NEWEST", 50)
    monkeypatch.setattr("pico_async.sandbox.outbox.feed.MOST_MESSAGES", 20)
    sandbox = Sandbox(rates={})
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        for number in range(60):
            await pico.post("/sms", json=sms(text=str(number)))
        async with listening(base_url) as next_event:
            hello, _ = await next_event("hello")
            batches = [(await next_event("messages"))[0]["rows"] for _ in range(3)]

    assert hello["first"] == 10
    assert [len(rows) for rows in batches] == [20, 20, 10]
    assert [row["n"] for rows in batches for row in rows] == list(range(10, 60))


async def test_long_texts_come_in_small_batches(connect, sms, monkeypatch) -> None:
    """Long texts come in small batches, because counting their parts makes every other request wait."""
    monkeypatch.setattr("pico_async.sandbox.outbox.feed.MOST_TEXT", 1000)
    sandbox = Sandbox(rates={})
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        for _ in range(5):
            await pico.post("/sms", json=sms(text="x" * 600))
        async with listening(base_url) as next_event:
            batches = [(await next_event("messages"))[0]["rows"] for _ in range(3)]

    assert [[row["n"] for row in rows] for rows in batches] == [[0, 1], [2, 3], [4]]


async def test_nothing_that_a_client_sends_breaks_the_stream(served, sms) -> None:
    """Line breaks, an unpaired surrogate, NaN and deep nesting break neither the stream nor message nor ledger."""
    _, client = served
    deep = "[" * 400 + "]" * 400
    body = json.dumps(sms(text=HOSTILE + "\ud800", extra="EXTRA")).replace('"EXTRA"', f'{{"a":[NaN,{deep}]}}')
    assert (await client.post("/sms", content=body, headers={"Content-Type": "application/json"})).status_code == 200

    async with listening(str(client.base_url)) as next_event:
        messages, _ = await next_event("messages")
    shown = await client.get("/_sandbox/outbox/messages/0")
    ledger = await client.get("/_sandbox/ledger")

    assert messages["rows"][0]["text"] == shown.json()["text"] == HOSTILE + "\ud800"
    assert shown.json()["extra"][0][1].startswith('{"a": [NaN, [[')
    assert ledger.json()["accepted"][0]["text"] == HOSTILE + "\ud800"


async def test_a_long_text_is_cut_in_the_list_and_whole_in_the_message(served, sms) -> None:
    """A long text is cut to 500 characters in the list, and complete in the message."""
    _, client = served
    await client.post("/sms", json=sms(text="验" * 100_000))

    async with listening(str(client.base_url)) as next_event:
        row = (await next_event("messages"))[0]["rows"][0]
    shown = (await client.get("/_sandbox/outbox/messages/0")).json()

    assert len(row["text"]) == 500
    assert shown["text"] == "验" * 100_000
    assert shown["parts"]["count"] == row["parts"]["count"] == 1493


async def test_long_fields_are_cut_in_the_stream(served, sms) -> None:
    """The stream cuts long fields to 500 characters, even those of a request without a valid key."""
    _, client = served
    await client.post("/sms", json=sms(**{"from": "F" * 100_000}))
    await client.post("/sms", content=json.dumps({"to": "9" * 100_000}), headers={"X-API-Key": "none"})

    async with listening(str(client.base_url)) as next_event:
        row = (await next_event("messages"))[0]["rows"][0]
        trouble = (await next_event("limits"))[0]["failed"][-1]
    shown = (await client.get("/_sandbox/outbox/messages/0")).json()

    assert len(row["sender"]) == len(trouble["to"]) == 500
    assert shown["sender"] == "F" * 100_000


async def test_a_message_shows_its_template_and_campaign_after_their_deletion(served, sms) -> None:
    """A message shows its template with unfilled variables and its campaign, and marks both once they are deleted."""
    _, client = served
    of = {"username": "user333", "name": "codes", "remark": "one-time"}
    campaign = (await client.post("/campaign", json=of)).json()["request_id"]
    of = {"username": "user333", "campaignId": campaign, "name": "code", "content": "Hi {{name}}: {{code}}"}
    template = (await client.post("/template/sms", json=of)).json()["request_id"]
    await client.post("/sms", json=sms(text=None, templateId=template))

    there = (await client.get("/_sandbox/outbox/messages/0")).json()
    await client.delete(f"/campaign/{campaign}")
    gone = (await client.get("/_sandbox/outbox/messages/0")).json()

    assert (there["template"]["content"], there["template"]["status"]) == ("Hi {{name}}: {{code}}", "approved")
    assert there["template"]["campaign"] == {"id": campaign, "name": "codes", "remark": "one-time", "deleted": False}
    assert there["parts"]["units"] == 29  # each brace takes two
    assert there["text"] is None
    assert gone["template"]["status"] == "deleted"
    assert gone["template"]["campaign"]["deleted"] is True


async def test_a_message_shows_the_fault_that_struck_it(served, sms) -> None:
    """A message shows the fault of its own arrival, and of no other."""
    sandbox, client = served
    await client.post("/sms", json=sms())
    await client.post("/sms", json={})
    sandbox.inject(FaultRule("no-request-id", times=1))
    await client.post("/sms", json=sms())
    await client.post("/sms", json=sms())

    faults = [(await client.get(f"/_sandbox/outbox/messages/{number}")).json()["fault"] for number in range(3)]

    assert faults == [None, "no-request-id", None]


@pytest.mark.parametrize("number", ["1", "-1", "99999999999999999999", "9" * 5000, "x"])
async def test_a_message_that_does_not_exist_is_not_found(served, number) -> None:
    """A message that does not exist is answered with 404; a receipt for it is refused as well."""
    _, client = served

    assert (await client.get(f"/_sandbox/outbox/messages/{number}")).status_code == 404
    assert (await client.post(f"/_sandbox/outbox/messages/{number}/receipt")).status_code in (404, 405)


async def test_the_stream_sends_states_of_receipts_also_of_those_sent_again(served, sms, clock, monkeypatch) -> None:
    """The stream reports the state of a receipt as it changes, and a receipt that is sent again is marked as a copy."""
    sandbox, client = served
    # The clock by which receipts come due, so that both states are seen.
    monkeypatch.setattr("pico_async.sandbox.receipts.delivery.time", SimpleNamespace(monotonic=clock))
    async with receiving() as receiver, listening(str(client.base_url)) as next_event:
        await client.post("/sms", json=sms(callback=receiver.url))
        await until(lambda: sandbox._delivery._pending, "the receipts are planned")
        states = []
        for state in ("sent", "delivered"):
            clock.advance(1.0 if states else 0.5)
            while [0, state] not in states:
                states += (await next_event("receipts"))[0]["states"]
        again = await client.post("/_sandbox/outbox/messages/0/receipt")
        await receiver.wait_for(3)
        async with asyncio.timeout(PATIENCE_S):
            while len((shown := (await client.get("/_sandbox/outbox/messages/0")).json())["tries"]) < 3:
                await anyio.sleep(0.005)

    assert states[-1] == [0, "delivered"]
    assert again.json() == {"queued": True}
    assert [(one["status"], one["is_copy"]) for one in shown["tries"]] == [
        ("SENT", False),
        ("DELIVERED", False),
        ("DELIVERED", True),
    ]


async def test_a_failed_send_again_has_its_reason(served, sms) -> None:
    """Sending a receipt again fails with the reason: the message has no callback, or receipts are off."""
    _, client = served
    await client.post("/sms", json=sms())
    await client.post("/sms", json=sms(callback="http://127.0.0.1:1/"))
    await client.post("/_sandbox/settings", json={"receipts": {"on": False}})

    replies = [await client.post(f"/_sandbox/outbox/messages/{number}/receipt") for number in range(2)]

    assert [reply.status_code for reply in replies] == [404, 409]
    assert "callback" in replies[0].text
    assert "off" in replies[1].text


async def test_the_limits_are_those_of_the_ledger(connect, sms, clock) -> None:
    """The limits show sends per second by verdict, the densest second, and each request that was not accepted."""
    sandbox = Sandbox(clock=clock)
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        for _ in range(35):
            await pico.post("/sms", json=sms())
            clock.advance(0.01)
        clock.advance(0.9)
        await pico.post("/sms", json=sms(to="no number"))
        async with listening(base_url) as next_event:
            limits, _ = await next_event("limits")
            clock.advance(10)
            await pico.post("/sms", json=sms())
            later, _ = await next_event("limits")

    assert limits["rate"] == 30
    assert limits["seconds"] == [[1000, 30, 5, 0], [1001, 0, 0, 1]]
    assert limits["densest"]["count"] == sandbox.ledger.densest() == 35
    assert limits["verdicts"] == {**sandbox.ledger.counts(), "accepted": limits["verdicts"]["accepted"]}
    assert [one["verdict"] for one in limits["failed"]] == ["refused-rate"] * 5 + ["rejected"]
    assert later["seconds"] == [[1001, 0, 0, 1], [1011, 1, 0, 0]]  # from the last reported second on


# Load and shutdown.


async def test_fifty_open_streams_end_with_the_server(connect, sms, caplog) -> None:
    """Fifty open streams end with the server, and leave no log line and no task."""
    sandbox = Sandbox(rates={})
    before = asyncio.all_tasks()
    received = []

    async def listen(base_url: str) -> None:
        with pytest.raises((httpx.TransportError, AssertionError)):
            async with listening(base_url) as next_event:
                received.append(await next_event("messages"))
                await next_event("never")

    async with anyio.create_task_group() as group:
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            for _ in range(50):
                group.start_soon(listen, base_url)
            await pico.post("/sms", json=sms())
            await until(lambda: len(received) == 50)
    await until(lambda: asyncio.all_tasks() <= before, "no task is left")

    assert [record for record in caplog.records if not record.name.startswith("http")] == []


async def test_a_reader_that_does_not_read_buffers_one_batch(connect, sms) -> None:
    """A reader that does not read delays no other reader, and the server buffers less than 1 MB for it."""
    sandbox = Sandbox(rates={})
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        await pico.post("/sms", json=sms(text="x" * 480))
        arrival, message = sandbox.ledger.arrivals[-1], sandbox.ledger.accepted[-1]
        port = int(base_url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /_sandbox/outbox/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readline()
        for _ in range(9_999):
            sandbox.ledger.record(arrival, message)
        async with listening(base_url) as next_event:
            batches = [(await next_event("messages"))[0]["rows"] for _ in range(50)]
        await until(lambda: any(buffered(port)), "the server waits for the reader that does not read")
        waiting = buffered(port)
        writer.close()

    assert sum(map(len, batches)) == 10_000
    assert max(waiting) < 1_000_000


def buffered(port: int) -> list[int]:
    """Return how many bytes the server holds back for each of its open connections, as the event loop knows them."""
    loop = asyncio.get_running_loop()
    transports = loop._transports.values()  # type: ignore[attr-defined]
    return [
        transport.get_write_buffer_size()
        for transport in transports
        if (transport.get_extra_info("sockname") or (None, None))[1] == port and not transport.is_closing()
    ]
