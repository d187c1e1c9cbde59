"""The host check admits requests of this machine, and refuses foreign host names and changes by foreign pages."""

import socket

import httpx
import pytest

from pico_async.sandbox import Sandbox
from tests.integrations.web_apps import serving
from tests.support.waiting import PATIENCE_S


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "LOCALHOST.", "127.0.0.1:8321", "127.9.9.9", "[::1]:80"])
async def test_loopback_names_are_admitted(served, host) -> None:
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
async def test_a_foreign_host_name_is_refused(served, host) -> None:
    """A Host header with a foreign name is refused, because the name may resolve to this machine (DNS rebinding)."""
    _, client = served

    statuses = {path: (await client.get(path, headers={"Host": host})).status_code for path in (*PATHS, *API_PATHS)}

    assert statuses == dict.fromkeys((*PATHS, *API_PATHS), 421)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", ""])
async def test_a_message_under_a_foreign_host_name_is_refused(served, sms, host) -> None:
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
async def test_a_websocket_under_a_foreign_host_name_is_refused(served, path) -> None:
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
async def test_the_check_holds_on_another_server(ws) -> None:
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


async def test_private_names_are_admitted_if_it_listens_for_others() -> None:
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


async def test_any_host_is_admitted_in_process(connect) -> None:
    """In-process any Host header is accepted, because no browser is involved."""
    pico = await connect(Sandbox(), token=False)

    assert (await pico.get("/")).status_code == 200
    assert (await pico.get("/_sandbox/settings")).status_code == 200
