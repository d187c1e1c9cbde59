"""`pico journal`: the content of a journal, and decisions about its messages in doubt."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import attrs
import typer

from pico_async.bulk.journal.file_set import files_of
from pico_async.bulk.journal.match import JournalMatcher
from pico_async.bulk.journal.protocols import JournalState
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.cli.account_options import Json
from pico_async.cli.blast.report_file import is_same_file
from pico_async.cli.blast.row_mapping import KEY_COLUMN, RowMapping
from pico_async.cli.console import Yes, print_json, print_line, print_note, print_table, require_yes
from pico_async.cli.format import format_count
from pico_async.errors import ConfigurationError

# Enough characters of an ID to distinguish the messages of any journal.
ID_SHOWN = 12

MEANINGS = {
    JournalState.ACCEPTED: "Pico accepted them; they are not sent again",
    JournalState.IN_DOUBT: "they may have been sent; they wait for `mark-sent` or `resend`",
    JournalState.SENDING: "in flight, or about to be; in doubt if their bulk send crashed",
    JournalState.REJECTED: "Pico rejected them; the next run sends them again",
    JournalState.NOT_SENT: "the next run sends them",
    JournalState.PENDING: "they were read but not sent; the next run sends them",
}

File: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="The journal.", show_default=False)]
Names: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME...", help="Key of each message, or its ID, or the beginning of its ID."),
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="All messages in doubt.")]


def check_journal_option(path: Path | None, *, resume: bool, apart_from: Iterable[Path | None]) -> None:
    """Raise if a journal exists without --resume, is missing or empty with it, or is one of *apart_from*."""
    if path is None:
        if resume:
            raise ConfigurationError("--resume continues with a journal: name it with --journal FILE.")
        return
    for other in apart_from:
        if other is not None and any(is_same_file(other, own) for own in files_of(path)):
            raise ConfigurationError(f"{other} is the journal {path}, or one of its files: choose another path.")
    if resume and not os.path.exists(path):
        raise ConfigurationError(
            f"There is no journal {path} to resume, and without it everything would be sent again. Nothing was sent. "
            "Check the name; a first run needs no --resume."
        )
    if resume and os.path.isfile(path) and not os.path.getsize(path):
        raise ConfigurationError(
            f"The journal {path} is empty, so there is nothing to resume. Nothing was sent. Check the name, or remove "
            "the file and begin without --resume."
        )
    if not resume and os.path.exists(path):
        raise ConfigurationError(
            f"The journal {path} exists: pass --resume to continue with it, or choose another path."
        )


def describe_mismatch(matcher: JournalMatcher, mapping: RowMapping, columns: Sequence[str]) -> str | None:
    """Return an explanation if the journal has few of the rows, with what changed since; None if it has them."""
    match = matcher.match()
    if not match.is_foreign:
        return None
    said = (
        f"{f'{match.known:,}' if match.known else 'None'} of the {format_count(match.messages, 'row')} "
        f"{'are' if match.known > 1 else 'is'} in the journal {matcher.path}, which has {match.others}."
    )
    made_from = mapping.made_from
    if changed := [what for what, value in made_from.items() if matcher.is_made_from(what, value) is False]:
        said += f" Since its last run the {' and the '.join(changed)} changed"
        if KEY_COLUMN not in changed:
            said += "."
        elif matcher.is_made_from(KEY_COLUMN, ""):
            said += ": it had no --key-column."
        else:
            before = next((column for column in columns if matcher.is_made_from(KEY_COLUMN, column)), None)
            said += "." if before is None else f": it had --key-column {shlex.quote(before)}."
    would = "They would all" if match.new == match.messages else f"{match.new:,} would"
    return f"{said} {would} be sent again. Run the same command as before, or pass --yes if they are other messages."


def show(file: File, as_json: Json = False) -> None:
    """Print the number of messages in the journal, by state."""
    counts = asyncio.run(SqliteJournal(file).counts())
    if as_json:
        print_json({state.value: counts[state] for state in MEANINGS})
        return
    for state, meaning in MEANINGS.items():
        if counts[state] or state in (JournalState.ACCEPTED, JournalState.IN_DOUBT):
            print_line(f"{counts[state]:>9,} {state.replace('_', ' ')}: {meaning}")


def in_doubt(file: File, as_json: Json = False) -> None:
    """List the messages that may have been sent, in the order of the input."""
    records = asyncio.run(SqliteJournal(file).in_doubt())
    if as_json:
        print_json({"in_doubt": [{**attrs.asdict(record), "state": record.state.value} for record in records]})
        return
    # A journal of the Python API has no lines, but the indexes of the messages.
    column = "index" if any(record.line is None for record in records) else "line"
    rows = []
    for it in records:
        since = datetime.fromtimestamp(it.changed_at).astimezone().isoformat()
        rows.append((it.id[:ID_SHOWN], f"{it.index if it.line is None else it.line:,}", since, it.request_id))
    print_table(("ID", column, "since", "request ID"), rows)


def mark_sent(
    file: File,
    names: Names = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accepted as with `resend`, without effect.")] = False,
) -> None:
    """
    Decide that messages in doubt were sent: they are not sent again.

    A delivery receipt, or the recipient, may confirm that a message was sent.
    """
    journal = SqliteJournal(file)
    chosen = _chosen(journal, names, everything)
    decided = asyncio.run(journal.mark_sent(*chosen))
    if decided or not chosen:
        print_line(f"{format_count(decided, 'message')} marked as sent.")
    if decided < len(chosen):
        print_line(f"{format_count(len(chosen) - decided, 'message')} already accepted: nothing to decide.")


def resend(file: File, names: Names = None, everything: All = False, yes: Yes = False) -> None:
    """Decide that messages in doubt are sent again. A message that was sent before is then sent twice."""
    journal = SqliteJournal(file)
    chosen = _chosen(journal, names, everything)
    if chosen and not yes:
        count = format_count(len(chosen), "message")
        print_note(f"{count} will be sent by the next run. A message that was sent before is then sent twice.")
        require_yes("Send them again?", given=False)
    asyncio.run(journal.resend(*chosen))
    print_line(f"{format_count(len(chosen), 'message')} will be sent by the next run.")


def _chosen(journal: SqliteJournal, names: list[str] | None, everything: bool) -> list[str]:
    if everything == bool(names):
        raise ConfigurationError("Pass the keys or IDs of messages, or --all.")
    return names or [record.id for record in asyncio.run(journal.in_doubt())]
