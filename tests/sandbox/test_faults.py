"""Each fault works in-process and over a socket, and strikes requests by a rule, a magic number or chance."""

from itertools import cycle

import httpx
import pytest

from pico_async.sandbox import DRAWN_FAULTS, Fault, FaultRule, Receipts, Sandbox
from pico_async.sandbox.__main__ import main

TO = "8612345678901"
DROPPED = httpx.RemoteProtocolError
# What a client sees: an exception, or a status and a piece of the body.
SEEN = {
    Fault.ACCEPT_THEN_DROP: DROPPED,
    Fault.DROP_BEFORE_ACCEPT: DROPPED,
    Fault.ACCEPT_THEN_HANG: httpx.ReadTimeout,
    Fault.HANG_BEFORE_ACCEPT: httpx.ReadTimeout,
    Fault.BAD_GATEWAY_BEFORE: (502, "<h1>502 Bad Gateway</h1>"),
    Fault.BAD_GATEWAY_AFTER: (502, "<h1>502 Bad Gateway</h1>"),
    Fault.UNAVAILABLE: (503, "<h1>503"),
    Fault.RATE_LIMITED: (429, '"errors":['),
    Fault.SERVER_TROUBLE_BEFORE: (200, '"code":500'),
    Fault.SERVER_TROUBLE_AFTER: (200, '"code":500'),
    Fault.MASKED_ERROR: (401, "請求訪問:/error,"),
    Fault.STALE_TOKEN: (401, "請求訪問:/sms,"),
    Fault.NO_REQUEST_ID: (200, "{}"),
    Fault.TRUNCATED_REPLY: httpx.ReadError,
    Fault.GARBAGE_REPLY: (200, '{"request_id": '),
    Fault.OVERSIZED_REPLY: (200, "xxxx"),
    Fault.REDIRECT: (302, ""),
    Fault.BAD_REQUEST: (400, '"errors":['),
    Fault.EXPECTATION_FAILED: (417, '"errors":['),
    Fault.DUPLICATE_SUPPRESSED: (200, "重复提交"),
    Fault.REFUSED_CONNECTION: DROPPED,
    Fault.ACCEPT_THEN_RESET: httpx.ReadError,
}
CARRIED_OUT = {
    Fault.ACCEPT_THEN_DROP,
    Fault.ACCEPT_THEN_HANG,
    Fault.BAD_GATEWAY_AFTER,
    Fault.SERVER_TROUBLE_AFTER,
    Fault.MASKED_ERROR,
    Fault.NO_REQUEST_ID,
    Fault.TRUNCATED_REPLY,
    Fault.GARBAGE_REPLY,
    Fault.OVERSIZED_REPLY,
    Fault.ACCEPT_THEN_RESET,
}


def test_every_fault_is_tested_here() -> None:
    """The tables above list every fault, so a new fault needs an entry there."""
    assert set(SEEN) == set(Fault)
    assert {fault for fault in Fault if fault.carried_out} == CARRIED_OUT


def patience_s(fault: Fault) -> float:
    """Return how long a client waits for a reply: briefly for one that hangs, else as long as a busy machine needs."""
    return 0.1 if fault in (Fault.ACCEPT_THEN_HANG, Fault.HANG_BEFORE_ACCEPT) else 30.0


async def send(pico: httpx.AsyncClient, body: dict, path: str = "/sms", timeout: float = 30.0) -> object:
    """Send one message, and return its status and text, or the type of the transport error."""
    try:
        reply = await pico.post(path, json=body, timeout=httpx.Timeout(30.0, read=timeout))
    except httpx.TransportError as error:
        return type(error)
    return reply.status_code, reply.text


def assert_seen(seen: object, expected: object) -> None:
    if isinstance(expected, tuple):
        assert isinstance(seen, tuple)
        assert seen[0] == expected[0]
        assert expected[1] in seen[1]
    else:
        assert seen is expected


