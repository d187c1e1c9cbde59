"""These tests check what the journal of a bulk send records, what it refuses, and what happens when it fails."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from pico_async import (
    ConfigurationError,
    InvalidMessageError,
    Journal,
    JournalError,
    JournalState,
    NotInDoubtError,
    Outcome,
    PicoSession,
    Rates,
    SendResult,
    SmsMessage,
    SqliteJournal,
)
from pico_async.bulk.journal import sqlite_file as journal_file
from pico_async.bulk.journal.entry import MAX_WAITING_AS_SENDING
from pico_async.bulk.journal.protocols import JournalRow
from pico_async.bulk.journal.sqlite_rows import JournalRows
from tests.support.waiting import until

ACCEPTS, REFUSES, DROPS, UNREACHABLE = range(4)


class Pico(httpx.AsyncBaseTransport):
    """A mock Pico that treats each number as `does` says, and counts the messages that it carried out."""

    in_process = True

    def __init__(self) -> None:
        self.does: dict[str, int] = {}
        self.received: Counter[str] = Counter()
        self.on_arrival: Callable[[str], None] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            return httpx.Response(200, json={"token": "t"})
        to = json.loads(await request.aread())["to"]
        if self.on_arrival is not None:
            self.on_arrival(to)
        does = self.does.get(to, ACCEPTS)
        if does == UNREACHABLE:
            raise httpx.ConnectError("refused")
        if does == REFUSES:
            return httpx.Response(400, json={"errors": ["no"]})
        self.received[to] += 1
        if does == DROPS:
            raise httpx.ReadError("reset")
        return httpx.Response(200, json={"request_id": f"r-{to}"})


def sms(number: int, text: str = "hello", **more: Any) -> SmsMessage:
    return SmsMessage(f"8613{number:09}", text, **more)


@asynccontextmanager
async def session(pico: Pico, **settings: Any) -> AsyncIterator[PicoSession]:
    settings = {"username": "user333", "rates": Rates(sms=None)} | settings
    async with PicoSession(api_key="k-secret", sender="s", transport=pico, retries=0, **settings) as made:
        yield made


async def bulk_send(
    pico: Pico, messages: Sequence[SmsMessage], journal: Any, *, concurrency: int = 8, **settings: Any
) -> list[SendResult]:
    """Run a bulk send in its own session, and return its results in the order of the input."""
    results: list[SendResult] = []
    async with session(pico, **settings) as it:
        await it.send_bulk(messages, journal=journal, on_result=results.append, concurrency=concurrency, outage_s=0.5)
    return sorted(results, key=lambda result: result.index)


def outcomes(results: list[SendResult]) -> list[str]:
    return [result.outcome.value for result in results]


async def test_a_run_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    """
    A second run skips accepted messages with their `request_id`, and sends refused and unreached messages again.

    It reports a message in doubt and does not send it.
    """
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    messages = [sms(number, key=f"k{number}") for number in range(4)]
    pico.does = {messages[1].to: REFUSES, messages[2].to: UNREACHABLE, messages[3].to: DROPS}
    first = await bulk_send(pico, messages, journal)
    pico.does = {}

    second = await bulk_send(pico, messages, journal)

    assert outcomes(first) == ["accepted", "rejected", "not_sent", "in_doubt"]
    assert outcomes(second) == ["skipped", "accepted", "accepted", "in_doubt"]
    assert [result.request_id for result in second[:3]] == [f"r-{message.to}" for message in messages[:3]]
    assert second[3].error is not None
    assert "mark_sent" in str(second[3].error)
    assert set(pico.received.values()) == {1}
    assert {state: count for state, count in (await journal.counts()).items() if count} == {
        JournalState.ACCEPTED: 3,
        JournalState.IN_DOUBT: 1,
    }


async def test_the_owner_decides_what_is_in_doubt(tmp_path: Path) -> None:
    """
    The owner decides about messages in doubt, by key or by ID.

    A message is marked once, and then skipped; a message to resend is sent once more, even with another text.
    """
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    messages = [sms(number, key=f"k{number}") for number in range(3)]
    pico.does = {message.to: DROPS for message in messages}
    await bulk_send(pico, messages, journal)
    pico.does = {}
    records = await journal.in_doubt()

    decided = [await journal.mark_sent("k0"), await journal.mark_sent("k0")]
    await journal.resend(records[1].id[:8])

    changed = [messages[0], sms(1, "another", key="k1"), messages[2]]
    assert decided == [1, 0]
    assert [record.index for record in records] == [0, 1, 2]
    assert outcomes(await bulk_send(pico, changed, journal)) == ["skipped", "accepted", "in_doubt"]
    assert [pico.received[message.to] for message in messages] == [1, 2, 1]


async def test_a_decision_is_made_for_all_or_for_none(tmp_path: Path) -> None:
    """A decision about several messages changes none of them if one name is unknown or is not in doubt."""
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    messages = [sms(number, key=f"k{number}") for number in range(3)]
    pico.does = {messages[0].to: DROPS, messages[2].to: REFUSES}
    await bulk_send(pico, messages, journal)

    for decide, names, said in (
        (journal.mark_sent, ("k0", "k9"), "no message of the key or ID 'k9'"),
        (journal.mark_sent, ("k0", "k2"), "'k2' was provably not sent"),
        (journal.resend, ("k0", "k1"), "'k1' was accepted"),
        (journal.resend, ("k0", "8613123456789"), "86…89"),
    ):
        with pytest.raises(JournalError, match=said):
            await decide(*names)

    assert (await journal.counts())[JournalState.IN_DOUBT] == 1


@pytest.mark.parametrize("does", [REFUSES, UNREACHABLE])
@pytest.mark.parametrize("proof", ["confirm", "mark_sent"])
async def test_a_resend_that_sends_nothing_leaves_the_doubt(tmp_path: Path, does: int, proof: str) -> None:
    """
    A message that is resent, and then refused or not sent, is in doubt again: an earlier run may have sent it.

    A receipt, or the owner, still settles it; until then each run sends it, as the owner decided.
    """
    pico, journal, message = Pico(), SqliteJournal(tmp_path / "blast.db"), sms(1, key="k")
    pico.does = {message.to: DROPS}
    await bulk_send(pico, [message], journal)
    await journal.resend("k")
    decided = await journal.in_doubt()

    pico.does = {message.to: does}
    again = await bulk_send(pico, [message], journal)
    doubts = await journal.in_doubt()
    counts = await journal.counts()
    settled = await getattr(journal, proof)("k")
    pico.does = {}

    assert decided == []
    assert outcomes(again)[0] in ("rejected", "not_sent")
    assert [record.state for record in doubts] == [JournalState.IN_DOUBT]
    assert {state: count for state, count in counts.items() if count} == {JournalState.IN_DOUBT: 1}
    assert settled == 1
    assert outcomes(await bulk_send(pico, [message], journal)) == ["skipped"]
    assert pico.received[message.to] == 1


async def test_a_receipt_settles_what_is_about_to_be_resent(tmp_path: Path) -> None:
    """A receipt that comes between `resend` and the next run is a proof, and the next run skips the message."""
    pico, journal, message = Pico(), SqliteJournal(tmp_path / "blast.db"), sms(1, key="k")
    pico.does = {message.to: DROPS}
    await bulk_send(pico, [message], journal)
    await journal.resend("k")

    settled = await journal.confirm("k", "r-1")

    assert settled
    assert outcomes(await bulk_send(pico, [message], journal)) == ["skipped"]


async def test_a_resend_that_sends_nothing_is_sent_by_the_run_after_it(tmp_path: Path) -> None:
    """A message that the next run did not send, although the owner decided so, is sent by the run after it."""
    pico, journal, message = Pico(), SqliteJournal(tmp_path / "blast.db"), sms(1, key="k")
    for does in (DROPS, UNREACHABLE):
        pico.does = {message.to: does}
        await bulk_send(pico, [message], journal)
        if does == DROPS:
            await journal.resend("k")
    pico.does = {}

    assert outcomes(await bulk_send(pico, [message], journal)) == ["accepted"]
    assert (await journal.counts())[JournalState.ACCEPTED] == 1


@pytest.mark.parametrize("commits", range(5))
async def test_a_resend_that_fails_in_the_middle_loses_no_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """Whichever commit of a `resend` fails, all of its messages are in doubt as before, or all of them are resent."""
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    messages = [sms(number, key=f"k{number}") for number in range(3)]
    pico.does = {message.to: DROPS for message in messages}
    await bulk_send(pico, messages, journal)

    with monkeypatch.context() as patch:
        use(patch, Failing)
        patch.setattr(Failing, "commits", commits)
        with suppress(JournalError):
            await journal.resend("k0", "k1", "k2")
    counts = await journal.counts()

    assert 3 in (counts[JournalState.IN_DOUBT], counts[JournalState.PENDING])
    assert [await journal.confirm(name) for name in ("k0", "k1", "k2")] == [True] * 3


@pytest.mark.parametrize("commits", range(12))
async def test_whichever_commit_fails_the_journal_is_there_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """Whichever commit of a bulk send fails, the next run can use the journal, and sends none twice."""
    pico, path = Pico(), tmp_path / "blast.db"
    messages = [sms(number, key=f"k{number}") for number in range(4)]
    await bulk_send(pico, messages[:1], path)

    with monkeypatch.context() as patch:
        use(patch, Failing)
        patch.setattr(Failing, "commits", commits)
        patch.setattr(journal_file, "CHECKPOINT_AFTER", 1)
        with suppress(JournalError):
            await bulk_send(pico, messages, path, concurrency=1)
    await bulk_send(pico, messages, path)

    assert (await SqliteJournal(path).counts())[JournalState.PENDING] == 0
    assert max(pico.received.values()) == 1


async def test_a_resend_that_is_cancelled_loses_no_doubt(tmp_path: Path) -> None:
    """A cancelled `resend` is done or not, and a receipt still settles its message."""
    pico, journal, message = Pico(), SqliteJournal(tmp_path / "blast.db"), sms(1, key="k")
    pico.does = {message.to: DROPS}
    await bulk_send(pico, [message], journal)

    resending = asyncio.create_task(journal.resend("k"))
    await asyncio.sleep(0)
    resending.cancel()
    with suppress(asyncio.CancelledError):
        await resending

    assert await journal.confirm("k")


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_content_is_as_many_messages_as_it_comes(tmp_path: Path, seed: int) -> None:
    """Without keys, equal messages are sent as often as they occur in the input, however the runs batch them."""
    chance = random.Random(seed)
    messages = [sms(chance.randrange(3)) for _ in range(40)]
    times = Counter(message.to for message in messages)
    pico = Pico()
    pico.does = {messages[0].to: REFUSES}
    await bulk_send(pico, messages, tmp_path / "blast.db", concurrency=chance.choice([1, 3, 64]))
    pico.does = {}

    second = await bulk_send(pico, messages, tmp_path / "blast.db", concurrency=chance.choice([1, 5, 64]))
    third = await bulk_send(pico, messages, tmp_path / "blast.db", concurrency=7)

    assert pico.received == times
    assert {result.outcome for result in third} == {Outcome.SKIPPED}
    assert outcomes(second).count("accepted") == times[messages[0].to]


@pytest.mark.parametrize("concurrency", [1, 64])
async def test_a_key_names_one_message(tmp_path: Path, concurrency: int) -> None:
    """
    A key used twice in one bulk send is refused, and so is a known key with other content in a later one.

    A new callback or expiry is not other content.
    """
    pico, path = Pico(), tmp_path / "blast.db"
    first = await bulk_send(pico, [sms(1, key="a"), sms(2, key="a"), sms(3, key="b")], path, concurrency=concurrency)

    second = await bulk_send(
        pico,
        [sms(1, "changed", key="a"), sms(3, key="b", callback="https://example.com", expires_in=9)],
        path,
        concurrency=concurrency,
    )

    assert outcomes(first) == ["accepted", "not_sent", "accepted"]
    assert outcomes(second) == ["not_sent", "skipped"]
    assert isinstance(first[1].error, InvalidMessageError)
    assert "`key` 'a' came before in this bulk send" in str(first[1].error)
    assert isinstance(second[0].error, InvalidMessageError)
    assert "`key` 'a' belongs to a message of other content" in str(second[0].error)
    assert pico.received == {sms(1).to: 1, sms(3).to: 1}


async def test_nothing_is_on_the_wire_that_is_not_in_the_file(tmp_path: Path) -> None:
    """A message is `sending` in the journal before Pico gets it, and `accepted` before the caller gets the result."""
    pico, path = Pico(), tmp_path / "blast.db"
    seen: list[str] = []

    def states() -> Counter[str]:
        with sqlite3.connect(path) as connection:
            found = Counter(dict(connection.execute("SELECT state, count(*) FROM message GROUP BY state")))
        connection.close()
        return found

    pico.on_arrival = lambda _: seen.append("sending" if states()["sending"] else "nothing")
    told: list[bool] = []
    async with session(pico) as it:
        await it.send_bulk(
            [sms(number) for number in range(10)],
            journal=path,
            concurrency=1,
            on_result=lambda result: told.append(states()["accepted"] > result.index),
        )

    assert seen == ["sending"] * 10
    assert told == [True] * 10


async def test_few_wait_for_their_turn_as_if_they_were_sent(tmp_path: Path) -> None:
    """At a low rate, 16 of 64 messages at most are `sending`, so a crash leaves no more than these in doubt."""
    pico, path = Pico(), tmp_path / "blast.db"
    async with session(pico, rates=Rates(sms=2)) as it:
        async with it.stream_bulk([sms(number) for number in range(100)], journal=path, concurrency=64) as results:
            await anext(results)
            await asyncio.sleep(0.3)
            counts = await SqliteJournal(path).counts()

    assert counts[JournalState.SENDING] <= MAX_WAITING_AS_SENDING
    assert counts[JournalState.SENDING] + counts[JournalState.PENDING] >= 60
    assert (await SqliteJournal(path).counts())[JournalState.IN_DOUBT] == 0


async def test_a_journal_has_one_owner(tmp_path: Path) -> None:
    """
    A journal in use cannot be opened by another run, even by another name of the file.

    The first run continues, and the counts can be read.
    """
    pico, path = Pico(), tmp_path / "blast.db"
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with session(pico) as it:
        async with it.stream_bulk([sms(number) for number in range(30)], journal=path, concurrency=2) as results:
            await anext(results)
            for other in (path, link):
                with pytest.raises(JournalError, match=f"in use by another bulk send, of process {os.getpid()}"):
                    await bulk_send(Pico(), [sms(99)], other)
            with pytest.raises(JournalError, match="in use"):
                await SqliteJournal(path).resend("k")
            assert (await SqliteJournal(path).counts())[JournalState.ACCEPTED] > 0
            rest = [result async for result in results]

    assert {result.outcome for result in rest} == {Outcome.ACCEPTED}
    assert len(rest) == 29


async def test_an_owner_that_was_passed_over_sends_no_more(tmp_path: Path) -> None:
    """A run whose lock is removed and whose journal another run opens fails at its next commit and stops."""
    pico, path = Pico(), tmp_path / "blast.db"
    async with session(pico) as it:
        async with it.stream_bulk([sms(number) for number in range(50)], journal=path, concurrency=1) as results:
            await anext(results)
            (tmp_path / "blast.db-lock").unlink()
            await bulk_send(Pico(), [sms(0), sms(99)], path)
            before = pico.received.total()
            rest = [result async for result in results]
        report = results.report

    assert pico.received.total() <= before + 1
    assert report.stopped is not None
    assert "taken over by another bulk send" in report.stopped
    assert {result.outcome for result in rest} <= {Outcome.NOT_SENT, Outcome.ACCEPTED}


async def test_a_receipt_may_be_quicker_than_the_reply(tmp_path: Path) -> None:
    """
    A receipt may confirm a message while the bulk send runs, and a later result does not undo it.

    An unknown key cannot be confirmed.
    """
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    confirmed: list[bool] = []
    async with session(pico) as it:
        arrived = asyncio.Event()
        pico.on_arrival = lambda _: arrived.set()
        pico.does = {sms(1).to: DROPS}
        with_receipt = [sms(1, key="dropped"), sms(2, key="answered")]
        async with it.stream_bulk(with_receipt, journal=journal, concurrency=1) as results:
            await arrived.wait()
            confirmed.append(await journal.confirm("dropped"))
            dropped, answered = [result async for result in results]
    confirmed += [await journal.confirm("dropped"), await journal.confirm("answered")]
    with pytest.raises(JournalError, match="no message of the key"):
        await journal.confirm("nobody")

    later = await bulk_send(pico, with_receipt, journal)

    assert (dropped.outcome, answered.outcome) == (Outcome.IN_DOUBT, Outcome.ACCEPTED)
    assert confirmed[1:] == [False, False] or confirmed == [False, True, False]
    assert outcomes(later) == ["skipped", "skipped"]
    assert later[1].request_id == f"r-{sms(2).to}"


async def test_a_proof_is_of_the_message_that_it_names(tmp_path: Path) -> None:
    """
    A receipt confirms only the message whose whole ID or key it names.

    The beginning of an ID confirms nothing, because a key of another journal may look like it.
    """
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    pico.does = {sms(1).to: DROPS}
    await bulk_send(pico, [sms(1, key="dropped")], journal)
    (record,) = await journal.in_doubt()

    with pytest.raises(NotInDoubtError):
        await journal.confirm(record.id[:12])
    assert len(await journal.in_doubt()) == 1
    assert await journal.confirm(record.id)
    assert not await journal.in_doubt()


@pytest.mark.parametrize(
    "other",
    [{"username": "somebody"}, {"base_url": "http://127.0.0.1:1"}, {"base_url": "https://pico.example.com"}],
    ids=["account", "loopback", "host"],
)
async def test_a_journal_serves_one_account(tmp_path: Path, other: dict[str, str]) -> None:
    """
    A journal that belongs to another account or another host is refused.

    Pico's two official hosts count as one host.
    """
    pico, path = Pico(), tmp_path / "blast.db"
    await bulk_send(pico, [sms(1)], path)

    with pytest.raises(JournalError, match="another account's, or another host's"):
        await bulk_send(pico, [sms(1), sms(2)], path, **other)

    assert outcomes(await bulk_send(pico, [sms(1)], path, base_url="https://api.picotw.com")) == ["skipped"]
    assert pico.received.total() == 1


@pytest.mark.parametrize("path", ["", ":memory:", b"blast.db", 7, "a\0b"])
async def test_what_is_no_file_is_no_journal(path: Any) -> None:
    """A journal path that cannot name a file is refused before the input is read."""
    async with session(Pico()) as it:
        with pytest.raises(ConfigurationError, match=r"[Jj]ournal"):
            it.stream_bulk([sms(1)], journal=path)


@pytest.mark.parametrize("name", ["missing/blast.db", "folder"])
async def test_a_path_where_no_file_can_be_is_refused(tmp_path: Path, name: str) -> None:
    """A journal path where no file can be created raises JournalError. Nothing is sent, and no file is left."""
    pico = Pico()
    (tmp_path / "folder").mkdir()

    with pytest.raises(JournalError, match=f"The journal .*{name}"):
        await bulk_send(pico, [sms(1)], tmp_path / name)

    assert pico.received.total() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


async def test_a_receipt_costs_the_same_however_long_the_journal_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Confirming one receipt does not check the whole file for damage, so its cost does not grow with the journal.

    Listing the messages in doubt does check the file.
    """
    journal, statements = SqliteJournal(tmp_path / "blast.db"), []
    async with session(Pico()) as it:
        await it.send_bulk([sms(1, key="k")], journal=journal)
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(journal_file.sqlite3, "connect", traced)
    await journal.confirm("k")
    for_one = "\n".join(statements)
    await journal.in_doubt()

    assert "BEGIN IMMEDIATE" in for_one
    assert "quick_check" not in for_one
    assert "quick_check" in "\n".join(statements)


