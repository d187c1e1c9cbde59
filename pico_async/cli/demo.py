"""`pico demo`: a bulk send from end to end, without an account."""

from __future__ import annotations

import csv
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from pico_async.cli.account_options import AccountOptions
from pico_async.cli.blast.options import BlastOptions
from pico_async.cli.blast.plan import open_plan
from pico_async.cli.blast.progress import display_for
from pico_async.cli.blast.run import BlastRun
from pico_async.cli.blast.scan import scan_file
from pico_async.cli.blast.summary import Summary
from pico_async.cli.console import print_line

_TEXT = "Your code is {{code}}"

_NEXT = f"""\
Next, with a file of your own:
  pico blast FILE.csv --text "{_TEXT}" --dry-run   checks it
  pico blast FILE.csv --text "{_TEXT}" --sandbox   sends it to a sandbox
And for your own program:
  pico sandbox
With an account, set PICO_USERNAME, PICO_API_KEY and PICO_SENDER, and leave
--sandbox out."""


def demo(count: Annotated[int, typer.Option(metavar="N", min=1, help="How many recipients.")] = 90) -> None:
    """
    Send one-time codes to a sandbox in this process, and print what it received.

    The demo needs no account, and no handset receives anything.
    """
    display = display_for(Console(stderr=True), wanted=True)
    with TemporaryDirectory(prefix="pico-demo-") as folder:
        path = Path(folder) / "people.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("phone", "code"))
            rows.writerows((f"8613{person:09d}", f"{secrets.randbelow(10**6):06d}") for person in range(count))
        # Not promotional: the demo must not read the user's own list of opt-outs.
        options = BlastOptions(path, text=_TEXT, in_sandbox=True, promotional=False)
        with open_plan(AccountOptions(), options) as plan:
            print_line(f"{count:,} people, each with their own code. Pico's reference allows 30 messages per second.")
            print_line(f'$ pico blast people.csv --text "{_TEXT}" --sandbox')
            scan = scan_file(plan, display.show_reading)
            result = BlastRun(plan=plan, total=scan.preflight.total, display=display).run()
    summary = Summary(plan=plan, scan=scan, result=result)
    for line in summary.lines():
        print_line(line)
    print_line()
    print_line(_NEXT)
    raise typer.Exit(summary.exit_code)