@pytest.mark.parametrize("fault", Fault)
async def test_a_fault_in_process(connect, sms, fault) -> None:
    """In-process the client sees each fault as expected, and the message is accepted only if the fault says so."""
    sandbox = Sandbox(faults=[FaultRule(fault, times=1)])
    pico = await connect(sandbox)

    seen = await send(pico, sms(), timeout=patience_s(fault))

    assert_seen(seen, httpx.ConnectError if fault is Fault.REFUSED_CONNECTION else SEEN[fault])
    assert len(sandbox.ledger.accepted) == (fault in CARRIED_OUT)
    assert sandbox.ledger.arrivals[-1].fault == fault
    assert (sandbox.ledger.arrivals[-1].verdict == "accepted") is (fault in CARRIED_OUT)


@pytest.mark.parametrize("fault", Fault)
async def test_a_fault_over_a_socket(connect, sms, caplog, fault) -> None:
    """Over a socket the connection ends as the fault says, uvicorn logs nothing, and the next request is served."""
    sandbox = Sandbox(faults=[FaultRule(fault, times=1)], rates={})
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)

        seen = await send(pico, sms(), timeout=patience_s(fault))

        renewed = await connect(sandbox, base_url)
        assert (await renewed.post("/sms", json=sms())).status_code == 200
    assert_seen(seen, SEEN[fault])
    assert len(sandbox.ledger.accepted) == (fault in CARRIED_OUT) + 1
    assert [record for record in caplog.records if not record.name.startswith("http")] == []


async def test_a_truncated_reply_begins_like_a_good_one(connect, sms) -> None:
    """Status, headers and a part of the body arrive, so the client knows how much is missing."""
    sandbox = Sandbox(faults=[FaultRule(Fault.TRUNCATED_REPLY)])
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        received = b""
        async with pico.stream("POST", "/sms", json=sms()) as reply:
            with pytest.raises(httpx.ReadError):  # what came before the error is kept
                async for chunk in reply.aiter_raw():
                    received += chunk

    assert reply.status_code == 200
    assert received.startswith(b'{"request_id":')
    assert 0 < len(received) < int(reply.headers["Content-Length"])


async def test_a_hang_after_acceptance_delays_the_reply(connect, sms) -> None:
    """A message that is accepted before a hang gets its true reply after `delay_s`."""
    sandbox = Sandbox(faults=[FaultRule(Fault.ACCEPT_THEN_HANG, delay_s=0.05)])
    pico = await connect(sandbox)

    reply = await pico.post("/sms", json=sms())

    assert reply.json() == {"request_id": sandbox.ledger.accepted[0].request_id}


async def test_a_hang_before_acceptance_ends_with_a_closed_connection(connect, sms) -> None:
    """A hang before acceptance ends after `delay_s` with a closed connection, and no message goes out."""
    sandbox = Sandbox(faults=[FaultRule(Fault.HANG_BEFORE_ACCEPT, delay_s=0.05)])
    async with sandbox.serve() as base_url:
        pico = await connect(sandbox, base_url)
        assert await send(pico, sms()) is DROPPED

    assert sandbox.ledger.accepted == []


async def test_an_oversized_reply_exceeds_one_mebibyte(connect, sms) -> None:
    """An oversized reply is JSON with the true request_id, and only its size of more than one MiB is wrong."""
    sandbox = Sandbox(faults=[FaultRule(Fault.OVERSIZED_REPLY)])
    pico = await connect(sandbox)

    reply = await pico.post("/sms", json=sms())

    assert len(reply.content) > 1024 * 1024
    assert reply.json()["request_id"] == sandbox.ledger.accepted[0].request_id


async def test_garbage_is_not_json(connect, sms) -> None:
    """A garbage reply has status 200 and is declared as JSON, but it cannot be parsed as JSON."""
    sandbox = Sandbox(faults=[FaultRule(Fault.GARBAGE_REPLY)])
    pico = await connect(sandbox)

    reply = await pico.post("/sms", json=sms())

    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/json"
    with pytest.raises(ValueError):
        reply.json()