def test_an_id_is_found_by_the_index(tmp_path: Path) -> None:
    """Finding a message by the beginning of its ID takes no more steps in a journal of fifty times as many messages."""
    steps: Counter[int] = Counter()
    for size in (100, 5000):
        with journal_file.JournalFile(tmp_path / f"{size}.db", owned=True, create=True) as file, file.transaction():
            rows = JournalRows(file)
            rows.claim([(sms(number, key=f"k{number}"), number, None) for number in range(size)])
            ((name,),) = file.connection.execute("SELECT hex(name) FROM message WHERE row = 50")
            file.connection.set_progress_handler(lambda size=size: steps.update([size]), 1)
            rows.find(name[:12])
            file.connection.set_progress_handler(None, 1)

    assert 0 < steps[5000] < 2 * steps[100]


async def test_a_damaged_file_is_found_out_or_right(tmp_path: Path) -> None:
    """
    With any one page of the file overwritten, a run raises JournalError or sends no message twice.

    At least nine in ten damaged pages raise.
    """
    pico, path = Pico(), tmp_path / "blast.db"
    messages = [sms(number) for number in range(600)]
    await bulk_send(pico, messages, path, concurrency=64)
    sound = path.read_bytes()
    chance = random.Random(7)
    told = 0

    for page in range(0, len(sound), 4096):
        path.write_bytes(sound[:page] + chance.randbytes(4096) + sound[page + 4096 :])
        try:
            await bulk_send(pico, messages, path, concurrency=64)
        except JournalError as error:
            assert "damaged" in str(error)  # noqa: PT017  most pages raise, and some may not
            told += 1

    assert set(pico.received.values()) == {1}
    assert told >= len(sound) / 4096 * 0.9


