"""These tests check that a journal is one file with its log: what was taken away, copied or linked is recognised."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pico_async import JournalError, JournalState, NotInDoubtError, Outcome, SmsMessage, SqliteJournal
from pico_async.bulk.journal import sqlite_file as journal_file
from tests.bulk.journal.test_sqlite import DROPS, Pico, bulk_send, outcomes, session, sms

COUNT = 40


def inputs(count: int = COUNT) -> list[SmsMessage]:
    return [sms(number, key=f"k{number}") for number in range(count)]


def copy(folder: Path, to: Path, *names: str) -> Path:
    """
    Copy a journal's files in a process of its own, and return the copy of the main file.

    A process that has a file open in SQLite, and closes it elsewhere, loses SQLite's locks on it.
    """
    to.mkdir()
    subprocess.run(["cp", *(folder / name for name in names), to], check=True)
    return to / names[0]


DIES = """
import os, sys
from pathlib import Path
from pico_async import SmsMessage
from pico_async.bulk.journal.protocols import JournalState
from pico_async.bulk.journal.sqlite_file import LACKS_LOG, JournalFile
from pico_async.bulk.journal.sqlite_rows import JournalRows
file = JournalFile(Path(sys.argv[1]), owned=True, account="user333 at pico", create=True)
rows = JournalRows(file)
for state in (JournalState.ACCEPTED, JournalState.SENDING):
    with file.transaction():
        ((row),) = rows.claim([(SmsMessage("86130000000" + f"{state == JournalState.SENDING:02}", "hello"), 0, None)])
        rows.change({row.id: (state, None)})
if sys.argv[2] == "while it writes back":
    file._mark(LACKS_LOG)
