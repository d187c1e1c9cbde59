"""
The `pico` command.

    pico demo
    pico blast people.csv --text "Your code is {{code}}"

Needs the extra: `pip install 'pico-async[cli]'`.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run `pico` with the arguments of this process, and exit."""
    # Not at the top: without the extra, this function must still run to name the missing packages.
    try:
        import rich as _rich  # noqa: F401
        import typer as _typer  # noqa: F401
    except ImportError:
        sys.stderr.write("error: `pico` needs typer and rich: pip install 'pico-async[cli]'\n")
        raise SystemExit(1) from None
    from pico_async.cli.app import run

    run()