async def test_a_file_that_a_crash_left_empty_is_begun_again(tmp_path: Path) -> None:
    """A run starts an empty journal file again, which a crash can leave. Reading an empty file raises JournalError."""
    path = tmp_path / "blast.db"
    path.touch()
    with pytest.raises(JournalError, match="it is empty"):
        await SqliteJournal(path).counts()

    assert outcomes(await bulk_send(Pico(), [sms(1)], path)) == ["accepted"]


class Full(sqlite3.Connection):
    """A connection to a database on a disk with little free space."""

    pages = 0

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "BEGIN IMMEDIATE":
            super().execute(f"PRAGMA max_page_count = {self.pages}")
        return super().execute(sql, *args)


class Failing(sqlite3.Connection):
    """A connection whose disk fails after some commits."""

    commits = 0

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            type(self).commits -= 1
            if type(self).commits < 0:
                raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)


def use(monkeypatch: pytest.MonkeyPatch, connection: type[sqlite3.Connection]) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(
        journal_file.sqlite3, "connect", lambda *args, **kwargs: connect(*args, factory=connection, **kwargs)
    )


async def test_a_full_disk_at_the_start_sends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the start raises JournalError with this reason, and nothing is sent."""
    pico = Pico()
    use(monkeypatch, Full)
    monkeypatch.setattr(Full, "pages", 1)

    with pytest.raises(JournalError, match="the disk is full"):
        await bulk_send(pico, [sms(1)], tmp_path / "blast.db")

    assert pico.received.total() == 0


@pytest.mark.parametrize(
    ("connection", "setting", "value", "said"),
    # A commit holds at most one change of each of the 8 workers, so 40 commits settle some messages and not all 400.
    # Usually the 41st commit is one of results, and the 43rd one of intents.
    [
        (Full, "pages", 12, "the disk is full"),
        (Failing, "commits", 40, "disk I/O error"),
        (Failing, "commits", 42, "disk I/O error"),
    ],
)
async def test_a_disk_that_fails_in_the_middle_stops_the_bulk_send(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    connection: type[sqlite3.Connection],
    setting: str,
    value: int,
    said: str,
) -> None:
    """
    A disk that fails in the middle stops the bulk send: sent messages are reported as accepted, the others as not sent.

    The file has each sent message as accepted or in doubt. The next run skips the accepted ones, sends no message in
    doubt, and sends all others.
    """
    pico, path = Pico(), tmp_path / "blast.db"
    messages = [sms(number) for number in range(400)]
    results: list[SendResult] = []
    with monkeypatch.context() as patch:
        use(patch, connection)
        patch.setattr(connection, setting, value)
        async with session(pico) as it:
            report = await it.send_bulk(messages, journal=path, on_result=results.append, concurrency=8)
    sent = set(pico.received)
    states = await SqliteJournal(path).counts()
    in_doubt = states[JournalState.SENDING] + states[JournalState.IN_DOUBT]

    second = await bulk_send(pico, messages, path)

    assert report.stopped is not None
    assert said in report.stopped
    assert 0 < len(sent) < 400
    assert {result.message.to for result in results if result.outcome is Outcome.ACCEPTED and result.message} == sent
    assert sorted(result.index for result in results) == list(range(report.total))
    assert (report.accepted, report.not_sent) == (len(sent), report.total - len(sent))
    assert 0 < states[JournalState.ACCEPTED] <= len(sent) <= states[JournalState.ACCEPTED] + in_doubt
    skipped = {result.message.to for result in second if result.outcome is Outcome.SKIPPED and result.message}
    assert skipped <= sent
    assert len(skipped) == states[JournalState.ACCEPTED]
    assert Counter(outcomes(second)) == Counter(
        skipped=len(skipped), in_doubt=in_doubt, accepted=400 - len(skipped) - in_doubt
    )
    assert set(pico.received.values()) == {1}


READ_ONLY = """
import asyncio, os, sys
from pico_async import JournalError, PicoSession, SmsMessage
message = SmsMessage("8613000000001", "hello")
async def main():
    async with PicoSession(username="u", api_key="k", sender="s", base_url="http://127.0.0.1:1", retries=0) as pico:
        # With everything imported: whom this becomes may not read there.
        await pico.send_bulk([message], journal=sys.argv[2], outage_s=0)
        os.setgid(65534)
        os.setuid(65534)
        try:
            await pico.send_bulk([message], journal=sys.argv[1])
        except JournalError as error:
            print(error)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can become somebody else")
