"""The sandbox on a socket starts, ends, is slow on request, and can be controlled over HTTP."""

import asyncio

import anyio
import httpx
import pytest

from pico_async.sandbox import BANNER, FaultRule, Sandbox
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.lower_bounds


async def test_serve_yields_a_base_url_and_serves_there(connect, sms) -> None:
    """The base URL names loopback and a real port, and its requests reach the sandbox's own ledger."""
    sandbox = Sandbox()
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        reply = await pico.post("/sms", json=sms())

    assert base_url.startswith("http://127.0.0.1:")
    assert base_url.rsplit(":", 1)[1] != "0"
    assert reply.json()["request_id"] == sandbox.ledger.accepted[0].request_id


@pytest.mark.parametrize(
    ("path", "slow"),
    [("settings", {"latency_s": 3600.0}), ("faults", {"fault": "accept-then-hang", "delay_s": 3600.0})],
)
async def test_nothing_is_left_behind(connect, sms, path, slow) -> None:
    """
    After the server ends no task is left and its port is closed, even if a request was in progress.

    The reply to that request would take an hour, and its client waits without a timeout.
    """
    sandbox = Sandbox()
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as group:

        async def send_and_lose() -> None:
            with pytest.raises(httpx.TransportError):
                await pico.post("/sms", json=sms(), timeout=None)

        async with sandbox.serve() as base_url:
            pico = await connect(sandbox, base_url)
            assert (await pico.post(f"/_sandbox/{path}", json=slow)).is_success
            group.start_soon(send_and_lose)
            while not sandbox.ledger.accepted:
                await anyio.sleep(0.005)

    assert asyncio.all_tasks() == before
    with pytest.raises(httpx.ConnectError):
        await connect(sandbox, base_url)


async def test_ending_is_silent(connect, sms, caplog) -> None:
    """A request that is cut off when the server ends is not an error of the sandbox, and logs nothing."""
    sandbox = Sandbox(latency_s=3600.0)
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url, token=False)
        with pytest.raises(httpx.ReadTimeout):
            await pico.get("/token/user333", timeout=httpx.Timeout(PATIENCE_S, read=0.05))

    assert [record for record in caplog.records if not record.name.startswith("http")] == []


async def test_a_sandbox_can_be_served_twice(connect, sms) -> None:
    """The account outlives a server: a token from one server is valid at the next."""
    sandbox = Sandbox()
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
    async with sandbox.serve() as base_url:
        again = await connect(sandbox, base_url, token=False)
        reply = await again.post("/sms", json=sms(), headers={"Authorization": pico.headers["Authorization"]})

    assert reply.status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])
async def test_a_host_that_others_reach_is_refused(host) -> None:
    """The sandbox, which protects nothing, listens beyond loopback only with `allow_remote`."""
    with pytest.raises(ValueError, match="allow_remote"):
        async with Sandbox().serve(host):
            pass


async def test_allow_remote(connect) -> None:
    """With `allow_remote` the sandbox listens on an address that others reach."""
    sandbox = Sandbox()
    async with sandbox.serve("0.0.0.0", allow_remote=True) as base_url:
        port = base_url.rsplit(":", 1)[1]
        await connect(sandbox, f"http://127.0.0.1:{port}")


async def test_a_port_that_is_taken_is_an_error() -> None:
    """A second server on a port that is in use raises an error."""
    async with Sandbox().serve() as base_url:
        with pytest.raises(OSError):
            async with Sandbox().serve(port=int(base_url.rsplit(":", 1)[1])):
                pass


async def test_connections_are_kept_alive(connect, sms) -> None:
    """One connection carries many requests; an idle one is closed after `keep_alive_s`."""
    sandbox = Sandbox()
    opened = []

    async def trace(event: str, info: object) -> None:
        if event == "connection.connect_tcp.complete":
            opened.append(event)

    async with sandbox.serve(keep_alive_s=3600.0) as base_url:
        pico = await connect(sandbox, base_url, token=False)
        for _ in range(3):
            await pico.get("/campaigns", extensions={"trace": trace})
    assert len(opened) == 1

    async with sandbox.serve(keep_alive_s=0.05) as base_url:
        pico = await connect(sandbox, base_url, token=False)
        for _ in range(2):
            await pico.get("/campaigns", extensions={"trace": trace})
            await anyio.sleep(0.2)

    assert len(opened) == 3


async def test_many_at_once_are_all_served(connect, sms) -> None:
    """200 concurrent sends over a socket are 200 messages, each with its own request_id."""
    sandbox = Sandbox(rates={})
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        replies = await asyncio.gather(*(pico.post("/sms", json=sms(text=str(number))) for number in range(200)))

    assert {reply.status_code for reply in replies} == {200}
    assert {reply.json()["request_id"] for reply in replies} == {
        message.request_id for message in sandbox.ledger.accepted
    }
    assert len(sandbox.ledger.accepted) == 200


