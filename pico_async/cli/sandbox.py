"""The sandbox as `pico` uses it: on its own, or in this process in Pico's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

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
"""The reference's own example, for whoever names no sender to a sandbox."""


class MissingExtraError(ConfigurationError):
    """The packages that this needs are not installed."""


def sandbox_class() -> type[Sandbox]:
    """
    Give the sandbox's class.

    Raises:
        MissingExtraError: starlette or uvicorn is missing.
    """
    # Here and not above: all other commands work without the extra.
    try:
        from pico_async.sandbox import Sandbox
    except ImportError:
        raise MissingExtraError(
            "The sandbox needs starlette and uvicorn: pip install 'pico-async[cli,sandbox]'"
        ) from None
    return Sandbox


def make_sandbox(rates: Rates) -> Sandbox:
    """Make a sandbox that enforces the session's own rates, by the strictest of the window rules."""
    return sandbox_class()(rates={"sms": rates.sms, "token": rates.token, "balance": rates.balance})


@asynccontextmanager
async def sandbox_session(
    sandbox: Sandbox, rates: Rates, *, sender: str | None = None, callback: str | None = None
) -> AsyncIterator[PicoSession]:
    """Serve the sandbox on a loopback socket, and open a session with it. No credentials of Pico's are touched."""
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
    """
    What the sandbox's ledger says of a blast.

    Attributes:
        accepted: Messages that it carried out, whatever it answered.
        densest_second: Most sends that any second held.
        refusals: Requests that came too fast.
        duplicates: Messages that went out more than once.
    """

    accepted: int
    densest_second: int
    refusals: int
    duplicates: int
    token_requests: int

    @classmethod
    def of(cls, ledger: Ledger) -> SandboxCounts:
        """Read the ledger."""
        return cls(
            accepted=len(ledger.accepted),
            densest_second=ledger.densest(),
            refusals=ledger.refusals,
            duplicates=sum(count - 1 for count in ledger.duplicates().values()),
            token_requests=ledger.token_requests,
        )

    def lines(self) -> Iterator[str]:
        """Say it to a person."""
        yield "What the sandbox saw:"
        yield f"{self.accepted:>9,} accepted"
        yield f"{self.densest_second:>9,} in the densest second"
        yield f"{self.refusals:>9,} refused as too fast"
        yield f"{self.duplicates:>9,} sent twice"
        yield f"{self.token_requests:>9,} {plural(self.token_requests, 'token request')}"


def sandbox_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8321,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen also where other machines reach it. It protects nothing.")
    ] = False,
    username: Annotated[str, typer.Option(metavar="NAME", help="The sandbox's own account.")] = "user333",
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The sandbox's own key, never one of Pico's.")
    ] = None,
    rate_rule: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="How '30 per second' is enforced: sliding-log, aligned-window, first-request-window, token-bucket "
            "or none.",
        ),
    ] = "sliding-log",
    dialect: Annotated[
        str, typer.Option(help="How failures are told: documented, or ruoyi for HTTP 200 with a code.")
    ] = "documented",
    latency_ms: Annotated[float, typer.Option(min=0, help="Time before each reply.")] = 0.0,
    jitter_ms: Annotated[float, typer.Option(min=0, help="Up to so much time before each request arrives.")] = 0.0,
    fault_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of the sends that go wrong.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes jitter, faults and receipts repeat.")] = None,
    receipts: Annotated[
        bool, typer.Option("--receipts/--no-receipts", help="Send delivery receipts to the callback of a message.")
    ] = True,
    receipt_form: Annotated[
        str, typer.Option(metavar="FORM", help="How they travel: json (POST), form (POST) or query (GET).")
    ] = "json",
    receipt_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A host beside loopback that they may go to; repeatable, '*' is any."),
    ] = None,
) -> None:
    """
    Run a stand-in for Pico Cloud on this machine, until Ctrl-C.

    Nothing is sent to any handset.
    """
    stand_in = sandbox_class()
    # Here and not above, for the reason given in `sandbox_class`.
    from pico_async.sandbox import BANNER, DEFAULT_API_KEY, Dialect, RateRule, ReceiptForm, Receipts
    from pico_async.sandbox.server import is_loopback

    _require("--rate-rule", rate_rule, (*RateRule, "none"))
    _require("--dialect", dialect, tuple(Dialect))
    _require("--receipt-form", receipt_form, tuple(ReceiptForm))
    if not allow_remote and not is_loopback(host):
        raise ConfigurationError(f"--host {host}: others reach it there, and it protects nothing. Pass --allow-remote.")
    sandbox = stand_in(
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
    except KeyboardInterrupt:  # where the loop takes no signals
        return
    except OSError as error:
        raise ConfigurationError(
            f"The sandbox cannot listen on {host}, port {port}: {error.strerror}. Name another by --port; "
            "0 takes a free one."
        ) from None


def _require(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{option} must be one of {', '.join(allowed)}.")


async def _serve(sandbox: Sandbox, host: str, port: int, *, key_shown: bool) -> None:
    from pico_async.sandbox.sandbox import stop_event

    told = stop_event()
    # Remote hosts were ruled on above.
    async with sandbox.serve(host, port, allow_remote=True) as base_url:
        print_line("Point a session at it:")
        print_line()
        print_line(f"export PICO_BASE_URL={base_url}")
        print_line(f"export PICO_USERNAME={sandbox.username}")
        # A key that was chosen may be somebody's real one after all.
        print_line(
            f"export PICO_API_KEY={sandbox.api_key}" if key_shown else "export PICO_API_KEY=...  # the one you chose"
        )
        print_line(f"export PICO_SENDER={SENDER}")
        print_line()
        print_line(f"See what arrives at {base_url}/")
        print_line()
        print_line(f"listening on {base_url}")
        await told.wait()
