"""`pico blast`: a CSV file, one message to each row."""

from __future__ import annotations

from decimal import Decimal

import typer
from attrs import evolve
from rich.console import Console

from pico_async.cli.account_options import AccountOptions
from pico_async.cli.blast.forecast import Forecast
from pico_async.cli.blast.options import BlastOptions
from pico_async.cli.blast.plan import BlastPlan, open_plan
from pico_async.cli.blast.progress import Display, display_for
from pico_async.cli.blast.run import BlastRun
from pico_async.cli.blast.scan import Scan, scan_file
from pico_async.cli.blast.summary import Summary
from pico_async.cli.console import print_error, print_json, print_line, print_note, printable
from pico_async.errors import ConfigurationError, JournalError, PicoError

EXIT_CODES = (
    "Exit code 0: each message was accepted, now or before, or suppressed. 1: at least one was not. 2: the bulk send "
    "could not begin (usage, configuration, journal, token or Redis), and nothing was sent. 130, 143 and 129: ended by "
    "SIGINT (Ctrl-C), SIGTERM and SIGHUP. A dry run ends with 0 if each row makes a message and the journal has the "
    "rows, else with 1."
)


def blast(account: AccountOptions, options: BlastOptions) -> None:
    """
    Send one text message to each row of a CSV file.

    pico blast people.csv --text "Your code is {{code}}" --report out.csv

    The whole file is checked before anything is sent. Messages are sent at the rate of your contract, never faster.
    A row that makes no message (a bad number, an empty value) is reported with its line, and the others are sent.
    Duplicates and repeated numbers are reported and sent; with --once-per-number, each number gets only its first
    message.

    Ctrl-C (or SIGTERM) stops reading and waits for the requests in flight. After a second Ctrl-C, or at the end of
    --grace, the messages still in flight are in doubt: they may have been sent.

    With --journal, the same command with --resume continues after a crash or Ctrl-C. It does not send messages in
    doubt: `pico journal in-doubt FILE` lists them, and `mark-sent` or `resend` decides.

    Pico does not document how it splits a text into parts and what it charges; parts are counted by GSM 03.38.
    """
    display = display_for(Console(stderr=True), wanted=not options.no_progress)
    with open_plan(account, options) as plan:
        scan = _scan(plan, display)
        if options.dry_run:
            if plan.price is not None and not options.in_sandbox:
                scan = evolve(scan, preflight=evolve(scan.preflight, balance=_balance(account)))
            forecast = Forecast(plan=plan, scan=scan)
            _print(forecast, as_json=options.as_json)
            if scan.mismatch is not None:
                print_note(scan.mismatch)
            raise typer.Exit(1 if forecast.is_faulty or scan.mismatch is not None else 0)
        if scan.mismatch is not None:
            raise ConfigurationError(f"{scan.mismatch} Nothing was sent.")
        for line in Forecast(plan=plan, scan=scan).short_lines():
            print_note(line)
        result = BlastRun(plan=plan, total=scan.preflight.total, display=display).run()
    for error in result.errors:
        print_error(error)
    summary = Summary(plan=plan, scan=scan, result=result)
    _print(summary, as_json=options.as_json)
    raise typer.Exit(summary.exit_code)


def _scan(plan: BlastPlan, display: Display) -> Scan:
    try:
        with display:
            return scan_file(plan, display.show_reading)
    except KeyboardInterrupt:
        print_note("Nothing was sent.")
        raise
    except JournalError as error:
        raise ConfigurationError(f"{error} Nothing was sent.") from None


def _balance(account: AccountOptions) -> Decimal | None:
    """Request the balance, without asking a person for the key; return None where it is not known."""
    if not account.has_credentials:
        print_note("The balance is not requested: set a username, and an API key in PICO_API_KEY or --api-key-file.")
        return None
    try:
        return account.call(lambda pico: pico.balance.get()).balance
    except PicoError as error:
        print_note(f"The balance is not known: {printable(str(error))}")
        return None


def _print(outcome: Forecast | Summary, *, as_json: bool) -> None:
    if as_json:
        print_json(outcome.as_json())
        return
    for line in outcome.lines():
        print_line(line)
