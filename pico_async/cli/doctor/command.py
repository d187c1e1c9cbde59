"""`pico doctor`: the checks in their order, and their output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pico_async.cli.account_options import AccountOptions, Callback, Json, Sender
from pico_async.cli.console import print_json, print_line, printable
from pico_async.cli.doctor import installation, stores
from pico_async.cli.doctor.account import check_account
from pico_async.cli.doctor.certificate import load_tls_context
from pico_async.cli.doctor.configuration import Configuration, check_configuration
from pico_async.cli.doctor.connection import check_connection
from pico_async.cli.doctor.dns import check_dns
from pico_async.cli.doctor.finding import Finding, State, not_checked

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "bold red", State.NOT_CHECKED: "dim"}
_VARIABLES = {
    "username": "PICO_USERNAME",
    "base_url": "PICO_BASE_URL",
    "sender": "PICO_SENDER",
    "callback": "PICO_CALLBACK",
}


def doctor(
    account: AccountOptions,
    ctx: typer.Context,
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also check this journal of a bulk send.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0.1, max=600, help="Timeout of each step in seconds.")
    ] = 10.0,
    as_json: Json = False,
    sender: Sender = None,
    callback: Callback = None,
) -> None:
    """
    Find out why sending fails: check the settings, the connection to Pico, the token and the balance.

    It sends no message, and requests only one token and the balance. It shows no key, no token and no whole phone
    number.

    Exit codes: 0, no check failed; 1, at least one failed.
    """
    found: list[Finding] = []

    async def examine() -> None:
        setup = check_configuration(account, _sources(ctx, account), sender=sender, callback=callback)
        async for finding in _examine(setup, account, journal, timeout):
            found.append(finding)
            if not as_json:
                _print(finding)

    asyncio.run(examine())
    states = [finding.state for finding in found]
    if as_json:
        print_json({"ok": State.FAILED not in states, "checks": [*map(attrs.asdict, found)]})
    if State.FAILED in states:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    word = finding.state.replace("_", " ").ljust(len("not checked"))
    advice = [] if finding.advice is None else [f"What to do: {finding.advice}"]
    below = [*map(printable, (*finding.details, *advice))]
    if not sys.stdout.isatty():
        # One line each, so that `grep` finds them.
        print_line(f"{word}  {finding.check}: {printable(finding.message)}")
        for line in below:
            print_line(f"{'':{len(word)}}  {line}")
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    result = Text.assemble((finding.check, "bold"), ": ", printable(finding.message))
    grid.add_row(Text(word, style=_STYLES[finding.state]), result)
    for line in below:
        grid.add_row("", Text(line))
    Console().print(grid)


async def _examine(
    setup: Configuration, account: AccountOptions, journal: Path | None, timeout_s: float
) -> AsyncIterator[Finding]:
    yield installation.check_python()
    yield installation.check_packages()
    yield setup.finding
    async for finding in _reach(setup, timeout_s):
        yield finding
    if account.fleet is not None:
        yield await stores.check_redis(account.fleet, timeout_s=timeout_s)
    if journal is not None:
        yield await stores.check_journal(journal)


async def _reach(setup: Configuration, timeout_s: float) -> AsyncIterator[Finding]:
    """Yield the findings from the name of the host to the balance; checks after a failed one are not made."""
    left = ["dns", "connection", "tls", "clock", "token", "balance"]
    reason = "there is no valid address"
    async for finding, reason_if_last in _steps(setup, timeout_s):
        yield finding
        left.remove(finding.check)
        reason = reason_if_last
    for check in left:
        yield not_checked(check, reason)


async def _steps(setup: Configuration, timeout_s: float) -> AsyncIterator[tuple[Finding, str]]:
    """Yield each finding, with the reason why no check follows if it is the last one."""
    if setup.base_url is None:
        return
    if setup.proxy is None:
        names = await check_dns(setup.host, timeout_s=timeout_s)
    else:
        names = not_checked("dns", "the proxy resolves the name")
    yield names, "the host's name does not resolve"
    if names.state is State.FAILED:
        return
    # Loading the certificates takes a while, so all steps share the context.
    tls = load_tls_context()
    if isinstance(tls, Finding):
        yield tls, "there are no CA certificates"
        return
    connection, security = await check_connection(setup.base_url, setup.proxy, tls, timeout_s=timeout_s)
    yield connection, "there is no connection"
    if not connection.passed:
        return
    yield security, "TLS failed" if not security.passed else "a session would refuse the settings"
    if security.passed and setup.username is not None:
        async for finding in check_account(setup, tls, timeout_s=timeout_s):
            yield finding, ""


def _sources(ctx: typer.Context, account: AccountOptions) -> Mapping[str, str]:
    sources = {}
    for name, variable in _VARIABLES.items():
        source = ctx.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            sources[name] = variable if source.name == "ENVIRONMENT" else f"--{name.replace('_', '-')}"
    if account.fleet is not None:
        sources["redis"] = "--redis" if account.fleet.asked_for else "PICO_REDIS_URL"
    return sources
