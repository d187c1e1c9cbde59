"""`pico demo`: the main job from end to end, without an account."""

from __future__ import annotations

import csv
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from pico_async.cli.blast.csv_file import CsvFile
from pico_async.cli.blast.progress import display_for
from pico_async.cli.blast.row_mapping import RowMapping
from pico_async.cli.blast.run import BlastRun
from pico_async.cli.blast.scan import scan_file
from pico_async.cli.blast.summary import Summary
from pico_async.cli.console import print_line
from pico_async.cli.sandbox import SandboxCounts, make_sandbox, sandbox_session
from pico_async.coordination.rates import Rates

_TEXT = "Your code is {{code}}"

_NEXT = f"""\
Next, with a file of your own:
  pico blast FILE.csv --text "{_TEXT}" --dry-run   checks it
  pico blast FILE.csv --text "{_TEXT}" --sandbox   sends it to a sandbox
And for your own program:
  pico sandbox
With an account, set PICO_USERNAME, PICO_API_KEY and PICO_SENDER, and leave
--sandbox out."""


def demo(
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many recipients.")] = 90,
) -> None:
    """
    BlastRun one-time codes to a sandbox in this process, and say what it saw.

    It needs no account, and nothing is sent to any handset.
    """
    rates = Rates()
    sandbox = make_sandbox(rates)
    display = display_for(Console(stderr=True), wanted=True)
    with TemporaryDirectory(prefix="pico-demo-") as folder:
        path = Path(folder) / "people.csv"
        _write(path, count)
        print_line(f"{count:,} people, each with a code of their own. Pico's reference allows 30 a second.")
        print_line(f'$ pico blast people.csv --text "{_TEXT}" --sandbox')
        with CsvFile(path) as rows:
            mapping = RowMapping.for_columns(rows.columns, text=_TEXT, template_id=None)
            found = scan_file(rows, mapping, display.show_reading)
            blast = BlastRun(file=rows, mapping=mapping, total=found.preflight.total, display=display)
            result = blast.run(sandbox_session(sandbox, rates))
    summary = Summary(scan=found, result=result, seen=SandboxCounts.of(sandbox.ledger))
    for line in summary.lines():
        print_line(line)
    print_line()
    print_line(_NEXT)
    raise typer.Exit(summary.exit_code)


def _write(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("phone", "code"))
        rows.writerows((f"8613{person:09d}", f"{secrets.randbelow(10**6):06d}") for person in range(count))
