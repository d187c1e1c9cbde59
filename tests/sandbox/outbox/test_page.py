"""The outbox page admits only callers of this machine, receives what the ledger records, and changes settings."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest

import pico_async.sandbox
from pico_async.sandbox import Fault, FaultRule, RateRule, Receipts, Sandbox
from pico_async.sandbox.operations import NAMES, RATES
from pico_async.sandbox.outbox.page import _FILES
from tests.integrations.web_apps import serving
from tests.sandbox.receiver import receiving
from tests.support.waiting import PATIENCE_S, until

HOSTILE = "</script><script>alert(1)</script>\u2028\r\n\n\"'\x00<img src=x onerror=alert(1)>"


@asynccontextmanager
async def listening(base_url: str, after: str | None = None) -> AsyncIterator[Any]:
    """Yield a function that returns the next event of one kind from the stream, with its id."""
    headers = {"Last-Event-ID": after} if after else {}
    async with (
        httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False, timeout=None) as client,
        client.stream("GET", "/_sandbox/outbox/events", headers=headers) as reply,
    ):
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = reply.aiter_lines()

        async def next_event(wanted: str) -> tuple[dict[str, Any], str]:
            name = cursor = None
            async with asyncio.timeout(PATIENCE_S):
                async for line in lines:
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "id":
                        cursor = value
                    elif field == "data" and name == wanted:
                        return json.loads(value), cursor
            raise AssertionError("the stream ended")

        yield next_event


@pytest.fixture
async def served() -> AsyncIterator[tuple[Sandbox, httpx.AsyncClient]]:
    """Yield a sandbox on a socket and a client that has a token."""
    sandbox = Sandbox(rates={}, receipts=Receipts(timeout_s=PATIENCE_S))
    async with (
        sandbox.serve() as base_url,
        httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False, timeout=PATIENCE_S) as client,
    ):
        token = (await client.get("/token/user333", headers={"X-API-Key": sandbox.api_key})).json()["token"]
        client.headers.update({"X-API-Key": sandbox.api_key, "Authorization": f"Bearer {token}"})
        yield sandbox, client


# The page.


async def test_the_page_and_its_files_are_served(served) -> None:
    """The page and its files come with a policy against outside and inline code, and are not recorded as arrivals."""
    sandbox, client = served
    before = len(sandbox.ledger.arrivals)

    replies = {name: await client.get(f"/_sandbox/outbox/{name}") for name in _FILES}
    page = await client.get("/")

    assert page.text == replies["outbox.html"].text
    assert '<script type="module" src="/_sandbox/outbox/outbox.js">' in page.text
    for reply in replies.values():
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert len(sandbox.ledger.arrivals) == before


def test_every_file_of_the_page_is_named() -> None:
    """The table lists every file of the page; a file that is not in the table would never be served."""
    there = {file.name for file in (files(pico_async.sandbox) / "outbox" / "static").iterdir()}

    assert there == set(_FILES)


def test_the_panel_offers_all_that_there_is() -> None:
    """The panel, whose lists are its own, offers every fault, operation, rule and rate."""
    source = (files(pico_async.sandbox) / "outbox" / "static" / "chaos.js").read_text(encoding="utf-8")

    offered = {
        name: set(re.findall(r'"([^"]+)"', re.search(rf"const {name} = \[(.*?)\];", source, re.DOTALL)[1]))
        for name in ("FAULTS", "OPERATIONS", "RULES", "RATES")
    }

    assert offered == {"FAULTS": set(Fault), "OPERATIONS": {*NAMES, "*"}, "RULES": set(RateRule), "RATES": set(RATES)}


def test_nothing_makes_markup_of_text_and_nothing_is_fetched_from_elsewhere() -> None:
    """No file of the page makes markup of text, has an inline handler or style, or names an outside address."""
    for name in _FILES:
        source = (files(pico_async.sandbox) / "outbox" / "static" / name).read_text(encoding="utf-8")
        forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "javascript:",
            " style=",
            "onclick=",
        ]
        assert [word for word in forbidden if word in source] == [], name
        assert [address for address in re.findall(r"http://[\w.]+", source) if address != "http://www.w3.org"] == []
        assert "https:" not in source


@pytest.mark.parametrize(
    "path", ["/_sandbox/outbox/../page.py", "/_sandbox/outbox/%2e%2e%2fpage.py", "/_sandbox/outbox/page.py"]
)
async def test_only_the_pages_files_are_served(served, path) -> None:
    """A path that names no file of the page is answered with 404."""
    _, client = served

    reply = await client.get(path)

    assert reply.status_code == 404


# Which callers are admitted.


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "LOCALHOST.", "127.0.0.1:8321", "127.9.9.9", "[::1]:80"])
async def test_loopback_names_are_let_in(served, host) -> None:
    """A Host header with a loopback name is accepted with any port, because a tunnel has its own port."""
    _, client = served

    assert (await client.get("/", headers={"Host": host})).status_code == 200


PATHS = [
    "/",
    "/_sandbox/",
    "/_sandbox/ledger",
    "/_sandbox/outbox/events",
    "/_sandbox/outbox/outbox.js",
    "/_sandbox/settings",
]
API_PATHS = ["/token/user333", "/balance/user333", "/campaigns", "/templates", "/sms", "/no/such/path"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example@localhost",
        "localhost/.evil.example",
        "localhost#.evil.example",
        "localhost?.evil.example",
        "[::1].evil.example",
        "127.0.0.1%evil.example",
        "[::1%evil.example]",
        "localhost:evil.example",
    ],
)
async def test_a_host_header_that_is_no_host_is_refused(served, host) -> None:
    """A Host header that may be read as one name by a proxy, and as another by the sandbox, is refused."""
    _, client = served

    assert (await client.get("/templates", headers={"Host": host})).status_code == 421


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "x@localhost@evil", "", "[::1"],
)
async def test_a_name_of_somebody_elses_is_refused(served, host) -> None:
    """A Host header with a foreign name is refused, because the name may resolve to this machine (DNS rebinding)."""
    _, client = served

    statuses = {path: (await client.get(path, headers={"Host": host})).status_code for path in (*PATHS, *API_PATHS)}

    assert statuses == dict.fromkeys((*PATHS, *API_PATHS), 421)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", ""])
async def test_a_message_under_a_name_of_somebody_elses_is_refused(served, sms, host) -> None:
    """A message under a foreign name is refused before it arrives, although its key and its token are right."""
    sandbox, client = served

    replies = [
        await client.request(method, path, json=sms(callback="http://127.0.0.1:1/"), headers={"Host": host})
        for method, path in (("POST", "/sms"), ("POST", "/mms"), ("POST", "/voice"), ("OPTIONS", "/sms"), ("PUT", "/x"))
    ]

    assert [reply.status_code for reply in replies] == [421] * 5
    assert "localhost" in replies[0].json()["errors"][0]
    assert [arrival.operation for arrival in sandbox.ledger.arrivals] == ["token.get"]  # the client's own


async def test_a_message_from_another_page_is_refused(served, sms) -> None:
    """A message is refused by its Origin or Sec-Fetch-Site, unless these name the sandbox's own page or are absent."""
    sandbox, client = served

    refused = [
        (await client.post("/sms", json=sms(), headers=headers)).status_code
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"})
    ]
    taken = await client.post("/sms", json=sms())

    assert refused == [403] * 3
    assert taken.status_code == 200
    assert len(sandbox.ledger.accepted) == 1