async def test_a_redirect_names_another_host(connect, sms) -> None:
    """A redirect names another host; a client that follows it would send the API key there."""
    sandbox = Sandbox(faults=[FaultRule(Fault.REDIRECT)])
    pico = await connect(sandbox)

    reply = await pico.post("/sms", json=sms())

    assert httpx.URL(reply.headers["Location"]).host == "elsewhere.invalid"


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.RATE_LIMITED])
@pytest.mark.parametrize(("seconds", "header"), [(None, None), (0, "0"), (1.2, "2")])
async def test_retry_after_is_set_by_the_rule(connect, sms, fault, seconds, header) -> None:
    """A reply has Retry-After only if the rule sets it, in whole seconds, rounded up."""
    sandbox = Sandbox(faults=[FaultRule(fault, retry_after_s=seconds)])
    pico = await connect(sandbox)

    reply = await pico.post("/sms", json=sms())

    assert reply.headers.get("Retry-After") == header


async def test_the_dialect_changes_the_form_of_faults(connect, sms) -> None:
    """In RuoYi's dialect refusals of rate and token, real or masked, come under HTTP 200."""
    faults = (Fault.RATE_LIMITED, Fault.STALE_TOKEN, Fault.MASKED_ERROR)
    sandbox = Sandbox(dialect="ruoyi", rates={})

    codes = []
    for fault in faults:
        pico = await connect(sandbox)
        reply = await pico.post("/sms", json=sms(to=fault.magic_number))
        codes.append((reply.status_code, reply.json()["code"]))

    assert codes == [(200, 500), (200, 401), (200, 401)]


# Which request a fault strikes.


async def verdicts(pico: httpx.AsyncClient, bodies: list[dict]) -> list[str]:
    return ["ok" if (await pico.post("/sms", json=body)).status_code == 200 else "fault" for body in bodies]


async def test_times_and_after(connect, sms) -> None:
    """A rule leaves `after` requests alone, then fires `times` times."""
    sandbox = Sandbox(faults=[FaultRule(Fault.BAD_REQUEST, after=2, times=2)])
    pico = await connect(sandbox)

    assert await verdicts(pico, [sms()] * 6) == ["ok", "ok", "fault", "fault", "ok", "ok"]


async def test_a_rule_for_one_destination(connect, sms) -> None:
    """A rule for one destination strikes no other destination; a "+" in the rule is ignored."""
    sandbox = Sandbox(faults=[FaultRule(Fault.BAD_REQUEST, to=f"+{TO}")])
    pico = await connect(sandbox)

    assert await verdicts(pico, [sms(), sms(to="8612345678902")]) == ["fault", "ok"]


async def test_a_rule_for_another_operation(connect, sms) -> None:
    """A rule for `balance.get` does not affect sends; a rule for "*" affects every operation."""
    sandbox = Sandbox(rates={})
    pico = await connect(sandbox)

    sandbox.inject(FaultRule(Fault.UNAVAILABLE, "balance.get"))
    assert (await pico.post("/sms", json=sms())).status_code == 200
    assert (await pico.get("/balance/user333")).status_code == 503
    sandbox.inject(FaultRule(Fault.UNAVAILABLE, "*"))
    assert (await pico.post("/sms", json=sms())).status_code == 503
    assert (await pico.get("/token/user333")).status_code == 503
    sandbox.clear_faults()
    assert (await pico.get("/token/user333")).status_code == 200


async def test_a_fault_that_is_carried_out_waits_for_a_good_request(connect, sms) -> None:
    """A request that Pico would refuse does not use up a rule whose fault strikes after acceptance."""
    sandbox = Sandbox(faults=[FaultRule(Fault.BAD_GATEWAY_AFTER, times=1)])
    pico = await connect(sandbox)

    statuses = [(await pico.post("/sms", json=body)).status_code for body in (sms(to="bad"), sms(), sms())]

    assert statuses == [400, 502, 200]


