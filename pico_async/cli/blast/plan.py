"""The plan of a bulk send: the options, checked with the files that they name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from attrs import field, frozen

from pico_async.bulk.preflight import checked_price
from pico_async.cli.account_options import AccountOptions
from pico_async.cli.blast.csv_file import CsvFile
from pico_async.cli.blast.options import BlastOptions
from pico_async.cli.blast.report_file import ReportFile
from pico_async.cli.blast.row_mapping import RowMapping, number_reader
from pico_async.cli.journal import check_journal_option
from pico_async.cli.sandbox import make_sandbox, sandbox_session
from pico_async.cli.suppression_file import read_suppressed
from pico_async.coordination.local.limiter import INITIAL_JITTER_S
from pico_async.coordination.rates import Rates, bucket, spacing_s
from pico_async.errors import ConfigurationError
from pico_async.session import PicoSession

if TYPE_CHECKING:
    from pico_async.sandbox import Sandbox


@frozen(kw_only=True)
class BlastPlan:
    """
    A bulk send whose options were checked. No row was read yet, and nothing was sent.

    Attributes:
        suppressed: Numbers that opted out; None where there is no list, or opt-outs do not count.
        is_shared: Whether other processes use a part of the rate.
        sandbox: The sandbox in this process that gets the messages; None where they go elsewhere.
        session: The session that sends them, not yet entered; None in a dry run.
    """

    options: BlastOptions
    file: CsvFile
    mapping: RowMapping
    price: Decimal | None = None
    suppressed: set[str] | None = field(default=None, repr=False)
    report: ReportFile | None = None
    is_shared: bool = False
    sandbox: Sandbox | None = None
    session: AbstractAsyncContextManager[PicoSession] | None = None

    @property
    def per_s(self) -> float:
        """Messages per second: a little fewer than the contract allows, so that it is never exceeded."""
        rate = self.options.rate
        return 1 / spacing_s(rate) if self.is_shared else bucket(rate, INITIAL_JITTER_S).refill_per_s


@contextmanager
def open_plan(account: AccountOptions, options: BlastOptions) -> Iterator[BlastPlan]:
    """
    Check the options, open the input file and read the numbers that opted out.

    The session is made before any row is read, so that a missing key is reported at once.
    """
    rates = Rates(sms=options.rate)
    price = checked_price(options.price)
    if options.in_sandbox and account.fleet is not None and account.fleet.asked_for:
        raise ConfigurationError(
            "--sandbox sends to a sandbox in this process. No other process can reach it, so there is no rate limit "
            "to share: leave --redis out, or run `pico sandbox` and point --base-url at it."
        )
    report = None if options.report is None else ReportFile(options.report, replace=options.force)
    others = (options.file, options.report, options.suppress)
    check_journal_option(options.journal, resume=options.resume, apart_from=others)
    sandbox = make_sandbox(rates) if options.in_sandbox and not options.dry_run else None
    read = number_reader(
        region=options.region,
        newer_ranges=options.newer_ranges,
        for_sandbox=options.in_sandbox or account.is_sandbox,
    )
    with CsvFile(options.file, options.delimiter) as file:
        mapping = RowMapping.for_columns(file.columns, options, read)
        suppressed = None
        if options.promotional:
            suppressed = read_suppressed(
                options.suppress, delimiter=options.delimiter, to_column=options.to_column, read=read
            )
        if report is not None:
            report.check(options.file, options.suppress)
        session: AbstractAsyncContextManager[PicoSession] | None = None
        if sandbox is not None:
            session = sandbox_session(sandbox, rates, sender=options.sender, callback=options.callback)
        elif not options.dry_run:
            session = account.with_sender(sender=options.sender, callback=options.callback).session(rates)
        yield BlastPlan(
            options=options,
            file=file,
            mapping=mapping,
            price=price,
            suppressed=suppressed,
            report=report,
            is_shared=account.fleet is not None and not options.in_sandbox,
            sandbox=sandbox,
            session=session,
        )
