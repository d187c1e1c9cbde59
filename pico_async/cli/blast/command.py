"""`pico blast`: a CSV file, one message to each row."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from attrs import evolve
from rich.console import Console

from pico_async.bulk.journal.match import JournalMatcher
from pico_async.bulk.preflight import checked_price
from pico_async.cli.account_options import AccountOptions, Callback, Json, Promotional, Region, Sender, Suppress
from pico_async.cli.blast.csv_file import CsvFile
from pico_async.cli.blast.forecast import Forecast
from pico_async.cli.blast.progress import display_for
from pico_async.cli.blast.report_file import ReportFile
from pico_async.cli.blast.row_mapping import RowMapping, number_reader
from pico_async.cli.blast.run import BlastRun
from pico_async.cli.blast.scan import scan_file
from pico_async.cli.blast.summary import Summary
from pico_async.cli.console import print_error, print_json, print_line, print_note, printable
from pico_async.cli.journal import check_journal_option, describe_mismatch
from pico_async.cli.sandbox import SandboxCounts, make_sandbox, sandbox_session
from pico_async.cli.suppression_file import read_suppressed
from pico_async.coordination.local.jitter import INITIAL_S
from pico_async.coordination.rates import Rates, bucket, spacing_s
from pico_async.errors import ConfigurationError, JournalError, PicoError
from pico_async.session import PicoSession

EXIT_CODES = (
    "Exit codes: 0, all messages were accepted, now or before, or suppressed; 1, some were not; 2, it could not begin "
    "(usage, configuration, journal, no token, no Redis) and nothing was sent; 130, 143 and 129, ended by SIGINT "
    "(Ctrl-C), SIGTERM and SIGHUP. A dry run ends with 0 where every row makes a message, and the journal is "
    "that of the rows, else with 1."
)


def blast(
    account: AccountOptions,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.csv", help="CSV in UTF-8; its first line names the columns.", show_default=False),
    ],
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What they get; {{column}} stands for the row's value.")
    ] = None,
    template_id: Annotated[
        str | None, typer.Option(metavar="ID", help="ID of an approved template, in place of --text.")
    ] = None,
    to_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of the numbers; by default the one named to, phone, mobile or number."
        ),
    ] = None,
    key_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of your own names for the messages, for the report.")
    ] = None,
    region: Region = None,
    newer_ranges: Annotated[
        bool,
        typer.Option(
            "--newer-ranges",
            help="Take numbers of ranges that the numbers extra does not know. Without it, where the extra is "
            "installed, numbers that cannot exist are invalid.",
        ),
    ] = False,
    once_per_number: Annotated[
        bool, typer.Option("--once-per-number", help="Send a number the first of its messages, and no other.")
    ] = False,
    suppress: Suppress = None,
    promotional: Promotional = True,
    delimiter: Annotated[str, typer.Option(metavar="CHAR", help="What separates the fields.")] = ",",
    expires_in: Annotated[
        float | None,
        typer.Option(metavar="S", help="Send nothing later than so many seconds from now, when the codes are dead."),
    ] = None,
    rate: Annotated[float, typer.Option(metavar="N", help="SMS a second that your contract allows.")] = 30.0,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, help="Messages in flight at once.")] = 64,
    stop_after: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="End the blast after so many failures in a row.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Remember in this file what went out, so that the blast can go on after a crash. It holds digests and "
            "outcomes, no number and no text.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the blast of the journal: send only what was not sent.")
    ] = False,
    grace: Annotated[
        float,
        typer.Option(metavar="S", min=0, help="How long a signal leaves to what is on the wire; 0 does not wait."),
    ] = 15.0,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.csv",
            help="Write what became of each row: line, key, outcome, request ID, attempts and error, but no number and "
            "no text.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the report if it exists.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: check the file and show the first messages.")
    ] = False,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="What a part of a text costs, for an estimate. A dry run shows it beside the balance where there are "
            "a username and a key; that asks Pico, and nothing else in a dry run does.",
        ),
    ] = None,
    in_sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Send to a sandbox in this process, not to Pico; needs no account.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Go on with a journal that has few of the rows: they are new ones.")
    ] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress.")] = False,
    as_json: Json = False,
    sender: Sender = None,
    callback: Callback = None,
) -> None:
    """
    Send one text message to each row of a CSV file.

    pico blast people.csv --text "Your code is {{code}}" --report out.csv

    The file is read once before anything is sent, and sent at the pace of your contract, never faster. A row that
    makes no message (a bad number, an empty value) is told with its line, and the others go out. Duplicates and
    repeated numbers are told, and go out; with --once-per-number, only the first to each number does.

    Ctrl-C (and SIGTERM) reads no more and waits for what is on the wire. A second Ctrl-C, or the end of --grace, does
    not wait, and leaves that in doubt.

    With --journal, the same command with --resume goes on after a crash or a Ctrl-C. What it finds in doubt it does
    not send: `pico journal in-doubt FILE` shows it, and `mark-sent` or `resend` decides.

    How Pico cuts a text into parts, and what it charges for, is not documented: the parts are those of GSM 03.38.
    """
    rates = Rates(sms=rate)
    cost = checked_price(price)
    if in_sandbox and account.fleet is not None and account.fleet.asked_for:
        raise ConfigurationError(
            "--sandbox sends to a sandbox in this process, which no other process can reach, so there is no pace to "
            "share: leave --redis out, or run `pico sandbox` and point --base-url at it."
        )
    display = display_for(Console(stderr=True), wanted=not no_progress)
    target = None if report is None else ReportFile(report, replace=force)
    check_journal_option(journal, resume=resume, apart_from=(file, report, suppress))
    stand_in = make_sandbox(rates) if in_sandbox and not dry_run else None
    read = number_reader(region=region, newer_ranges=newer_ranges, for_sandbox=in_sandbox or account.is_sandbox)
    with CsvFile(file, delimiter) as rows:
        mapping = RowMapping.for_columns(
            rows.columns,
            text=text,
            template_id=template_id,
            to_column=to_column,
            key_column=key_column,
            read=read,
            promotional=promotional,
            once_per_number=once_per_number,
            expires_in=expires_in,
        )
        suppressed = (
            read_suppressed(suppress, delimiter=delimiter, to_column=to_column, read=read) if promotional else None
        )
        if target is not None:
            target.check(file, suppress)
        session: AbstractAsyncContextManager[PicoSession] | None = None
        if stand_in is not None:
            session = sandbox_session(stand_in, rates, sender=sender, callback=callback)
        elif not dry_run:
            # Before the survey: nobody wants to hear after a million rows that there is no key.
            session = account.with_sender(sender=sender, callback=callback).session(rates)
        try:
            with display, ExitStack() as held:
                matcher = held.enter_context(JournalMatcher(journal)) if resume and journal is not None else None
                found = scan_file(rows, mapping, display.show_reading, suppressed or (), matcher)
                foreign = None if matcher is None or yes else describe_mismatch(matcher, mapping, rows.columns)
        except KeyboardInterrupt:
            print_note("Nothing was sent.")
            raise
        except JournalError as error:
            raise ConfigurationError(f"{error} Nothing was sent.") from None
        shared = account.fleet is not None and not in_sandbox
        per_s = 1 / spacing_s(rate) if shared else bucket(rate, INITIAL_S).refill_per_s
        balance = _balance(account) if dry_run and cost is not None and not in_sandbox else None
        found = evolve(found, preflight=evolve(found.preflight, price=cost, balance=balance))
        forecast = Forecast(file=file, mapping=mapping, scan=found, per_s=per_s, shared=shared, journal=journal)
        if session is None:
            _tell(forecast, as_json=as_json)
            if foreign is not None:
                print_note(foreign)
            raise typer.Exit(1 if forecast.is_faulty or foreign is not None else 0)
        if foreign is not None:
            raise ConfigurationError(f"{foreign} Nothing was sent.")
        for line in forecast.short():
            print_note(line)
        result = BlastRun(
            file=rows,
            mapping=mapping,
            total=found.preflight.total,
            display=display,
            concurrency=concurrency,
            stop_after=stop_after,
            grace_s=grace,
            journal=journal,
            suppressed=suppressed,
            report=target,
        ).run(session)
    for fault in result.errors:
        print_error(fault)
    summary = Summary(
        scan=found,
        result=result,
        report=report,
        journal=journal,
        seen=None if stand_in is None else SandboxCounts.of(stand_in.ledger),
    )
    _tell(summary, as_json=as_json)
    raise typer.Exit(summary.exit_code)


def _balance(account: AccountOptions) -> Decimal | None:
    """Ask for the balance where nobody has to be asked for the key, and where it fails go on without it."""
    if not account.has_credentials:
        print_note(
            "The balance is not asked for: there is no username, or no API key in PICO_API_KEY or --api-key-file."
        )
        return None
    try:
        return account.call(lambda pico: pico.balance.get()).balance
    except PicoError as error:
        print_note(f"The balance is not known: {printable(str(error))}")
        return None


def _tell(outcome: Forecast | Summary, *, as_json: bool) -> None:
    if as_json:
        print_json(outcome.as_json())
        return
    for line in outcome.lines():
        print_line(line)
