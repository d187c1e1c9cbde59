"""In a real browser, the outbox shows messages as they arrive and lets people control the sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from pico_async import InDoubtError, PicoError, PicoSession, Rates
from pico_async.sandbox import Arrival, Message, Receipts, Sandbox
from tests.sandbox.receiver import receiving
from tests.support.browser import browser
from tests.support.waiting import PATIENCE_S

TO, SENDER = "8612345678901", "8612345678888"
if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

# Runs before the page's own scripts, and records what the policy blocked and how long the longest task took.
WATCH = """
window.watched = {violations: [], longest: 0};
addEventListener("securitypolicyviolation", (event) => watched.violations.push(event.violatedDirective));
new PerformanceObserver((all) => {
  for (const one of all.getEntries()) watched.longest = Math.max(watched.longest, one.duration);
}).observe({type: "longtask", buffered: true});
"""


def session(sandbox: Sandbox, base_url: str, **options) -> PicoSession:
    """Make a session for a sandbox without limits; it waits for no token either."""
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        base_url=base_url,
        sender=SENDER,
        retries=0,
        timeout=PATIENCE_S,
        rates=Rates(token=None),
        **options,
    )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Return one backend for all tests here, so that they share one event loop and the browser, which starts slowly."""
    return "asyncio"


@pytest.fixture(scope="module")
async def chromium(anyio_backend: str) -> AsyncIterator[BrowserContext]:
    async with browser() as context:
        yield context


@pytest.fixture
async def look(chromium: BrowserContext) -> AsyncIterator[Callable[..., Awaitable]]:
    """
    Yield a function that opens a sandbox's page in a browser.

    After each test, no request has left the sandbox's origin, no error was thrown, and the policy blocked nothing.
    """
    seen = []
    async with AsyncExitStack() as stack:

        async def open_page(
            base_url: str, path: str = "/", width: int = 1280, height: int = 800, scheme: str = "light"
        ):
            page = await chromium.new_page()
            stack.push_async_callback(page.close)
            await page.set_viewport_size({"width": width, "height": height})
            await page.emulate_media(color_scheme=scheme)
            page.set_default_timeout(PATIENCE_S * 1000)
            requests, errors = [], []
            page.on("request", lambda request: requests.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
            await page.add_init_script(WATCH)
            await page.goto(base_url + path)
            await page.wait_for_selector('#link[data-state="live"]')
            seen.append((page, base_url, requests, errors))
            return page

        yield open_page
        for page, base_url, requests, errors in seen:
            assert errors == []
            assert await page.evaluate("watched.violations") == []
            assert requests
            assert [url for url in requests if not url.startswith(f"{base_url}/")] == []


@asynccontextmanager
async def serving(**options):
    sandbox = Sandbox(rates={}, **options)
    async with sandbox.serve() as base_url:
        yield sandbox, base_url


def record(sandbox: Sandbox, count: int) -> None:
    """Record messages in the ledger directly, because sending them takes seconds."""
    first = len(sandbox.ledger.accepted)
    for number in range(first, first + count):
        to, request_id = f"8612{number:09}", f"request-{number}"
        message = Message(
            at=sandbox.ledger.arrivals[-1].at if sandbox.ledger.arrivals else 0.0,
            kind="sms",
            to=to,
            request_id=request_id,
            sender=SENDER,
            text=f"Your code is {number}",
        )
        sandbox.ledger.record(Arrival(message.at, "sms.send", to, "accepted", request_id, "sms"), message)


async def test_a_message_shows_without_a_reload(look) -> None:
    """A message appears in the list and in the count after its acceptance, without a reload."""
    async with serving() as (sandbox, base_url), session(sandbox, base_url) as pico:
        page = await look(base_url)
        assert await page.is_visible("text=Nothing has arrived yet")
        await page.evaluate("window.mark = 'not reloaded'")

        for number in range(3):
            await pico.sms.send(TO, f"Your code is 123{number}")
            await page.wait_for_selector(f".row >> text=Your code is 123{number}")

        assert await page.text_content("#total") == "3"
        assert await page.evaluate("window.mark") == "not reloaded"
        assert await page.is_hidden("text=Nothing has arrived yet")


async def test_markup_in_a_message_shows_as_text_and_runs_nothing(look, sms) -> None:
    """Markup in text, sender, callback, extra fields or template of a message is shown as text and runs no code."""
    evil = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\"><svg onload=window.hacked=1>"
    async with serving() as (sandbox, base_url), session(sandbox, base_url) as pico:
        campaign = await pico.campaigns.create(evil[:50], remark=evil)
        template = await pico.templates.create_sms(campaign.campaign_id, evil, f"{evil} {{{{<b>}}}}")
        async with httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False) as raw:
            token = (await pico.token.get()).token
            raw.headers.update({"X-API-Key": sandbox.api_key, "Authorization": f"Bearer {token}"})
            callback = "http://127.0.0.1:1/<script>window.hacked=1</script>"
            body = sms(**{"from": evil, "text": evil, "callback": callback, evil: evil, "x": [evil]})
            assert (await raw.post("/sms", json=body)).is_success
            body = sms(**{"from": evil, "text": None, "templateId": template.request_id})
            assert (await raw.post("/sms", json=body)).is_success
        page = await look(base_url)
        elements = "document.querySelectorAll('script, img, svg, iframe, object, [onerror], [onload]').length"
        await page.wait_for_selector(".row >> nth=1")
        before = await page.evaluate(elements)
        rows = await page.evaluate("[...document.querySelectorAll('.row:not([hidden])')].map(row => row.textContent)")
        await page.fill("#search", "<script>")
        await page.wait_for_selector("text=2 of 2")
        await page.click("#m0")
        await page.wait_for_selector(".pairs dd >> text=onerror")
        shown = await page.text_content("#message")
        await page.click("#m1")
        await page.wait_for_selector("#template")
        unfilled = await page.text_content("#template")
        marked = await page.text_content("#template mark")

        after = await page.evaluate(elements)
        hacked = await page.evaluate("window.hacked")

    assert hacked is None
    assert all(row.count(evil) == 2 for row in rows)
    assert shown.count(evil) == 4  # sender, text, the field's name and its value
    assert json.dumps([evil]) in shown
    assert callback in shown
    assert unfilled == f"{evil} {{{{<b>}}}}"
    assert marked == "{{<b>}}"
    assert after == before