def test_a_read_only_folder_is_refused() -> None:
    """A folder that the user may not write in raises JournalError for a user who is not root."""
    # Not in `tmp_path`: pytest closes its folder to other users whenever another run begins.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        ran = subprocess.run(
            [sys.executable, "-c", READ_ONLY, folder / "blast.db", folder / "first.db"],
            capture_output=True,
            text=True,
            check=False,
        )

    assert "cannot be used: blast.db-lock cannot be made beside it (Permission denied)" in ran.stdout


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """No thread and no open file remains, however the bulk send ends. A cancellation does not skip a commit."""
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    messages = [sms(number) for number in range(500)]
    async with session(pico) as it:
        for _ in range(3):
            async with it.stream_bulk(messages, journal=journal) as results:
                await anext(results)
            sending = asyncio.create_task(it.send_bulk(messages, journal=journal))
            before = pico.received.total()
            await until(lambda: pico.received.total() >= before + 5, "some messages are sent")  # noqa: B023
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            opening = asyncio.create_task(it.send_bulk(messages, journal=journal))
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        with pytest.raises(JournalError):
            await it.send_bulk(messages, journal=tmp_path)

    counts = await journal.counts()
    assert set(threading.enumerate()) - threads <= {
        thread for thread in threading.enumerate() if "anyio" in thread.name.lower()
    }
    assert not [thread for thread in threading.enumerate() if thread.name == "pico_async journal"]
    await until(lambda: len(os.listdir("/proc/self/fd")) <= files, "no file is open")
    assert counts[JournalState.SENDING] == 0
    assert set(pico.received.values()) == {1}
    assert counts[JournalState.ACCEPTED] + counts[JournalState.IN_DOUBT] >= pico.received.total()