async def test_a_carried_out_fault_of_management(connect) -> None:
    """A management call, too, can be carried out while its reply is lost."""
    sandbox = Sandbox(faults=[FaultRule(Fault.ACCEPT_THEN_DROP, "campaigns.create")])
    pico = await connect(sandbox)

    with pytest.raises(DROPPED):
        await pico.post("/campaign", json={"username": "user333", "name": "Campaign"})

    assert len((await pico.get("/campaigns")).json()["campaigns"]) == 1


async def test_a_fault_before_acceptance_does_not_count_against_the_rate(connect, clock, sms) -> None:
    """A request that a fault stops before Pico does not count against the rate."""
    sandbox = Sandbox(clock=clock, rates={"sms": 1}, faults=[FaultRule(Fault.UNAVAILABLE, times=3)])
    pico = await connect(sandbox)

    statuses = [(await pico.post("/sms", json=sms())).status_code for _ in range(4)]

    assert statuses == [503, 503, 503, 200]


async def test_a_stale_token_is_stale_for_everything(connect, sms) -> None:
    """A token that a fault made stale stays stale; with a rule without an end, every second new token works."""
    sandbox = Sandbox(faults=[FaultRule(Fault.STALE_TOKEN)], rates={})
    pico = await connect(sandbox)

    first = await pico.post("/sms", json=sms())
    again = await pico.post("/sms", json=sms())
    renewed = await connect(sandbox)

    assert (first.status_code, again.status_code) == (401, 401)
    assert (await renewed.post("/sms", json=sms())).status_code == 401, "the rule has no end, and takes turns"
    last = await connect(sandbox)
    assert (await last.post("/sms", json=sms())).status_code == 200


async def test_the_magic_stale_token_lets_every_second_try_through(connect, sms) -> None:
    """With the magic stale-token number, a client that fetches a new token and retries gets each message out."""
    sandbox = Sandbox(rates={})
    statuses = []

    for _ in range(4):
        pico = await connect(sandbox)
        statuses.append((await pico.post("/sms", json=sms(to=Fault.STALE_TOKEN.magic_number))).status_code)

    assert statuses == [401, 200, 401, 200]


@pytest.mark.parametrize(("fault", "path"), list(zip(Fault, cycle(["/sms", "/mms", "/voice"]), strict=False)))
async def test_magic_numbers(connect, sms, fault, path) -> None:
    """The destination 999000000NN triggers fault NN on every kind of send, in the order of the enumeration."""
    sandbox = Sandbox()
    pico = await connect(sandbox)
    to = f"999000000{list(Fault).index(fault) + 1:02d}"
    assert to == fault.magic_number

    await send(pico, sms(to=to, mediaUrl="https://example.com/a.jpg"), path, timeout=patience_s(fault))

    arrival = sandbox.ledger.arrivals[-1]
    assert (arrival.operation, arrival.fault) == (f"{path[1:]}.send", fault)


async def test_magic_numbers_outlive_clear_faults(connect, sms) -> None:
    """Magic numbers still work after `clear_faults`, because they are part of the sandbox and no rules."""
    sandbox = Sandbox()
    pico = await connect(sandbox)

    sandbox.clear_faults()

    assert (await pico.post("/voice", json=sms(to="99900000018"))).status_code == 400


async def strike_list(connect, sms, **options) -> list[str | None]:
    sandbox = Sandbox(rates={}, fault_rate=0.3, **options)
    pico = await connect(sandbox)
    for number in range(100):
        reply = await send(pico, sms(to=f"86100000{number:03d}"))
        if isinstance(reply, tuple) and reply[0] == 401:
            pico = await connect(sandbox)
    return [line.fault for line in sandbox.ledger.arrivals if line.operation == "sms.send"]


async def test_one_seed_gives_one_outcome(connect, sms) -> None:
    """The same seed strikes the same requests with the same faults, with and without jitter; another seed does not."""
    first = await strike_list(connect, sms, seed=7)

    assert await strike_list(connect, sms, seed=7) == first
    assert await strike_list(connect, sms, seed=7, jitter_s=0.0001) == first
    assert await strike_list(connect, sms, seed=8) != first
    assert 15 <= sum(fault is not None for fault in first) <= 45


