"""Confirmations before changes that cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated, TypeAlias

import typer

from pico_async.cli.console import print_note
from pico_async.errors import ConfigurationError

Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def require_yes(question: str, *, given: bool) -> None:
    """
    Return if the option was given or the user at the terminal answers yes.

    Raises:
        ConfigurationError: The answer is no, or there is no terminal to ask at.
    """
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