class Memory:
    """A user's own journal that keeps its lines in a dictionary."""

    def __init__(self, fault: str = "") -> None:
        self.lines: dict[str, list[Any]] = {}
        self.fault = fault

    def run(self, account: str) -> AbstractAsyncContextManager[Memory]:
        return self._run()

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[Memory]:
        yield self

    async def claim(self, message: Any, index: int) -> JournalRow:
        self._fail("claim")
        line = self.lines.setdefault(message.to, [len(self.lines), JournalState.PENDING, None])
        return JournalRow(*line)

    async def intend(self, row: JournalRow) -> None:
        self._fail("intend")
        self._line(row)[1] = JournalState.SENDING

    async def settle(self, row: JournalRow, outcome: Outcome, request_id: str | None) -> None:
        self._fail("settle")
        self._line(row)[1:] = [JournalState(outcome.value), request_id]

    def _line(self, row: JournalRow) -> list[Any]:
        return list(self.lines.values())[row.id]

    def _fail(self, where: str) -> None:
        if where == self.fault:
            raise RuntimeError("a bug in somebody's journal")


async def test_a_journal_of_ones_own_is_as_good(tmp_path: Path) -> None:
    """Any object with the methods of the `Journal` protocol works as a journal."""
    pico, memory = Pico(), Memory()
    assert isinstance(memory, Journal)
    pico.does = {sms(1).to: DROPS}

    first = await bulk_send(pico, [sms(0), sms(1)], memory)
    second = await bulk_send(pico, [sms(0), sms(1)], memory)

    assert outcomes(first) == ["accepted", "in_doubt"]
    assert outcomes(second) == ["skipped", "in_doubt"]
    assert set(pico.received.values()) == {1}