# Slowness.


@pytest.fixture
def waits(clock, monkeypatch) -> list[float]:
    """Replace `anyio.sleep` so that waiting only moves the clock, and return the list of all waits."""
    waited = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(anyio, "sleep", wait)
    return waited


async def test_latency_comes_after_the_arrival(connect, clock, waits) -> None:
    """With latency, the request arrives at once, and only the reply is late."""
    sandbox = Sandbox(clock=clock, latency_s=0.5)
    pico = await connect(sandbox, token=False)
    sent_at = clock.now

    await pico.get("/token/user333")

    assert sandbox.ledger.arrivals[0].at == sent_at
    assert clock.now == sent_at + 0.5


async def test_jitter_comes_before_the_arrival(connect, clock, waits) -> None:
    """With jitter, a request arrives and is recorded after its delay, and the reply follows at once."""
    sandbox = Sandbox(clock=clock, jitter_s=0.1, rates={}, seed=1)
    pico = await connect(sandbox, token=False)

    for _ in range(50):
        sent_at = clock.now
        await pico.get("/campaigns")
        assert sandbox.ledger.arrivals[-1].at == clock.now == sent_at + waits[-1]

    assert len(waits) == 50
    assert 0 <= min(waits) < 0.02
    assert 0.08 < max(waits) <= 0.1


async def test_one_seed_draws_one_jitter(connect, clock, waits) -> None:
    """The same seed draws the same jitter, and another seed draws another, so a run can be repeated."""

    async def drawn(seed: int) -> list[float]:
        del waits[:]
        pico = await connect(Sandbox(clock=clock, jitter_s=0.1, seed=seed), token=False)
        for _ in range(5):
            await pico.get("/campaigns")
        return list(waits)

    first = await drawn(1)

    assert await drawn(1) == first
    assert await drawn(2) != first


async def test_a_request_that_is_given_up_on_its_way_arrives(connect) -> None:
    """In-process, too, a request that the client gives up on its way still arrives."""
    sandbox = Sandbox(jitter_s=3600.0, seed=1)
    pico = await connect(sandbox, token=False)

    with pytest.raises(httpx.ReadTimeout):
        await pico.get("/token/user333", timeout=0.05)

    assert [line.verdict for line in sandbox.ledger.arrivals] == ["accepted"]


async def test_the_read_timeout_holds_in_process(connect) -> None:
    """The read timeout of the client also holds in-process, without a socket."""
    pico = await connect(Sandbox(latency_s=3600.0), token=False)

    with pytest.raises(httpx.ReadTimeout):
        await pico.get("/token/user333", timeout=0.05)


# The remote control.


async def test_control_needs_no_key_and_records_no_arrival(connect) -> None:
    """The control routes need no key or token, meet no fault or rate, and are not recorded as arrivals."""
    sandbox = Sandbox(faults=[FaultRule("unavailable", "*")])
    pico = await connect(sandbox, token=False)
    del pico.headers["X-API-Key"]

    banner = await pico.get("/_sandbox/")
    for _ in range(3):
        assert (await pico.get("/_sandbox/ledger")).status_code == 200

    assert banner.text == BANNER
    assert "stand-in" in BANNER
    assert sandbox.ledger.arrivals == []


async def test_faults_from_another_process(connect, sms) -> None:
    """One fault rule, or a list of them, can be injected and removed over HTTP."""
    sandbox = Sandbox()
    pico = await connect(sandbox)

    one = await pico.post("/_sandbox/faults", json={"fault": "bad-request", "to": "8612345678902"})
    two = await pico.post("/_sandbox/faults", json=[{"fault": "unavailable", "times": 1}, {"fault": "redirect"}])
    statuses = [(await pico.post("/sms", json=sms())).status_code for _ in range(2)]
    statuses.append((await pico.post("/sms", json=sms(to="8612345678902"))).status_code)
    await pico.delete("/_sandbox/faults")
    statuses.append((await pico.post("/sms", json=sms())).status_code)

    assert (one.json(), two.json()) == ({"injected": 1}, {"injected": 2})
    assert statuses == [503, 302, 400, 200]


async def test_expiring_tokens_from_another_process(connect, sms) -> None:
    """A POST to `/_sandbox/expire-tokens` makes every token stale, as `expire_tokens` does."""
    pico = await connect(Sandbox())

    await pico.post("/_sandbox/expire-tokens")

    assert (await pico.post("/sms", json=sms())).status_code == 401
