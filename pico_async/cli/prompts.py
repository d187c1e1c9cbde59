"""Confirmations before changes that cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated, TypeAlias

import typer

from pico_async.cli.console import print_note
from pico_async.errors import ConfigurationError

Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def require_yes(question: str, *, given: bool) -> None:
    """Ask the user at the terminal, unless --yes was given; raise if there is none, or the answer is no."""
    if given:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was changed: there is no terminal to ask at. Pass --yes to confirm.")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C or Ctrl-D
        print_note("")
        agreed = False
    if not agreed:
        raise ConfigurationError("Nothing was changed.")