os._exit(0)
"""


def die(path: Path, moment: str = "") -> None:
    """Leave a journal as a crash does: one message of it is accepted, and one was on the wire."""
    subprocess.run([sys.executable, "-c", DIES, path, moment], check=True)


def delete_the_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_the_file(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for file in path.parent.glob("blast.db*"):
        file.unlink()


def move_the_file(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def move_the_log(path: Path) -> None:
    Path(f"{path}-wal").rename(path.with_name("moved.db-wal"))


def replace_the_file(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (c)")
    other.replace(path)


def replace_the_log(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(4096))
    other.replace(f"{path}-wal")


def move_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


@pytest.mark.parametrize(
    "take",
    [
        delete_the_log,
        delete_the_file,
        delete_all,
        move_the_file,
        move_the_log,
        replace_the_file,
        replace_the_log,
        move_the_folder,
    ],
)
async def test_a_bulk_send_whose_journal_is_removed_stops(tmp_path: Path, take: Callable[[Path], None]) -> None:
    """
    A bulk send whose journal is deleted, moved or replaced, or its log, stops and says so.

    No message is sent that was not on its way already, and the caller gets a result for each message that was read.
    """
    folder = tmp_path / "journals"
    folder.mkdir()
    pico, path = Pico(), folder / "blast.db"
    async with session(pico) as it:
        async with it.stream_bulk(inputs(), journal=path, concurrency=2) as results:
            first = await anext(results)
            take(path)
            before = pico.received.total()
            rest = [result async for result in results]
        report = results.report

    assert report.stopped is not None
    assert "taken away while it was in use" in report.stopped
    assert pico.received.total() <= before + 2
    assert {result.outcome for result in rest} <= {Outcome.ACCEPTED, Outcome.NOT_SENT}
    assert report.total == len([first, *rest]) < COUNT
    assert set(pico.received.values()) == {1}


@pytest.mark.parametrize("take", [delete_the_log, move_the_log])
async def test_what_was_taken_away_and_is_closed_forgets_nothing(tmp_path: Path, take: Callable[[Path], None]) -> None:
    """After its log was taken away, a stopped run leaves a whole main file: the next run sends nothing twice."""
    pico, path = Pico(), tmp_path / "blast.db"
    async with session(pico) as it:
        async with it.stream_bulk(inputs(), journal=path, concurrency=2) as results:
            await anext(results)
            take(path)
            _ = [result async for result in results]

    second = await bulk_send(pico, inputs(), path)

    assert len(second) == COUNT
    assert set(outcomes(second)) <= {"skipped", "accepted", "in_doubt"}
    assert set(pico.received.values()) == {1}


async def test_a_main_file_is_of_no_use_without_its_log(tmp_path: Path) -> None:
    """
    A main file that was copied without its log is refused, also for a look and for a decision, and stays as it is.

    This holds from the moment at which the first message arrives at Pico. Together with its log, the copy is a journal.
    """
    folder = tmp_path / "here"
    folder.mkdir()
    pico, path = Pico(), folder / "blast.db"
    alone: list[Path] = []
    pico.on_arrival = lambda _: alone.append(copy(folder, tmp_path / f"alone {len(alone)}", "blast.db"))
    async with session(pico) as it:
        async with it.stream_bulk(inputs(4), journal=path, concurrency=1) as results:
            first = await anext(results)
            together = copy(folder, tmp_path / "together", "blast.db", "blast.db-wal")
            _ = [result async for result in results]
    closed = copy(folder, tmp_path / "closed", "blast.db")
    after = Pico()

    for main in alone:
        before, journal = main.read_bytes(), SqliteJournal(main)
        for use in (
            bulk_send(after, inputs(4), main),
            journal.counts(),
            journal.in_doubt(),
            journal.confirm("k0"),
            journal.mark_sent("k0"),
            journal.resend("k0"),
        ):
            with pytest.raises(JournalError, match=r"blast\.db-wal, which is not beside it\. Copy both files"):
                await use
        assert main.read_bytes() == before
    assert len(alone) == 4
    assert after.received.total() == 0
    assert first.outcome is Outcome.ACCEPTED
    assert outcomes(await bulk_send(after, inputs(2), together))[0] == "skipped"
    assert outcomes(await bulk_send(after, inputs(4), closed)) == ["skipped"] * 4


@pytest.mark.parametrize("how", ["backup", "VACUUM INTO"])
async def test_a_copy_by_sqlite_of_a_journal_in_use_is_refused(tmp_path: Path, how: str) -> None:
    """A whole copy that SQLite made of a journal in use is refused, because it lacks what was sent since."""
    pico, path, other = Pico(), tmp_path / "blast.db", tmp_path / "copy.db"
    async with session(pico) as it:
        async with it.stream_bulk(inputs(), journal=path, concurrency=2) as results:
            await anext(results)
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other)) as target:
                if how == "backup":
                    source.backup(target)
                else:
                    source.execute("VACUUM INTO ?", (str(other),))
            _ = [result async for result in results]

    with pytest.raises(JournalError, match="is a copy of one that was in use"):
        await bulk_send(Pico(), inputs(), other)

    assert set(outcomes(await bulk_send(pico, inputs(), path))) == {"skipped"}


@pytest.mark.parametrize(
    ("look", "moment"),
    [
        ("sqlite3", ""),
        *((look, moment) for look in ("counts", "confirm", "nothing") for moment in ("", "while it writes back")),
    ],
)
async def test_a_crashed_journal_that_was_looked_at_is_whole(tmp_path: Path, look: str, moment: str) -> None:
    """After a crash, a journal can be looked at by any program, which may write the log back, and then be resumed."""
    path = tmp_path / "blast.db"
    die(path, moment)
    if look == "sqlite3":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT count(*) FROM message").fetchone()
        assert not Path(f"{path}-wal").exists()
    elif look == "counts":
        await SqliteJournal(path).counts()
    elif look == "confirm":
        (record,) = await SqliteJournal(path).in_doubt()
        assert await SqliteJournal(path).confirm(record.id)

    with journal_file.JournalFile(path, owned=True, account="user333 at pico"):
        pass

    counts = await SqliteJournal(path).counts()
    confirmed = look == "confirm"
    assert (counts[JournalState.ACCEPTED], counts[JournalState.IN_DOUBT]) == (1 + confirmed, 1 - confirmed)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["blast.db", "blast.db-lock"]


async def test_a_log_that_grows_is_written_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The log of a long run is written back now and then, and does not grow with the run.

    Right afterwards, too, the main file says that it lacks the log.
    """
    monkeypatch.setattr(journal_file, "CHECKPOINT_AFTER", 10)
    pico, path = Pico(), tmp_path / "blast.db"
    sizes: set[int] = set()
    async with session(pico) as it:
        async with it.stream_bulk(inputs() * 10, journal=path, concurrency=8) as results:
            async for result in results:
                sizes.add(Path(f"{path}-wal").stat().st_size)
                if result.index % 40 == 0:
                    alone = copy(tmp_path, tmp_path / f"{result.index}", "blast.db")
                    with pytest.raises(JournalError, match="Copy both files"):
                        await SqliteJournal(alone).counts()

    assert max(sizes) < 400_000
    assert set(outcomes(await bulk_send(pico, inputs(), path))) == {"skipped"}