async def test_five_thousand_messages_stay_few_rows(look, record_property) -> None:
    """
    With 5000 messages and more arriving, the page has under 60 rows and finds a text.

    How long the page was busy at most is a property of the report; it depends on the machine.
    """
    async with serving() as (sandbox, base_url):
        record(sandbox, 5000)
        page = await look(base_url)
        await page.wait_for_function("document.getElementById('total').textContent === '5,000'")

        async def arrive() -> None:
            while True:
                record(sandbox, 20)
                await asyncio.sleep(0.05)

        arriving = asyncio.create_task(arrive())
        rows = []
        for place in range(0, 5000, 250):
            await page.evaluate(f"document.getElementById('list').scrollTop = {place * 72}")
            await page.evaluate("new Promise(requestAnimationFrame)")
            rows.append(await page.evaluate("document.querySelectorAll('.row').length"))
        await page.click("#search")
        await page.keyboard.type("code is 4321", delay=20)
        await page.wait_for_selector(".row >> text=Your code is 4321")
        found = await page.evaluate("[...document.querySelectorAll('.row:not([hidden])')].map(row => row.textContent)")
        arriving.cancel()
        longest = await page.evaluate("watched.longest")

    record_property("longest_task_ms", longest)
    assert max(rows) < 60
    assert len(found) == 1


async def test_keys_reach_the_newest_and_the_oldest_of_ten_thousand(look) -> None:
    """The keys End and g reach the oldest and newest of 10,000 messages; the view does not move as others arrive."""
    async with serving() as (sandbox, base_url):
        record(sandbox, 10_000)
        page = await look(base_url)
        await page.wait_for_function("document.getElementById('total').textContent === '10,000'")
        await page.focus("#list")

        await page.keyboard.press("End")
        await page.wait_for_selector("#m0[aria-selected=true]")
        place = await page.get_attribute("#m0", "aria-posinset")
        box = await page.locator("#m0").bounding_box()
        record(sandbox, 300)
        await page.wait_for_selector("#m0[aria-posinset='10300']")
        moved = await page.locator("#m0").bounding_box()
        await page.keyboard.press("g")
        await page.wait_for_selector("#m10299[aria-selected=true]")

    assert place == "10000"
    assert abs(box["y"] - moved["y"]) < 2