@pytest.mark.parametrize("path", ["/", "/sms", "/_sandbox/outbox/events"])
async def test_a_websocket_under_a_name_of_somebody_elses_is_refused(served, path) -> None:
    """A request to upgrade to a websocket is refused under a foreign name, as any other request."""
    _, client = served
    upgrade = {
        "Host": "evil.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }

    assert (await client.get(path, headers=upgrade)).status_code == 421


@pytest.mark.parametrize("ws", ["none", "wsproto"])
async def test_another_server_shuts_the_door_as_well(ws) -> None:
    """The app refuses a foreign name also where another server runs it, for websockets, too."""
    async with (
        serving(Sandbox().app, ws=ws) as base_url,
        httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False) as client,
    ):
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        replies = [
            await client.get(path, headers={"Host": "evil.example", **more})
            for path in ("/", "/token/user333", "/_sandbox/ledger")
            for more in ({}, upgrade)
        ]
        own = await client.get("/_sandbox/ledger")

    assert {reply.status_code for reply in replies} <= {403, 421}
    assert own.status_code == 200


CHANGES = [
    ("POST", "/_sandbox/settings", {"latency_s": 1}),
    ("POST", "/_sandbox/faults", {"fault": "unavailable"}),
    ("DELETE", "/_sandbox/faults", None),
    ("POST", "/_sandbox/expire-tokens", None),
    ("POST", "/_sandbox/outbox/messages/0/receipt", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES, ids=lambda value: str(value)[-20:])
async def test_a_change_from_another_page_is_refused(served, sms, method, path, body) -> None:
    """A change is refused by its Origin or Sec-Fetch-Site, unless these name the sandbox's own page or are absent."""
    _, client = served
    await client.post("/sms", json=sms(callback="http://127.0.0.1:1/"))
    own = str(client.base_url).rstrip("/")
    tried = [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": own.replace("http", "https")},
        {"Origin": own.rpartition(":")[0]},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ]

    refused = [(await client.request(method, path, json=body, headers=headers)).status_code for headers in tried]
    taken = [
        (await client.request(method, path, json=body, headers=headers)).status_code
        for headers in ({}, {"Origin": own, "Sec-Fetch-Site": "same-origin"})
    ]

    assert refused == [403] * len(tried)
    assert taken == [200, 200]


async def test_where_it_listens_for_others_their_names_for_it_are_let_in() -> None:
    """A sandbox that listens for others accepts its address and private names, but only loopback names on loopback."""
    async with Sandbox().serve("0.0.0.0", allow_remote=True) as base_url:
        port = base_url.rsplit(":", 1)[1]
        address = next(address for address in await own_addresses() if not address.startswith("127."))
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE_S) as client:

            async def status(at: str, host: str) -> int:
                return (await client.get(f"http://{at}:{port}/", headers={"Host": host})).status_code

            let_in = [await status(address, host) for host in (address, "sandbox:8321", "box.local", "localhost")]
            refused = [await status(address, "evil.example"), await status("127.0.0.1", "sandbox")]

    assert let_in == [200] * 4
    assert refused == [421] * 2