@pytest.mark.parametrize("fault", ["claim", "intend", "settle"])
async def test_a_journal_that_raises_ends_the_bulk_send(fault: str) -> None:
    """
    If a journal raises, the bulk send stops.

    No message is sent without an entry in the journal, and each message read gets an outcome.
    """
    pico = Pico()
    results: list[SendResult] = []
    async with session(pico) as it:
        report = await it.send_bulk(
            [sms(number) for number in range(200)], journal=Memory(fault), on_result=results.append, concurrency=4
        )

    assert report.stopped is not None
    assert "the journal failed" in report.stopped
    assert len(results) == report.total < 200
    assert pico.received.total() == report.accepted
    assert (pico.received.total() > 0) == (fault == "settle")


async def test_what_the_journal_knew_is_no_failure_of_today(tmp_path: Path) -> None:
    """Messages that are in doubt from an earlier run do not count for `stop_after`."""
    pico, path = Pico(), tmp_path / "blast.db"
    messages = [sms(number) for number in range(8)]
    pico.does = {message.to: DROPS for message in messages[:5]}
    await bulk_send(pico, messages[:5], path)

    async with session(pico) as it:
        report = await it.send_bulk(messages, journal=path, concurrency=1, stop_after=3)

    assert (report.in_doubt, report.accepted, report.stopped) == (5, 3, None)


async def test_a_proof_that_contradicts_the_journal_is_refused(tmp_path: Path) -> None:
    """A receipt for a message that was provably not sent is refused, because it must belong to another message."""
    pico, journal = Pico(), SqliteJournal(tmp_path / "blast.db")
    pico.does = {sms(1).to: UNREACHABLE}
    await bulk_send(pico, [sms(1, key="k")], journal)

    with pytest.raises(JournalError, match="no proof"):
        await journal.confirm("k")

    assert (await journal.counts())[JournalState.NOT_SENT] == 1


async def test_slow_replies_do_not_slow_the_bulk_send(tmp_path: Path) -> None:
    """
    Messages that wait for a reply do not delay others that wait for a slot: all 40 are sent before the first reply.
    """
    arrived = asyncio.Event()
    waiting: list[str] = []

    class Slow(Pico):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            reply = await super().handle_async_request(request)
            if request.url.path == "/sms":
                waiting.append("one")
                if len(waiting) == 40:
                    arrived.set()
                await arrived.wait()
            return reply

    results = await bulk_send(Slow(), [sms(number) for number in range(40)], tmp_path / "blast.db", concurrency=64)

    assert set(outcomes(results)) == {"accepted"}