async def test_chance_draws_from_the_fault_kinds(connect, sms) -> None:
    """Chance draws only from the given kinds; the default kinds include no hang and no redirect."""
    struck = await strike_list(connect, sms, seed=7, fault_kinds=("bad-request", Fault.UNAVAILABLE))

    assert set(struck) == {None, "bad-request", "unavailable"}
    assert not set(DRAWN_FAULTS) & {Fault.ACCEPT_THEN_HANG, Fault.HANG_BEFORE_ACCEPT, Fault.REDIRECT}


async def test_chance_strikes_sends_alone(connect, sms) -> None:
    """At a fault rate of 1 every SMS, MMS and voice message is struck, but no request for a token, balance or list."""
    sandbox = Sandbox(rates={}, fault_rate=1.0, fault_kinds=(Fault.UNAVAILABLE,))
    pico = await connect(sandbox)
    body = sms(mediaUrl="https://example.com/a.jpg")

    sends = [(await pico.post(path, json=body)).status_code for path in ("/sms", "/mms", "/voice")]
    others = [
        (await pico.get(path)).status_code
        for path in ("/token/user333", "/balance/user333", "/campaigns", "/templates")
    ]

    assert sends == [503] * 3
    assert others == [200] * 4


async def test_probability_is_drawn_by_the_seed(connect, sms) -> None:
    """A rule with a probability strikes that share of the requests, and one seed always strikes the same ones."""

    async def struck(seed: int) -> list[str]:
        sandbox = Sandbox(rates={}, seed=seed, faults=[FaultRule(Fault.BAD_REQUEST, probability=0.5)])
        return await verdicts(await connect(sandbox), [sms()] * 60)

    first = await struck(1)

    assert 15 <= first.count("fault") <= 45
    assert await struck(1) == first


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "no-such-fault"},
        {"fault": "redirect", "operation": "sms"},
        {"fault": "redirect", "times": -1},
        {"fault": "redirect", "times": "2"},
        {"fault": "redirect", "after": None},
        {"fault": "redirect", "probability": 2},
        {"fault": "redirect", "delay_s": "x"},
        {"fault": "redirect", "colour": "red"},
        {"operation": "sms.send"},
        "redirect",
    ],
)
async def test_a_rule_that_could_never_fire_is_an_error(connect, rule) -> None:
    """A rule that could never fire, such as a misspelt one, raises an error; over HTTP it is a 400."""
    pico = await connect(Sandbox(), token=False)
    if isinstance(rule, dict):
        with pytest.raises((TypeError, ValueError)):
            FaultRule(**rule)

    reply = await pico.post("/_sandbox/faults", json=rule)

    assert reply.status_code == 400
    assert reply.json()["errors"]


@pytest.mark.parametrize("options", [{"fault_rate": 1.5}, {"fault_rate": 0.1, "fault_kinds": ()}])
def test_a_wrong_fault_rate_is_an_error(options) -> None:
    """A fault rate above 1, or without kinds to draw from, raises an error."""
    with pytest.raises(ValueError, match="fault"):
        Sandbox(**options)


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: FaultRule("dropped"), "accept-then-drop, drop-before-accept"),
        (lambda: Sandbox(rate_rule="sliding"), "aligned-window, first-request-window, sliding-log, token-bucket"),
        (lambda: Sandbox(dialect="ruby"), "documented, ruoyi"),
        (lambda: Receipts(form="xml"), "json, form, query"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(make, known) -> None:
    """The error for an unknown fault, rate rule, dialect or receipt form lists the known ones."""
    with pytest.raises(ValueError, match=rf"^'\w+' is no \w+\. Known: .*{known}"):
        make()


def test_the_command_line_answers_an_unknown_fault_with_the_known_ones(capsys) -> None:
    """`python -m pico_async.sandbox --fault-kinds` lists the known faults if one is unknown."""
    with pytest.raises(SystemExit):
        main(["--fault-kinds", "dropped"])

    assert "'dropped' is no Fault. Known: accept-then-drop, " in capsys.readouterr().err