@pytest.mark.parametrize("linked", ["before", "while it runs"])
async def test_a_journal_has_one_name(tmp_path: Path, linked: str) -> None:
    """A journal with a second hard link is refused by both names, because its log lies beside one of them only."""
    pico, path, other = Pico(), tmp_path / "blast.db", tmp_path / "other.db"
    async with session(pico) as it:
        async with it.stream_bulk(inputs(), journal=path, concurrency=2) as results:
            await anext(results)
            if linked == "while it runs":
                other.hardlink_to(path)
            _ = [result async for result in results]
    if linked == "before":
        other.hardlink_to(path)
    sent = pico.received.total()

    for name in (path, other):
        with pytest.raises(JournalError, match=r"has 2 names \(hard links\)"):
            await bulk_send(pico, inputs(), name)

    other.unlink()
    await bulk_send(pico, inputs(), path)
    assert sent <= pico.received.total() == COUNT


@pytest.mark.parametrize("left", ["gone", "empty"])
async def test_a_log_alone_is_no_journal(tmp_path: Path, left: str) -> None:
    """A log without its main file, or beside an empty one, is refused and kept: it has what was sent."""
    path, log = tmp_path / "blast.db", tmp_path / "blast.db-wal"
    die(path)
    path.unlink()
    if left == "empty":
        path.touch()
    before = log.read_bytes()

    with pytest.raises(JournalError, match=f"is {left}, but blast.db-wal"):
        await bulk_send(Pico(), inputs(), path)

    assert log.read_bytes() == before


async def test_what_is_no_regular_file_is_no_journal(tmp_path: Path) -> None:
    """A named pipe, a device, a loop of symlinks and a name that is too long raise JournalError at once."""
    pipe, loop, long = tmp_path / "pipe", tmp_path / "loop", tmp_path / ("x" * 300)
    os.mkfifo(pipe)
    loop.symlink_to(loop)

    for path in (pipe, Path("/"), Path(".."), Path("/dev/null"), loop, long, tmp_path / ("x" * 252), pipe / "blast.db"):
        for use in (bulk_send(Pico(), inputs(), path), SqliteJournal(path).counts()):
            async with asyncio.timeout(10):
                with pytest.raises(JournalError):
                    await use


VERSION_1 = f"""
CREATE TABLE journal (epoch INTEGER NOT NULL, salt BLOB NOT NULL, account BLOB);
CREATE TABLE message (
    row INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, content BLOB, state TEXT NOT NULL, request_id TEXT,
    epoch INTEGER NOT NULL, position INTEGER NOT NULL, changed_at INTEGER NOT NULL
);
PRAGMA application_id = {journal_file.APPLICATION_ID};
PRAGMA user_version = 1;
"""


async def test_a_journal_of_the_version_before_goes_on(tmp_path: Path) -> None:
    """A journal of version 1 can be looked at and resumed, and is of the present version from then on."""
    pico, new, old = Pico(), tmp_path / "new.db", tmp_path / "old.db"
    pico.does = {inputs()[1].to: DROPS}
    await bulk_send(pico, inputs(3), new)
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(VERSION_1)
        connection.execute("ATTACH ? AS new", (str(new),))
        connection.execute("INSERT INTO journal SELECT epoch, salt, account FROM new.journal")
        connection.execute(
            "INSERT INTO message SELECT row, name, content, state, request_id, epoch, position, changed_at"
            " FROM new.message"
        )
        connection.commit()

    counts = await SqliteJournal(old).counts()
    assert [record.index for record in await SqliteJournal(old).in_doubt()] == [1]
    resumed = await bulk_send(pico, inputs(4), old)

    assert (counts[JournalState.ACCEPTED], counts[JournalState.IN_DOUBT]) == (2, 1)
    assert outcomes(resumed) == ["skipped", "in_doubt", "skipped", "accepted"]
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (journal_file.VERSION,)
    assert set(pico.received.values()) == {1}


