"""`pico doctor`: the checks one after the other, and what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from pico_async.cli.account_options import AccountOptions, Callback, Json, Sender
from pico_async.cli.console import print_finding, print_json
from pico_async.cli.doctor import installation, stores
from pico_async.cli.doctor.account import account
from pico_async.cli.doctor.certificate import trust
from pico_async.cli.doctor.configuration import Configuration, configuration
from pico_async.cli.doctor.connection import walk
from pico_async.cli.doctor.dns import resolve
from pico_async.cli.doctor.finding import Finding, State, not_checked

_VARIABLES = {
    "username": "PICO_USERNAME",
    "base_url": "PICO_BASE_URL",
    "sender": "PICO_SENDER",
    "callback": "PICO_CALLBACK",
}


def doctor(
    account: AccountOptions,
    ctx: typer.Context,
    journal: Annotated[Path | None, typer.Option(metavar="FILE", help="Look at this journal of a blast, too.")] = None,
    timeout: Annotated[float, typer.Option(metavar="S", min=0.1, max=600, help="How long each step may take.")] = 10.0,
    as_json: Json = False,
    sender: Sender = None,
    callback: Callback = None,
) -> None:
    """
    Find out why it does not work: check the account, the way to Pico, the token and the balance.

    It sends no message. Of Pico it asks one token and the balance once. It shows no key, no token and no whole number.

    Exit codes: 0, nothing failed; 1, something did.
    """
    found: list[Finding] = []

    async def tell() -> None:
        setup = configuration(account, _sources(ctx, account), sender=sender, callback=callback)
        async for finding in _examine(setup, account, journal, timeout):
            found.append(finding)
            if not as_json:
                print_finding(finding.check, finding.state.value, finding.message, finding.details, finding.advice)

    asyncio.run(tell())
    states = [finding.state for finding in found]
    if as_json:
        print_json({"ok": State.FAILED not in states, "checks": [finding.as_json() for finding in found]})
    if State.FAILED in states:
        raise typer.Exit(1)


async def _examine(
    setup: Configuration, account: AccountOptions, journal: Path | None, timeout_s: float
) -> AsyncIterator[Finding]:
    yield installation.python()
    yield installation.packages()
    yield setup.finding
    async for finding in _reach(setup, timeout_s):
        yield finding
    if account.fleet is not None:
        yield await stores.redis(account.fleet, timeout_s=timeout_s)
    if journal is not None:
        yield await stores.journal(journal)


async def _reach(setup: Configuration, timeout_s: float) -> AsyncIterator[Finding]:
    """Go from the name of the host to the balance, as far as it goes, and name what is left."""
    left = ["dns", "connection", "tls", "clock", "token", "balance"]
    why = "there is no address that could be used"
    async for finding, so in _steps(setup, timeout_s):
        yield finding
        left.remove(finding.check)
        why = so
    for check in left:
        yield not_checked(check, why)


async def _steps(setup: Configuration, timeout_s: float) -> AsyncIterator[tuple[Finding, str]]:
    """Give each finding, and why nothing comes after it if it is the last."""
    if setup.base_url is None:
        return
    if setup.proxy is None:
        names = await resolve(setup.host, timeout_s=timeout_s)
    else:
        names = not_checked("dns", "the proxy resolves the name")
    yield names, "the host's name does not resolve"
    if names.state is State.FAILED:
        return
    # As the session's own: reading whom to trust takes a while, so all steps share it.
    tls = trust()
    if isinstance(tls, Finding):
        yield tls, "there is nobody to trust"
        return
    connection, security = await walk(setup.base_url, setup.proxy, tls, timeout_s=timeout_s)
    yield connection, "there is no connection"
    if not connection.passed:
        return
    yield security, "TLS failed" if not security.passed else "a session would not take the settings"
    if security.passed and setup.username is not None:
        async for finding in account(setup, tls, timeout_s=timeout_s):
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
