"""`pico doctor`: the checks one after the other, and what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from pico_async.cli.account_options import Callback, Json, Sender, Settings
from pico_async.cli.console import say_finding, say_json
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
    settings: Settings,
    ctx: typer.Context,
    journal: Annotated[Path | None, typer.Option(metavar="FILE", help="Look at this journal of a blast, too.")] = None,
    timeout: Annotated[float, typer.Option(metavar="S", min=0.1, max=600, help="How long each step may take.")] = 10.0,
    as_json: Json = False,
    sender: Sender = None,
    callback: Callback = None,
) -> None:
    """
    Find out why it does not work: check the settings, the way to Pico, the token and the balance.

    It sends no message. Of Pico it asks one token and the balance once. It shows no key, no token and no whole number.

    Exit codes: 0, nothing failed; 1, something did.
    """
    found: list[Finding] = []

    async def tell() -> None:
        setup = configuration(settings, _sources(ctx, settings), sender=sender, callback=callback)
        async for finding in _examine(setup, settings, journal, timeout):
            found.append(finding)
            if not as_json:
                say_finding(finding.check, finding.state.value, finding.said, finding.details, finding.advice)

    asyncio.run(tell())
    states = [finding.state for finding in found]
    if as_json:
        say_json({"ok": State.FAILED not in states, "checks": [finding.as_json() for finding in found]})
    if State.FAILED in states:
        raise typer.Exit(1)


async def _examine(
    setup: Configuration, settings: Settings, journal: Path | None, timeout_s: float
) -> AsyncIterator[Finding]:
    yield installation.python()
    yield installation.packages()
    yield setup.finding
    async for finding in _reach(setup, timeout_s):
        yield finding
    if settings.fleet is not None:
        yield await stores.redis(settings.fleet, timeout_s=timeout_s)
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


def _sources(ctx: typer.Context, settings: Settings) -> Mapping[str, str]:
    sources = {}
    for name, variable in _VARIABLES.items():
        source = ctx.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            sources[name] = variable if source.name == "ENVIRONMENT" else f"--{name.replace('_', '-')}"
    if settings.fleet is not None:
        sources["redis"] = "--redis" if settings.fleet.asked_for else "PICO_REDIS_URL"
    return sources