COLUMNS_2 = "row, name, content, state, request_id, epoch, position, changed_at, line"
VERSION_2 = """
CREATE TABLE message (
    row INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, content BLOB, state TEXT NOT NULL, request_id TEXT,
    epoch INTEGER NOT NULL, position INTEGER NOT NULL, changed_at INTEGER NOT NULL,
    line INTEGER                -- of the file that it was read from, where it was one
)
"""


async def test_a_journal_of_version_2_goes_on(tmp_path: Path) -> None:
    """A journal of version 2 can be looked at and resent from, and keeps its doubts."""
    pico, path = Pico(), tmp_path / "blast.db"
    pico.does = {inputs()[1].to: DROPS}
    await bulk_send(pico, inputs(3), path)
    with closing(sqlite3.connect(path)) as connection:
        # Not by ALTER TABLE, which does not bear the comments of the schema.
        connection.execute("ALTER TABLE message RENAME TO kept")
        connection.execute(VERSION_2)
        connection.execute(f"INSERT INTO message SELECT {COLUMNS_2} FROM kept")
        connection.execute("DROP TABLE kept")
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    journal = SqliteJournal(path)

    counts, (record,) = await journal.counts(), await journal.in_doubt()
    with pytest.raises(NotInDoubtError, match="no message"):
        await journal.confirm("0" * 32)
    await journal.resend(record.id)

    assert (counts[JournalState.ACCEPTED], counts[JournalState.IN_DOUBT]) == (2, 1)
    assert (await journal.counts())[JournalState.PENDING] == 1
    assert await journal.confirm(record.id)


async def test_a_copy_of_a_closed_journal_is_a_journal(tmp_path: Path) -> None:
    """A journal whose bulk send has ended may be copied and moved as one file."""
    pico, path = Pico(), tmp_path / "blast.db"
    await bulk_send(pico, inputs(), path)
    shutil.copy(path, tmp_path / "copy.db")

    assert set(outcomes(await bulk_send(pico, inputs(), tmp_path / "copy.db"))) == {"skipped"}


async def test_what_is_skipped_is_not_written_again(tmp_path: Path) -> None:
    """A run that skips all its messages commits nothing for them, so it goes as fast as it reads."""
    pico, path = Pico(), tmp_path / "blast.db"
    messages = [sms(number % 150, key=None if number % 3 else f"k{number}") for number in range(300)]
    await bulk_send(pico, messages, path)
    sizes: set[int] = set()

    async with session(pico) as it:
        async with it.stream_bulk(messages, journal=path) as results:
            async for result in results:
                assert result.outcome is Outcome.SKIPPED
                sizes.add(Path(f"{path}-wal").stat().st_size)

    assert len(sizes) == 1


@pytest.mark.parametrize("of", ["another journal", "a later run"])
async def test_a_log_of_something_else_is_refused(tmp_path: Path, of: str) -> None:
    """A main file beside a log that is not its own is refused, and neither is changed: SQLite would mix the two."""
    path, other, log = tmp_path / "blast.db", tmp_path / "other.db", tmp_path / "blast.db-wal"
    die(path)
    old = path.read_bytes()
    if of == "another journal":
        die(other)
        Path(f"{other}-wal").replace(log)
    else:
        for _ in range(2):
            die(path)
        path.write_bytes(old)
    before = (path.read_bytes(), log.read_bytes())

    with pytest.raises(JournalError, match=r"and blast\.db-wal beside it do not belong together"):
        await SqliteJournal(path).mark_sent("k")

    assert path.read_bytes() == before[0]
