"""This test cuts the power at every sync and arrival: the journal on the disk loses no message, none is sent twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import httpx
import pytest

from pico_async import Outcome, PicoSession, Rates, SendResult, SmsMessage
from tests.support.power_cut import Recorder, lay_down, recording

pytestmark = pytest.mark.no_cover


class Pico(httpx.AsyncBaseTransport):
    """A transport that accepts every message and records its arrival."""

    in_process = True

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            return httpx.Response(200, json={"token": "t"})
        to = json.loads(await request.aread())["to"]
        self.recorder.mark(("received", to))
        return httpx.Response(200, json={"request_id": f"r-{to}"})


async def bulk_send(messages: list[SmsMessage], journal: Path, recorder: Recorder) -> list[SendResult]:
    """Send the messages in bulk, and record when the caller gets each result."""
    results: list[SendResult] = []

    def tell(result: SendResult) -> None:
        results.append(result)
        recorder.mark((result.outcome, messages[result.index].to))

    async with PicoSession(
        username="user333", api_key="k", sender="s", rates=Rates(sms=None), transport=Pico(recorder)
    ) as pico:
        await pico.send_bulk(messages, journal=journal, concurrency=4, on_result=tell)
    return results


@pytest.mark.parametrize("count", [8, pytest.param(150, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
async def test_after_a_power_failure_nothing_is_lost_or_sent_twice(
    tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    After a power cut at any moment, the next run sends no message that Pico had received, and ends.

    It skips all messages that the first run had reported as accepted. The cuts lie before and after each sync, after
    each arrival and after each result. The disk keeps what was synced; in a second pass, it also keeps random other
    sectors.
    """
    messages = [SmsMessage(f"8613{n:09}", "hello", key=f"k{n}" if n % 2 else None) for n in range(count)]
    first = tmp_path / "first"
    first.mkdir()
    with recording(first) as recorder:
        results = await bulk_send(messages, first / "blast.db", recorder)
    assert Counter(result.outcome for result in results) == {Outcome.ACCEPTED: count}
    cuts = [place + after for place in recorder.syncs() for after in (0, 1)]
    cuts += [place + 1 for place, operation in enumerate(recorder.log) if operation.kind == "mark"]
    chance = random.Random(count)
    doubts = 0

    for number, cut in enumerate(cuts):
        for torn in (None, chance):
            folder = tmp_path / f"{number} {torn is not None}"
            folder.mkdir()
            lay_down(recorder.image(cut, torn), folder)
            before = recorder.marks_before(cut)
            afterwards = Recorder()

            results = await bulk_send(messages, folder / "blast.db", afterwards)

            again = {to for what, to in afterwards.marks_before(len(afterwards.log)) if what == "received"}
            outcomes = {result.message.to: result.outcome for result in results if result.message is not None}
            assert again & {to for what, to in before if what == "received"} == set()
            assert {outcomes[to] for what, to in before if what is Outcome.ACCEPTED} <= {Outcome.SKIPPED}
            assert again == {to for to, outcome in outcomes.items() if outcome is Outcome.ACCEPTED}
            assert len(results) == count
            assert set(outcomes.values()) <= {Outcome.ACCEPTED, Outcome.SKIPPED, Outcome.IN_DOUBT}
            doubts += sum(outcome is Outcome.IN_DOUBT for outcome in outcomes.values())

    with capsys.disabled():
        print(f"\n{len(cuts)} cuts at {len(recorder.syncs())} syncs, twice each, {doubts} in doubt")
    assert len(recorder.syncs()) >= count / 2
    assert len(cuts) >= 3 * count
    assert doubts > 0