async def test_the_chaos_panel_changes_the_next_send(look) -> None:
    """
    Faults, latency, fault rate and stale tokens from the panel affect later requests.

    A wrong value is an error and changes nothing. The lamp is on only after a change.
    """
    async with serving(seed=1) as (sandbox, base_url), session(sandbox, base_url) as pico:
        page = await look(base_url, "/#/chaos")
        result = page.locator(".result")
        lamp_before = await page.is_visible("#chaos-on")

        await page.select_option("[name=fault]", "accept-then-drop")
        await page.click("text=Inject")
        await page.wait_for_selector(".rules >> text=accept-then-drop on sms.send, 1 time")
        with pytest.raises(InDoubtError):
            await pico.sms.send(TO, "one")
        await pico.sms.send(TO, "two")

        await page.select_option("[name=rate_rule]", "none")
        await page.fill("[name=fault_rate]", "100")
        await page.press("[name=fault_rate]", "Tab")
        await page.wait_for_selector("text=Share of the sends: set")
        struck = 0
        for number in range(3):
            try:
                await pico.sms.send(TO, f"struck {number}")
            except PicoError:
                struck += 1
        await page.click("text=Remove all faults")
        await page.wait_for_selector("text=All faults are removed")
        await pico.sms.send(TO, "three")

        token = (await pico.token.get()).token
        headers = {"X-API-Key": sandbox.api_key}
        async with httpx.AsyncClient(
            base_url=base_url, trust_env=False, verify=False, headers=headers, timeout=PATIENCE_S
        ) as raw:
            fresh = await raw.get("/campaigns", headers={"Authorization": f"Bearer {token}"})
            await page.click("text=Expire all tokens")
            await page.wait_for_selector("text=All tokens are stale")
            stale = await raw.get("/campaigns", headers={"Authorization": f"Bearer {token}"})
            await pico.sms.send(TO, "four")

            await page.fill("[name=latency]", "300")
            await page.press("[name=latency]", "Tab")
            await page.wait_for_selector("text=Latency: set")
            started = asyncio.get_running_loop().time()
            await pico.sms.send(TO, "five")
            late = asyncio.get_running_loop().time() - started

            await page.fill("[name=latency]", "-5")
            await page.press("[name=latency]", "Tab")
            await page.wait_for_selector(".result[data-mood=bad]")
            wrong = await result.text_content()
            settings = (await raw.get("/_sandbox/settings")).json()
        lamp = await page.is_visible("#chaos-on")

    assert late >= 0.3
    assert "latency_s=-0.005" in wrong
    assert (settings["latency_s"], settings["rate_rule"], settings["fault_rate"]) == (0.3, None, 0)
    assert struck == 3
    assert (fresh.status_code, stale.status_code) == (200, 401)
    assert not lamp_before
    assert lamp  # the latency is still there


async def test_receipts_show_as_they_come_and_can_be_sent_again(look) -> None:
    """Receipts that the panel turned on appear in the list and in the message, and can be sent again."""
    async with (
        receiving(500, 204) as receiver,
        serving() as (sandbox, base_url),
        session(sandbox, base_url) as pico,
    ):
        page = await look(base_url, "/#/chaos")
        for name, value in (("sent_after", "0"), ("delivered_after", "0.2"), ("backoff", "0.1")):
            await page.fill(f"[name={name}]", value)
            await page.press(f"[name={name}]", "Tab")
        await page.check("[name=receipts]")
        await page.wait_for_selector("text=Delivery receipts: set")
        await page.click("text=Outbox")
        await pico.sms.send(TO, "hello", callback=f"{receiver.url}/dlr?sig=abc")
        await page.click(".row >> text=hello")
        await page.wait_for_selector(".row .state[data-mood=good] >> text=Delivered")
        await page.wait_for_selector(".tries li >> nth=2")
        tries = await page.evaluate("[...document.querySelectorAll('.try-result')].map(one => one.textContent)")
        await page.click("#again")
        await page.wait_for_selector(".tries li >> nth=3")
        await page.wait_for_selector(".tries li:last-child >> text=copy")

    assert tries == ["500", "acknowledged, 204", "acknowledged, 204"]
    assert [line for line, _, _ in receiver.got] == ["POST /dlr?sig=abc HTTP/1.1"] * 4


async def test_the_limits_show_what_the_server_refused(look, clock) -> None:
    """The limits page shows accepted and refused sends against the limit, the densest second, and each refusal."""
    # All 40 sends come within one second of this clock.
    sandbox = Sandbox(clock=clock)
    async with (
        sandbox.serve() as base_url,
        httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False, timeout=PATIENCE_S) as raw,
    ):
        page = await look(base_url, "/#/limits", scheme="dark")
        token = (await raw.get("/token/user333", headers={"X-API-Key": sandbox.api_key})).json()["token"]
        raw.headers.update({"X-API-Key": sandbox.api_key, "Authorization": f"Bearer {token}"})
        body = {"username": "user333", "from": SENDER, "to": TO, "text": "x"}
        for _ in range(40):
            await raw.post("/sms", json=body)
        await page.wait_for_selector("#chart rect.refused", state="attached")
        await page.wait_for_selector(".tile[data-mood=bad] >> text=40")
        await page.wait_for_selector("#failed tr >> nth=9")
        # In one step, because the page redraws the chart each second.
        limit, accepted, words = await page.evaluate(
            """() => [
              document.querySelector("#chart line.limit").getBoundingClientRect().y,
              [...document.querySelectorAll("#chart rect.accepted")].at(-1).getBoundingClientRect().y,
              document.querySelector("#chart svg").getAttribute("aria-label"),
            ]"""
        )

    assert "30 sends accepted, 10 refused" in words
    assert accepted >= limit - 1  # 30 or less do not cross the line


