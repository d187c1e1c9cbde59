"""Questions before what cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated, TypeAlias

import typer

from pico_async.cli.console import print_note
from pico_async.errors import ConfigurationError

Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def require_yes(question: str, *, given: bool) -> None:
    """
    Go on only with a yes, from the option or from whoever sits there.

    Raises:
        ConfigurationError: They said no, or nobody can be asked.
    """
    if given:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was changed: pass --yes where nobody can be asked.")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C or Ctrl-D
        print_note("")
        agreed = False
    if not agreed:
        raise ConfigurationError("Nothing was changed.")
