"""The options of the account, from flags and the environment, and the session that they make."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from attrs import evolve, field, frozen

from pico_async._engine.hosts import is_loopback
from pico_async._settings import DEFAULT_BASE_URL, checked_base_url
from pico_async.cli.fleet_address import URL_HELP, FleetAddress
from pico_async.cli.signature import with_option_class
from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError
from pico_async.session import PicoSession

Value = TypeVar("Value")

_PANEL = "Account"

Sender = Annotated[
    str | None,
    typer.Option(envvar="PICO_SENDER", metavar="NUMBER", help="Sender ID or number.", rich_help_panel=_PANEL),
]
Callback = Annotated[
    str | None,
    typer.Option(envvar="PICO_CALLBACK", metavar="URL", help="URL for the delivery receipts.", rich_help_panel=_PANEL),
]
Region = Annotated[
    str | None,
    typer.Option(
        envvar="PICO_REGION",
        metavar="CC",
        help="Region whose national numbers are accepted, for example TW for 0912 345 678. Numbers of other regions "
        "need their +. Needs the numbers extra.",
    ),
]
Suppress = Annotated[
    Path | None,
    typer.Option(
        envvar="PICO_SUPPRESS",
        metavar="FILE",
        help="Send nothing to the numbers in this file: one per line, or a CSV file with a column of numbers.",
    ),
]
Promotional = Annotated[
    bool,
    typer.Option(
        "--promotional/--no-promotional",
        help="Whether opt-outs count. --no-promotional is for messages that the recipient requested, such as codes.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]


@frozen(kw_only=True)
class AccountOptions:
    """
    The account to use, and where. typer reads the annotated fields as options.

    The API key is read only when a session is made, and is not stored, so that printing the options never shows it.
    """

    username: Annotated[
        str | None,
        typer.Option(envvar="PICO_USERNAME", metavar="NAME", help="API account name.", rich_help_panel=_PANEL),
    ] = None
    api_key_file: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File with the API key, or '-' for stdin. Without this option the key comes from PICO_API_KEY or a "
            "prompt. There is no option for the key itself: `ps` and the shell's history would show it.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="PICO_BASE_URL",
            metavar="URL",
            help=f"Base URL of Pico; {DEFAULT_BASE_URL} by default.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Share the rate limit and the token with all processes that use the same Redis, {URL_HELP}",
            rich_help_panel=_PANEL,
        ),
    ] = field(default=None, repr=False)
    redis_prefix: Annotated[
        str,
        typer.Option(
            envvar="PICO_REDIS_PREFIX", metavar="NAME", help="Prefix of the Redis keys.", rich_help_panel=_PANEL
        ),
    ] = "pico"
    sender: str | None = None
    callback: str | None = None
    suppression: Container[str] | None = field(default=None, repr=False)

    @property
    def fleet(self) -> FleetAddress | None:
        return FleetAddress.of(self.redis, self.redis_prefix)

    @property
    def is_sandbox(self) -> bool:
        """Whether the base URL, which must be valid, is on this machine: then a sandbox gets the messages."""
        return is_loopback(urlsplit(checked_base_url(self.base_url or DEFAULT_BASE_URL)).hostname)

    @property
    def has_credentials(self) -> bool:
        """Whether a session can be made without a prompt for the API key."""
        return bool(self.username and (self.api_key_file or os.environ.get("PICO_API_KEY")))

    def with_sender(self, *, sender: str | None, callback: str | None = None) -> AccountOptions:
        """Return the options with a sender, or raise if there is none, and a callback."""
        if not sender:
            raise ConfigurationError("There is no sender: pass --sender or set PICO_SENDER.")
        return evolve(self, sender=sender, callback=callback)

    def session(self, rates: Rates | None = None) -> PicoSession:
        """Make a session, or raise if an option is missing or wrong; with a Redis, it shares the fleet's rate limit."""
        if not self.username:
            raise ConfigurationError("There is no username: pass --username or set PICO_USERNAME.")
        fleet = self.fleet
        coordinator = None if fleet is None else fleet.coordinator(rates)
        return PicoSession(
            username=self.username,
            api_key=read_api_key(self.api_key_file)[1],
            base_url=self.base_url,
            sender=self.sender,
            callback=self.callback,
            rates=rates if coordinator is None else None,
            coordinator=coordinator,
            suppression=self.suppression,
        )

    def call(self, operation: Callable[[PicoSession], Awaitable[Value]]) -> Value:
        """Run one operation in a session of its own, and return its result."""

        async def run() -> Value:
            async with self.session() as pico:
                return await operation(pico)

        return asyncio.run(run())


def with_account_options(command: Callable[..., None]) -> Callable[..., None]:
    return with_option_class(command, AccountOptions)


def read_api_key(file: str | None) -> tuple[str, str]:
    """Return the source of the API key, in words, and the key; raise if there is none."""
    if file == "-":
        source, key = "stdin", sys.stdin.readline()
    elif file is not None:
        source, key = file, _content(Path(file))
    elif os.environ.get("PICO_API_KEY"):
        return "PICO_API_KEY", os.environ["PICO_API_KEY"]
    elif sys.stdin.isatty():
        source, key = "the input", str(typer.prompt("API key", hide_input=True, err=True))
    else:
        raise ConfigurationError("There is no API key: set PICO_API_KEY, or pass --api-key-file.")
    if not key.strip():
        raise ConfigurationError(f"There is no API key: {source} is empty.")
    return source, key.strip()


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:  # Its message would quote the key.
        reason = "it is not UTF-8 text"
    raise ConfigurationError(f"The API key cannot be read from {path}: {reason}.")
