"""Settings of a running sandbox can be read and changed over HTTP, and a wrong change changes nothing."""

import json

import httpx
import pytest

from pico_async.sandbox import Sandbox
from tests.sandbox.event_stream import listening


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
async def test_a_malformed_body_is_refused(connect, path, body, status) -> None:
    """A malformed or too large body is refused with an error, and does not make the sandbox fail."""
    pico = await connect(Sandbox(), token=False)

    reply = await pico.post(path, content=body)

    assert reply.status_code == status
    assert reply.json()["errors"]


async def test_a_fault_for_an_unpaired_surrogate_is_shown(connect) -> None:
    """A fault rule for a destination with an unpaired surrogate is shown like any other rule."""
    pico = await connect(Sandbox(), token=False)

    injected = await pico.post("/_sandbox/faults", content=b'{"fault": "unavailable", "to": "\\ud800"}')
    shown = await pico.get("/_sandbox/settings")

    assert injected.status_code == shown.status_code == 200
    assert shown.json()["faults"][0]["to"] == "\ud800"
