"""The sandbox of `pico`: as a command of its own, or in this process instead of Pico."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer
from attrs import frozen

from pico_async.cli.console import print_line
from pico_async.cli.format import plural
from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError
from pico_async.session import PicoSession

if TYPE_CHECKING:
    from pico_async.sandbox import Ledger, Sandbox

SENDER = "8612345678888"
"""The sender of messages to a sandbox where none is set: the example of the reference."""


# Copies of the sandbox's own values: its import would load a web server each time that a user presses TAB. A test
# compares them.
RateRuleName: TypeAlias = Literal["sliding-log", "aligned-window", "first-request-window", "token-bucket", "none"]
DialectName: TypeAlias = Literal["documented", "ruoyi"]
ReceiptFormName: TypeAlias = Literal["json", "form", "query"]


class MissingExtraError(ConfigurationError):
    """Packages of the extra are not installed."""


def sandbox_class() -> type[Sandbox]:
    """Return the class `Sandbox`, or raise MissingExtraError if starlette or uvicorn is missing."""
    # Not at the top: all other commands work without the extra.
    try:
        from pico_async.sandbox import Sandbox
    except ImportError:
        raise MissingExtraError(
            "The sandbox needs starlette and uvicorn: pip install 'pico-async[cli,sandbox]'"
        ) from None
    return Sandbox


def make_sandbox(rates: Rates) -> Sandbox:
    """Return a sandbox that enforces the rates of the session, by the strictest of the window rules."""
    return sandbox_class()(rates={"sms": rates.sms, "token": rates.token, "balance": rates.balance})


@asynccontextmanager
async def sandbox_session(
    sandbox: Sandbox, rates: Rates, *, sender: str | None = None, callback: str | None = None
) -> AsyncIterator[PicoSession]:
    """Serve the sandbox on a loopback socket, and open a session with it. No credentials of an account are used."""
    async with (
        sandbox.serve() as base_url,
        PicoSession(
            username=sandbox.username,
            api_key=sandbox.api_key,
            base_url=base_url,
            sender=sender or SENDER,
            callback=callback,
            rates=rates,
        ) as pico,
    ):
        yield pico


@frozen(kw_only=True)
class SandboxCounts:
    """The counts of a sandbox's ledger after a bulk send; *accepted* counts a message whatever the reply was."""

    accepted: int
    densest_second: int
    refusals: int
    duplicates: int
    token_requests: int

    @classmethod
    def of(cls, ledger: Ledger) -> SandboxCounts:
        """Return the counts of a ledger."""
        return cls(
            accepted=len(ledger.accepted),
            densest_second=ledger.densest(),
            refusals=ledger.refusals,
            duplicates=sum(count - 1 for count in ledger.duplicates().values()),
            token_requests=ledger.token_requests,
        )

    def lines(self) -> Iterator[str]:
        yield "Received by the sandbox:"
        yield f"{self.accepted:>9,} accepted"
        yield f"{self.densest_second:>9,} in the densest second"
        yield f"{self.refusals:>9,} refused as too fast"
        yield f"{self.duplicates:>9,} sent twice"
        yield f"{self.token_requests:>9,} {plural(self.token_requests, 'token request')}"


def sandbox_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 chooses a free one.", min=0, max=65535)] = 8321,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen where other machines can reach it. It has no protection.")
    ] = False,
    username: Annotated[str, typer.Option(metavar="NAME", help="Username of the sandbox's account.")] = "user333",
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="API key of the sandbox's account; never use a real one.")
    ] = None,
    rate_rule: Annotated[
        RateRuleName,
        typer.Option(
            metavar="RULE",
            help="How '30 per second' is enforced: sliding-log, aligned-window, first-request-window, token-bucket "
            "or none.",
        ),
    ] = "sliding-log",
    dialect: Annotated[
        DialectName, typer.Option(help="Form of error replies: documented, or ruoyi for HTTP 200 with a code.")
    ] = "documented",
    latency_ms: Annotated[float, typer.Option(min=0, help="Delay before each reply.")] = 0.0,
    jitter_ms: Annotated[float, typer.Option(min=0, help="Maximum random delay before each request.")] = 0.0,
    fault_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of the sends that fail.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Seed that makes jitter, faults and receipts reproducible.")] = None,
    receipts: Annotated[
        bool, typer.Option("--receipts/--no-receipts", help="Send delivery receipts to the callback of each message.")
    ] = True,
    receipt_form: Annotated[
        ReceiptFormName, typer.Option(help="Form of the receipts: json (POST), form (POST) or query (GET).")
    ] = "json",
    receipt_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Host for receipts, besides loopback. Repeatable; '*' means any host."),
    ] = None,
) -> None:
    """
    Run a sandbox, a local substitute for Pico Cloud, until Ctrl-C.

    No handset receives anything.
    """
    sandbox_type = sandbox_class()
    # Not at the top, for the reason given in `sandbox_class`.
    from pico_async.sandbox import BANNER, DEFAULT_API_KEY, Receipts
    from pico_async.sandbox.host_check import is_loopback

    if not allow_remote and not is_loopback(host):
        raise ConfigurationError(
            f"--host {host}: other machines can reach it. Pass --allow-remote if that is intended."
        )
    sandbox = sandbox_type(
        username=username,
        api_key=api_key or DEFAULT_API_KEY,
        rate_rule=None if rate_rule == "none" else rate_rule,
        dialect=dialect,
        latency_s=latency_ms / 1000,
        jitter_s=jitter_ms / 1000,
        fault_rate=fault_rate,
        seed=seed,
        receipts=Receipts(form=receipt_form, allow_hosts=receipt_host or (), seed=seed) if receipts else None,
    )
    print_line(BANNER)
    try:
        asyncio.run(_serve(sandbox, host, port, key_shown=api_key is None))
    except KeyboardInterrupt:  # The event loop of Windows handles no signals.
        return
    except OSError as error:
        raise ConfigurationError(
            f"The sandbox cannot listen on {host}, port {port}: {error.strerror}. Choose another with --port; "
            "0 chooses a free one."
        ) from None


async def _serve(sandbox: Sandbox, host: str, port: int, *, key_shown: bool) -> None:
    from pico_async.sandbox.sandbox import stop_event

    stop = stop_event()
    # The check of the host is in `sandbox_command`.
    async with sandbox.serve(host, port, allow_remote=True) as base_url:
        # A key that the user chose may be a real one.
        api_key = sandbox.api_key if key_shown else "...  # the one you chose"
        print_line(
            "To use it, set these variables:\n\n"
            f"export PICO_BASE_URL={base_url}\n"
            f"export PICO_USERNAME={sandbox.username}\n"
            f"export PICO_API_KEY={api_key}\n"
            f"export PICO_SENDER={SENDER}\n\n"
            f"The received messages are shown at {base_url}/\n\n"
            f"listening on {base_url}"
        )
        await stop.wait()