async def own_addresses() -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which address would be used
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return [probe.getsockname()[0]]


async def test_in_process_any_host_will_do(connect) -> None:
    """In-process any Host header is accepted, because no browser is involved."""
    pico = await connect(Sandbox(), token=False)

    assert (await pico.get("/")).status_code == 200
    assert (await pico.get("/_sandbox/settings")).status_code == 200


# What the page receives.


async def test_the_stream_tells_of_messages_and_goes_on_where_it_was(served, sms) -> None:
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
async def test_a_cursor_that_means_nothing_here_begins_anew(served, sms, after) -> None:
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


async def test_a_page_is_told_of_so_many_of_the_newest(connect, sms, monkeypatch) -> None:
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


async def test_long_texts_come_few_at_a_time(connect, sms, monkeypatch) -> None:
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


async def test_nothing_long_is_told_again_and_again(served, sms) -> None:
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


async def test_a_message_shows_its_template_and_campaign_also_when_they_are_gone(served, sms) -> None:
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


async def test_a_message_tells_which_fault_befell_it(served, sms) -> None:
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
async def test_a_message_that_is_not_there(served, number) -> None:
    """A message that does not exist is answered with 404; a receipt for it is refused as well."""
    _, client = served

    assert (await client.get(f"/_sandbox/outbox/messages/{number}")).status_code == 404
    assert (await client.post(f"/_sandbox/outbox/messages/{number}/receipt")).status_code in (404, 405)


