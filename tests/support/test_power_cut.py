"""These tests check that the recorder of power cuts distinguishes a database that syncs its commits from others."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.power_cut import Recorder, lay_down, recording


def commits(folder: Path, synchronous: str) -> Recorder:
    """Commit twenty rows, and mark each as soon as its commit returned."""
    with recording(folder) as recorder:
        connection = sqlite3.connect(folder / "a.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("CREATE TABLE number (n INTEGER)")
        for number in range(20):
            connection.execute("INSERT INTO number VALUES (?)", (number,))
            recorder.mark(number)
        connection.close()
    return recorder


def rows(image: dict[str, bytes], folder: Path) -> set[int]:
    """Write an image into a folder, check the database in it, and return its rows."""
    folder.mkdir()
    lay_down(image, folder)
    connection = sqlite3.connect(folder / "a.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    found = {number for (number,) in connection.execute("SELECT n FROM number")} if tables else set()
    connection.close()
    return found


def forgotten(recorder: Recorder, folder: Path, torn: random.Random | None) -> Iterator[set[int]]:
    """Yield for each possible cut the rows that were committed before it and are gone."""
    for cut in range(len(recorder.log) + 1):
        yield set(recorder.marks_before(cut)) - rows(recorder.image(cut, torn), folder / str(cut))


@pytest.mark.parametrize("torn", [None, random.Random(1)])
def test_what_is_synced_survives_every_cut(tmp_path: Path, torn: random.Random | None) -> None:
    """With synchronous=FULL, no cut loses a commit or damages the database, whatever else the disk kept."""
    recorder = commits(tmp_path, "FULL")

    assert len(recorder.syncs()) >= 20
    assert [lost for lost in forgotten(recorder, tmp_path, torn) if lost] == []


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_what_is_not_synced_is_seen_to_be_lost(tmp_path: Path, synchronous: str) -> None:
    """Without a sync for each commit, some cut loses a commit, so the recorder can detect a missing sync."""
    recorder = commits(tmp_path, synchronous)

    assert any(forgotten(recorder, tmp_path, None))


def test_nothing_is_recorded_afterwards(tmp_path: Path) -> None:
    """After the end of the recording, the recorder notes no further operation."""
    recorder = commits(tmp_path, "FULL")
    before = len(recorder.log)

    sqlite3.connect(tmp_path / "b.db").execute("CREATE TABLE t (n)").connection.close()

    assert len(recorder.log) == before
