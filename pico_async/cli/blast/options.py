"""The options of `pico blast`, and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from attrs import field, frozen

from pico_async.cli.account_options import Callback, Json, Promotional, Region, Sender, Suppress


@frozen
class BlastOptions:
    """The options of `pico blast`, as they were passed. typer reads them from these fields."""

    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv", help="CSV file in UTF-8; its first line names the columns.", show_default=False
        ),
    ]
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Message text; {{column}} is replaced with the row's value.")
    ] = field(default=None, repr=False)
    template_id: Annotated[
        str | None, typer.Option(metavar="ID", help="ID of an approved template, instead of --text.")
    ] = None
    to_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of the phone numbers; by default the one named to, phone, mobile or number."
        ),
    ] = None
    key_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of your own keys for the messages, for report and journal."),
    ] = None
    region: Region = None
    newer_ranges: Annotated[
        bool,
        typer.Option(
            "--newer-ranges",
            help="Accept numbers of ranges that the numbers extra does not know. Without this option, if the extra is "
            "installed, numbers that cannot exist are invalid.",
        ),
    ] = False
    once_per_number: Annotated[
        bool, typer.Option("--once-per-number", help="Send each number only the first of its messages.")
    ] = False
    suppress: Suppress = None
    promotional: Promotional = True
    delimiter: Annotated[str, typer.Option(metavar="CHAR", help="Character that separates the fields.")] = ","
    expires_in: Annotated[
        float | None,
        typer.Option(metavar="S", help="Send nothing later than this many seconds from now, when the codes expire."),
    ] = None
    rate: Annotated[float, typer.Option(metavar="N", help="SMS per second that your contract allows.")] = 30.0
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum number of messages in flight.")] = 64
    stop_after: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after this many failures in a row.")
    ] = None
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Record in this file what was sent, so that the bulk send can be resumed after a crash. The file "
            "contains digests and outcomes, but no numbers and no texts.",
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the bulk send of the journal: send only what was not sent.")
    ] = False
    grace: Annotated[
        float,
        typer.Option(metavar="S", min=0, help="How long a signal waits for requests in flight; 0 does not wait."),
    ] = 15.0
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.csv",
            help="Write a line for each row: line, key, outcome, request ID, attempts and error, but no number and "
            "no text.",
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace the report if it exists.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: check the file and show the first messages.")
    ] = False
    price: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Price of one message part, for an estimate of the cost. With a username and a key, a dry run also "
            "requests the balance; it makes no other request.",
        ),
    ] = None
    in_sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Send to a sandbox in this process instead of Pico; needs no account.")
    ] = False
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Resume although the journal has few of the rows: the others are new.")
    ] = False
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress.")] = False
    as_json: Json = False
    sender: Sender = None
    callback: Callback = None