async def test_the_stream_tells_of_receipts_and_send_again_sends_one_more(served, sms, clock, monkeypatch) -> None:
    """The stream reports the state of a receipt as it changes, and a receipt that is sent again is marked as a copy."""
    sandbox, client = served
    # The clock by which receipts come due, so that both states are told of.
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


async def test_send_again_says_why_it_cannot(served, sms) -> None:
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
    """The limits show sends per second by verdict, the densest second, and each request that did not go through."""
    sandbox = Sandbox(clock=clock)
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        for _ in range(35):
            await pico.post("/sms", json=sms())
            clock.advance(0.01)
        clock.advance(0.9)
        await pico.post("/sms", json=sms(to="no number"))
        async with listening(base_url) as next_event:
            told, _ = await next_event("limits")
            clock.advance(10)
            await pico.post("/sms", json=sms())
            later, _ = await next_event("limits")

    assert told["rate"] == 30
    assert told["seconds"] == [[1000, 30, 5, 0], [1001, 0, 0, 1]]
    assert told["densest"]["count"] == sandbox.ledger.densest() == 35
    assert told["verdicts"] == {**sandbox.ledger.counts(), "accepted": told["verdicts"]["accepted"]}
    assert [one["verdict"] for one in told["failed"]] == ["refused-rate"] * 5 + ["rejected"]
    assert later["seconds"] == [[1001, 0, 0, 1], [1011, 1, 0, 0]]  # from the last reported second on


# What the page can change.


async def test_a_change_takes_effect_on_the_next_request(connect, sms) -> None:
    """
    A change of dialect, rates, rate rule, latency or fault rate affects the next request.

    The stream reports changes.
    """
    sandbox = Sandbox()
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        async with listening(base_url) as next_event:
            before, _ = await next_event("settings")
            wanted = {"dialect": "ruoyi", "rates": {"sms": 0.01}, "receipts": {"on": True, "form": "query"}}
            reply = await pico.post("/_sandbox/settings", json=wanted)
            after, _ = await next_event("settings")
        replies = [await pico.post("/sms", json=sms()) for _ in range(2)]
        await pico.post("/_sandbox/settings", json={"rate_rule": None})
        free = [(await pico.post("/sms", json=sms())).json() for _ in range(3)]
        await pico.post("/_sandbox/settings", json={"latency_s": 3600})
        with pytest.raises(httpx.ReadTimeout):
            await pico.post("/sms", json=sms(), timeout=httpx.Timeout(30, read=0.1))
        await pico.post("/_sandbox/settings", json={"latency_s": 0})
        prompt = await pico.post("/sms", json=sms(), timeout=30)
        await pico.post("/_sandbox/settings", json={"fault_rate": 1, "fault_kinds": ["garbage-reply"]})
        garbage = await pico.post("/sms", json=sms())

    assert (before["dialect"], before["rates"]["sms"], before["receipts"]["on"]) == ("documented", 30, False)
    assert reply.json() == after
    assert (after["dialect"], after["rates"]["sms"], after["receipts"]["form"]) == ("ruoyi", 0.01, "query")
    assert after["rates"]["token"] == 1
    assert [reply.json().get("code") for reply in replies] == [None, 500]
    assert all("request_id" in reply for reply in free)
    assert prompt.status_code == 200
    assert garbage.content.startswith(b"\xff")