async def test_the_keyboard_is_enough(look) -> None:
    """The keys /, Esc, j, k, ?, arrows, digits and Enter reach everything, and the focus is visible."""
    async with serving() as (sandbox, base_url):
        record(sandbox, 30)
        page = await look(base_url)
        await page.wait_for_selector("#m29")
        active = "document.activeElement.id"

        await page.keyboard.press("/")
        in_search = await page.evaluate(active)
        await page.keyboard.type("code is 2")
        await page.wait_for_selector("text=11 of 30")
        await page.keyboard.press("Enter")
        after_enter = await page.evaluate(active)
        await page.wait_for_selector("#m29[aria-selected=true]")
        await page.keyboard.press("j")
        await page.wait_for_selector("#m28[aria-selected=true]")
        await page.keyboard.press("ArrowDown")
        await page.wait_for_selector("#m27[aria-selected=true]")
        await page.keyboard.press("k")
        await page.wait_for_selector("#m28[aria-selected=true]")
        descendant = await page.get_attribute("#list", "aria-activedescendant")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        await page.keyboard.press("Enter")
        in_message = await page.evaluate(active)
        await page.wait_for_selector("#text >> text=Your code is 28")
        await page.keyboard.press("Escape")
        back = await page.evaluate(active)
        await page.keyboard.press("/")
        await page.keyboard.press("Escape")
        cleared = await page.input_value("#search")
        await page.keyboard.press("?")
        await page.wait_for_selector("dialog[open]")
        await page.keyboard.press("Escape")
        await page.keyboard.press("2")
        await page.wait_for_selector("h1:has-text('Limits')")

    assert (in_search, after_enter, in_message, back) == ("search", "list", "message", "list")
    assert descendant == "m28"
    assert outline == "solid"
    assert cleared == ""


async def test_a_narrow_screen_needs_no_sideways_scrolling(look) -> None:
    """At 360 px no page scrolls sideways; the message covers the list, and a link leads back to the list."""
    async with serving() as (sandbox, base_url), session(sandbox, base_url) as pico:
        await pico.sms.send(TO, "x" * 700, callback="http://127.0.0.1:1/" + "y" * 300)
        page = await look(base_url, width=360, height=640)
        overflow = "document.documentElement.scrollWidth - innerWidth"
        wide = (
            "[...document.querySelectorAll('.padded, .message, #list')]"
            ".some(one => one.scrollWidth > one.clientWidth + 1)"
        )

        await page.click(".row")
        await page.wait_for_selector("#text")
        seen = [(await page.evaluate(overflow), await page.evaluate(wide), await page.is_visible("#list"))]
        await page.click("text=← All messages")
        for path, there in (("#/", "#list"), ("#/limits", "#limits"), ("#/chaos", "#chaos")):
            await page.evaluate(f"location.hash = '{path}'")
            await page.wait_for_selector(there)
            seen.append((await page.evaluate(overflow), await page.evaluate(wide), await page.is_visible("#list")))

    assert seen == [(0, False, False), (0, False, True), (0, False, False), (0, False, False)]


async def test_the_page_reconnects_and_misses_no_message(look) -> None:
    """After a lost connection the page shows what arrived meanwhile; a new sandbox at the address clears the list."""
    sandbox = Sandbox(rates={}, receipts=Receipts())
    async with sandbox.serve() as base_url:
        port = int(base_url.rsplit(":", 1)[1])
        record(sandbox, 3)
        page = await look(base_url)
        await page.wait_for_selector("#m2")
    await page.wait_for_selector('#link[data-state="lost"]')
    record(sandbox, 2)
    async with sandbox.serve(port=port):
        await page.wait_for_selector("#m4")
        total = await page.text_content("#total")
        rows = await page.evaluate("[...document.querySelectorAll('.row:not([hidden])')].map(row => row.id)")
    async with Sandbox().serve(port=port):
        await page.wait_for_selector("text=Nothing has arrived yet")

    assert total == "5"
    assert sorted(rows) == ["m0", "m1", "m2", "m3", "m4"]
