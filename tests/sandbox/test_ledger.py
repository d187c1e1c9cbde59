"""The ledger records each request and each message, and answers questions about them."""

import json

import pytest

from pico_async.sandbox import Arrival, FaultRule, Ledger, Message, Sandbox


def arrivals_at(*times: float, operation: str = "sms.send") -> Ledger:
    ledger = Ledger()
    for at in times:
        ledger.record(Arrival(at, operation, "8612345678901", "accepted"))
    return ledger


def test_densest_is_half_open() -> None:
    """Two arrivals exactly one window apart are not in one window; a millisecond closer, they are."""
    assert arrivals_at().densest() == 0
    assert arrivals_at(1.0, 2.0).densest() == 1
    assert arrivals_at(1.0, 1.999).densest() == 2


def test_densest_finds_the_worst_window_wherever_it_begins() -> None:
    """The densest window may begin at any arrival, not only at the borders of a grid."""
    ledger = arrivals_at(0.0, 0.9, 1.1, 1.2, 1.85, 1.95, 3.0)

    assert ledger.densest() == 4
    assert ledger.densest(1.06) == 5
    assert ledger.densest(0.2) == 2


def test_densest_of_an_even_stream() -> None:
    """An even stream of 30 arrivals a second has 30 in its densest second."""
    assert arrivals_at(*(index / 30 for index in range(300))).densest() == 30


def test_densest_looks_at_one_operation() -> None:
    """The densest second is counted for one operation, because each operation has a rate of its own."""
    ledger = arrivals_at(1.0, 1.0, 1.0, operation="mms.send")

    assert ledger.densest() == 0
    assert ledger.densest(operation="mms.send") == 3


async def test_every_arrival_is_recorded_in_order(connect, clock, sms) -> None:
    """Accepted, rejected, unauthorised and refused requests are all recorded in order, with the time of the clock."""
    sandbox = Sandbox(clock=clock, rates={"sms": 2})
    pico = await connect(sandbox)
    clock.advance(0.25)
    accepted = await pico.post("/sms", json=sms())
    rejected = await pico.post("/sms", json=sms(to="bad"))
    refused = await pico.post("/sms", json=sms())
    clock.advance(0.25)
    await pico.get("/balance/user333", headers={"Authorization": "Bearer stale"})

    lines = [
        (line.at - 1000.0, line.operation, line.to, line.verdict, line.request_id, line.kind)
        for line in sandbox.ledger.arrivals[1:]
    ]

    to = "8612345678901"
    assert lines == [
        (0.25, "sms.send", to, "accepted", accepted.json()["request_id"], "sms"),
        (0.25, "sms.send", "bad", "rejected", rejected.json()["request_id"], "sms"),
        (0.25, "sms.send", to, "refused-rate", refused.json()["request_id"], "sms"),
        (0.5, "balance.get", None, "unauthorised", None, None),
    ]
    assert sandbox.ledger.refusals == 1
    assert sandbox.ledger.counts() == {
        "accepted": 2,
        "refused-rate": 1,
        "rejected": 1,
        "unauthorised": 1,
        "duplicate": 0,
        "dropped": 0,
    }


async def test_token_requests_count_granted_and_refused_ones(connect, clock) -> None:
    """The count of token requests includes refused ones, because it shows how often a client asked."""
    sandbox = Sandbox(clock=clock)
    pico = await connect(sandbox)
    await pico.get("/token/user333")

    assert sandbox.ledger.token_requests == 2


async def test_sent_to_and_duplicates(connect, sms) -> None:
    """Messages are duplicates if kind, number and content are equal; `sent_to` lists all messages to a number."""
    sandbox = Sandbox()
    pico = await connect(sandbox)
    for body in (sms(), sms(), sms(), sms(text="another"), sms(to="8612345678902")):
        await pico.post("/sms", json=body)
    await pico.post("/voice", json=sms())

    ledger = sandbox.ledger
    assert [message.kind for message in ledger.sent_to("+8612345678901")] == ["sms"] * 4 + ["voice"]
    assert ledger.sent_to("8600000000") == []
    assert ledger.duplicates() == {("sms", "8612345678901", "Your verification code is 1234"): 3}


async def test_a_message_shows_no_text_in_its_repr(connect, sms) -> None:
    """The repr of a message shows no text, so that a failing assertion prints no code into a log."""
    sandbox = Sandbox()
    pico = await connect(sandbox)
    await pico.post("/sms", json=sms())

    assert "1234 " not in repr(sandbox.ledger.accepted)
    assert "Your verification code" not in repr(sandbox.ledger.accepted)


async def test_the_ledger_can_be_read_from_another_process(connect, clock, sms) -> None:
    """GET /_sandbox/ledger returns the whole ledger, and `from_rows` makes an equal ledger from it."""
    sandbox = Sandbox(clock=clock, faults=[FaultRule("accept-then-drop", times=1, after=1)])
    pico = await connect(sandbox)
    await pico.post("/sms", json=sms())
    with pytest.raises(Exception, match="disconnected"):
        await pico.post("/sms", json=sms())
    clock.advance(0.5)
    await pico.post("/sms", json=sms(to="bad"))

    dump = (await pico.get("/_sandbox/ledger")).json()

    copy = Ledger.from_rows(dump["arrivals"], dump["accepted"])
    assert copy.arrivals == sandbox.ledger.arrivals
    assert copy.accepted == sandbox.ledger.accepted
    assert copy.duplicates() == sandbox.ledger.duplicates() != {}
    assert (dump["token_requests"], dump["refusals"], dump["total_arrivals"], dump["total_accepted"]) == (1, 0, 4, 2)
    assert dump["counts"] == sandbox.ledger.counts()


async def test_a_part_of_the_ledger(connect, sms) -> None:
    """With `since=N` the ledger begins at arrival N, with the messages that came then and later."""
    sandbox = Sandbox()
    pico = await connect(sandbox)
    for number in range(4):
        await pico.post("/sms", json=sms(text=str(number)))
        await pico.post("/sms", json=sms(to="bad"))

    async def texts(since: int) -> tuple[int, list[str]]:
        dump = (await pico.get("/_sandbox/ledger", params={"since": since})).json()
        return len(dump["arrivals"]), [message["text"] for message in dump["accepted"]]

    # Arrival 0 is the token request; then messages and refusals alternate.
    assert await texts(0) == (9, ["0", "1", "2", "3"])
    assert await texts(5) == (4, ["2", "3"])
    assert await texts(6) == (3, ["3"])
    assert await texts(9) == (0, [])
    assert await texts(99) == (0, [])


@pytest.mark.parametrize("since", ["-1", "x", ""])
async def test_a_wrong_since_is_refused(connect, since) -> None:
    """A `since` that is not the number of an arrival is answered with 400."""
    pico = await connect(Sandbox())

    assert (await pico.get("/_sandbox/ledger", params={"since": since})).status_code == 400


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.full)])
async def test_a_hundred_thousand_arrivals_can_be_downloaded(connect, count) -> None:
    """A ledger of 100,000 arrivals, as of a benchmark, is downloaded whole and as valid JSON."""
    sandbox = Sandbox()
    pico = await connect(sandbox, token=False)
    for number in range(count):
        message = Message(at=float(number), kind="sms", to="8612345678901", request_id=str(number), text="code")
        sandbox.ledger.record(Arrival(float(number), "sms.send", message.to, "accepted", message.request_id), message)

    reply = await pico.get("/_sandbox/ledger")

    dump = json.loads(reply.content)
    assert len(dump["arrivals"]) == len(dump["accepted"]) == count
    assert dump["arrivals"][-1]["request_id"] == str(count - 1)