WRONG = [
    [],
    "x",
    {"latency_s": -1},
    {"latency_s": "1"},
    {"latency_s": True},
    {"latency_s": 1e9},
    {"latency_s": 10**400},
    {"jitter_s": None},
    {"rates": {"smss": 1}},
    {"rates": {"sms": 0}},
    {"rates": {"sms": 1e-400}},
    {"rates": []},
    {"rate_rule": "strict"},
    {"rate_rule": []},
    {"dialect": {}},
    {"fault_rate": 2},
    {"fault_rate": 0.5, "fault_kinds": []},
    {"fault_kinds": ["no-such-fault"]},
    {"fault_kinds": "unavailable"},
    {"receipts": {"form": "pigeon"}},
    {"receipts": {"on": "yes"}},
    {"receipts": {"allow_hosts": ["*"]}},
    {"receipts": {"transport": None}},
    {"receipts": {"tries": 10**9}},
    {"receipts": []},
    {"unknown": 1},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: json.dumps(value)[:40])
async def test_a_wrong_change_changes_nothing(connect, wrong) -> None:
    """A wrong change is rejected as a whole, with one error. The page cannot change which hosts get receipts."""
    pico = await connect(Sandbox(), token=False)
    before = (await pico.get("/_sandbox/settings")).json()
    if isinstance(wrong, dict) and "latency_s" not in wrong:
        wrong = {"latency_s": 7, **wrong}

    reply = await pico.post("/_sandbox/settings", json=wrong)

    assert reply.status_code == 400
    assert len(reply.json()["errors"]) == 1
    assert (await pico.get("/_sandbox/settings")).json() == before


@pytest.mark.parametrize("path", ["/_sandbox/settings", "/_sandbox/faults"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe\xfd", 400),
        (b"[" * 100_000, 400),
        (b'{"latency_s": NaN, "fault": NaN}', 400),
        (b'{"latency_s": 1e999, "fault": "unavailable", "times": 1e999}', 400),
        (b'{"\\ud800": 1}', 400),
        (b'{"fault": "unavailable", "to": 5, "latency_s": []}', 400),
        (b'{"fault": [], "latency_s": []}', 400),
        (b'{"fault": "unavailable", "operation": [], "latency_s": {}}', 400),
        (b" " * 300_000, 413),
    ],
    ids=range(11),
)
async def test_a_body_that_is_nonsense_is_refused(connect, path, body, status) -> None:
    """A malformed or too large body is refused with an error, and does not make the sandbox fail."""
    pico = await connect(Sandbox(), token=False)

    reply = await pico.post(path, content=body)

    assert reply.status_code == status
    assert reply.json()["errors"]


async def test_a_fault_for_half_a_surrogate_is_shown_like_any_other(connect) -> None:
    """A fault rule for a destination with an unpaired surrogate is shown like any other rule."""
    pico = await connect(Sandbox(), token=False)

    injected = await pico.post("/_sandbox/faults", content=b'{"fault": "unavailable", "to": "\\ud800"}')
    shown = await pico.get("/_sandbox/settings")

    assert injected.status_code == shown.status_code == 200
    assert shown.json()["faults"][0]["to"] == "\ud800"


# Load and shutdown.


async def test_fifty_open_streams_end_with_the_server(connect, sms, caplog) -> None:
    """Fifty open streams end with the server, and leave no log line and no task."""
    sandbox = Sandbox(rates={})
    before = asyncio.all_tasks()
    heard = []

    async def listen(base_url: str) -> None:
        with pytest.raises((httpx.TransportError, AssertionError)):
            async with listening(base_url) as next_event:
                heard.append(await next_event("messages"))
                await next_event("never")

    async with anyio.create_task_group() as group:
        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            for _ in range(50):
                group.start_soon(listen, base_url)
            await pico.post("/sms", json=sms())
            await until(lambda: len(heard) == 50)
    await until(lambda: asyncio.all_tasks() <= before, "no task is left")

    assert [record for record in caplog.records if not record.name.startswith("http")] == []


async def test_a_reader_that_does_not_read_costs_one_batch(connect, sms) -> None:
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
