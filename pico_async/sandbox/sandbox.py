"""`Sandbox`: builds the parts and offers them to tests, benchmarks and the command line."""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from random import Random
from uuid import uuid4

import httpx
from starlette.applications import Starlette

from pico_async.sandbox.app import Pace, build_app
from pico_async.sandbox.banner import BANNER
from pico_async.sandbox.catalogue import Catalogue
from pico_async.sandbox.control import control_routes
from pico_async.sandbox.faults import DRAWN_FAULTS, Fault, FaultRule, Faults
from pico_async.sandbox.ledger import Ledger
from pico_async.sandbox.operations import RATES
from pico_async.sandbox.outbox.feed import Feed
from pico_async.sandbox.outbox.page import page_routes
from pico_async.sandbox.rates import RateRule, limiter
from pico_async.sandbox.receipts.delivery import Postman
from pico_async.sandbox.receipts.receipt import Receipts
from pico_async.sandbox.replies import Dialect
from pico_async.sandbox.server import listening
from pico_async.sandbox.settings import Dials
from pico_async.sandbox.state import Cloud
from pico_async.sandbox.statistics import Tally
from pico_async.sandbox.transport import SandboxTransport

DEFAULT_RATES: Mapping[str, float | None] = {"sms": 30, "token": 1, "balance": 1}
DEFAULT_API_KEY = "sandbox-api-key"  # the sandbox's own, good nowhere else
DEFAULT_PORT = 8321


class Sandbox:
    """
    A stand-in for Pico Cloud with one account, which judges requests by the reference and fails on request.

    It says nothing about what Pico does where the reference is silent: `BANNER` lists its inventions.

    Args:
        username: The account's name.
        api_key: The account's key.
        rate_rule: Window rule of the rates; None enforces none.
        rates: Requests a second for "sms", "mms", "voice", "token", "balance" and "management". What is None or not
            named is not limited.
        dialect: "documented", or "ruoyi" for failures of authentication and rate under HTTP 200.
        latency_s: Seconds between the decision and the reply.
        jitter_s: Up to so many seconds, drawn for each request, pass before it arrives.
        seed: Makes jitter and faults repeat.
        faults: Rules in force from the beginning.
        fault_rate: Share of the sends that a fault from *fault_kinds* befalls.
        fault_kinds: Faults to draw from.
        clock: Seconds; stamps arrivals and ages sessions. Waiting (jitter, latency, hangs) takes real time.
        duplicate_window_s: RuoYi's rule against repeated submission; 5 is its default there, None is off.
        balance: Credit to begin with.
        price: What one message costs.
        template_status: What a new template is: "approved", or "pending" until `review_template`.
        receipts: How delivery receipts are sent to the `callback` of a message; None sends none.

    One sandbox may be served and used in-process at once, from one event loop.
    """

    def __init__(
        self,
        *,
        username: str = "user333",
        api_key: str = DEFAULT_API_KEY,
        rate_rule: RateRule | str | None = RateRule.SLIDING_LOG,
        rates: Mapping[str, float | None] = DEFAULT_RATES,
        dialect: Dialect | str = Dialect.DOCUMENTED,
        latency_s: float = 0.0,
        jitter_s: float = 0.0,
        seed: int | None = None,
        faults: Iterable[FaultRule] = (),
        fault_rate: float = 0.0,
        fault_kinds: Iterable[Fault | str] = DRAWN_FAULTS,
        clock: Callable[[], float] = time.monotonic,
        duplicate_window_s: float | None = None,
        balance: Decimal = Decimal("1000.00"),
        price: Decimal = Decimal("0.001"),
        template_status: str = "approved",
        receipts: Receipts | None = None,
    ) -> None:
        if unknown := set(rates) - RATES:
            raise ValueError(f"rates: no such rate: {', '.join(sorted(unknown))}. Known: {', '.join(sorted(RATES))}.")
        self.username = username
        self.api_key = api_key
        self.ledger = Ledger()
        self._faults = Faults(faults, rate=fault_rate, kinds=fault_kinds, seed=seed)
        self._cloud = Cloud(
            username=username,
            api_key=api_key,
            limiters={
                name: limiter(rate_rule, rate)
                for name, rate in rates.items()
                if rate is not None and rate_rule is not None
            },
            dialect=Dialect(dialect),
            faults=self._faults,
            ledger=self.ledger,
            clock=clock,
            duplicate_window_s=duplicate_window_s,
            balance=balance,
            price=price,
            catalogue=Catalogue(template_status),
        )
        # Apart from the faults' chance, so that jitter does not change which requests fail.
        pace = Pace(latency_s, jitter_s, Random(seed))  # noqa: S311  # it must repeat, not surprise
        epoch = time.time() - clock()
        self._postman = Postman(self.ledger, clock, epoch, receipts)
        dials = Dials(
            pace=pace,
            cloud=self._cloud,
            faults=self._faults,
            postman=self._postman,
            rate_rule=None if rate_rule is None else RateRule(rate_rule),
            rates=rates,
        )
        feed = Feed(
            run=uuid4().hex[:12],
            username=username,
            api_key=api_key if api_key == DEFAULT_API_KEY else None,
            ledger=self.ledger,
            catalogue=self._cloud.catalogue,
            postman=self._postman,
            dials=dials,
            tally=Tally(self.ledger),
            clock=clock,
            epoch=epoch,
        )
        control = control_routes(self._cloud, self.ledger, self._faults, dials)
        self.app: Starlette = build_app(self._cloud, pace, [*page_routes(feed, self._postman, dials), *control])

    @property
    def balance(self) -> Decimal:
        """The credit that is left."""
        return self._cloud.balance

    def transport(self) -> httpx.AsyncBaseTransport:
        """Make an httpx transport that reaches the sandbox without a socket, whatever host a request names."""
        return SandboxTransport(self.app)

    @asynccontextmanager
    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        allow_remote: bool = False,
        keep_alive_s: float = 75.0,
    ) -> AsyncIterator[str]:
        """
        Serve on a socket in the running asyncio loop, and yield the base URL, as "http://127.0.0.1:54321".

        Leaving the context cuts off what is still being served, and leaves no task and no connection behind.

        Args:
            host: An address to listen on; one that is not loopback needs *allow_remote*.
            port: 0 takes a free one.
            allow_remote: The sandbox protects nothing: its control endpoints ask for no key. It answers to loopback
                names alone, or to its address and private names where it listens for others, lest a page in a browser
                use it by a name of its own (DNS rebinding).
            keep_alive_s: How long an idle connection is kept.
        """
        async with listening(self.app, host, port, allow_remote=allow_remote, keep_alive_s=keep_alive_s) as base_url:
            # No task group: the context may be left in another task than it was entered in, as fixtures are.
            postman = asyncio.get_running_loop().create_task(self._postman.run())
            try:
                yield base_url
            finally:
                postman.cancel()
                await asyncio.wait([postman])

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        allow_remote: bool = False,
        keep_alive_s: float = 75.0,
    ) -> None:
        """
        Serve until SIGTERM or SIGINT; first print the banner, then one line `listening on http://…`.

        For the command line: it blocks, and starts an event loop of its own.
        """
        _say(BANNER)
        key = f", X-API-Key {self.api_key}" if self.api_key == DEFAULT_API_KEY else ""
        _say(f"account {self.username}{key}")

        async def serve_until_told() -> None:
            told = told_to_end()
            async with self.serve(host, port, allow_remote=allow_remote, keep_alive_s=keep_alive_s) as base_url:
                _say(f"outbox at {base_url}/")
                _say(f"listening on {base_url}")
                await told.wait()

        with suppress(KeyboardInterrupt):
            asyncio.run(serve_until_told())

    async def deliver_receipts(self, *, everything: bool = False) -> int:
        """
        Send the delivery receipts that are due on the sandbox's clock, one after the other; give how often it tried.

        For use without `serve()`, which sends them by itself. One that its receiver did not take is due again after
        its backoff. With *everything* nothing waits: what is due later is sent now, and tried as often as it may be.

        Raises:
            RuntimeError: The sandbox was made without `receipts`.
        """
        return await self._postman.deliver(everything=everything)

    def expire_tokens(self) -> None:
        """Make every token now in circulation stale: 401 from now on."""
        self._cloud.tokens.expire_all()

    def inject(self, rule: FaultRule) -> None:
        """Put one more fault rule in force."""
        self._faults.inject(rule)

    def clear_faults(self) -> None:
        """Drop the fault rules and the seeded draw; magic destinations stay."""
        self._faults.clear()

    def review_template(self, template_id: str, status: str) -> None:
        """Set a template to "approved", "rejected" or "pending", as Pico's review would; KeyError if unknown."""
        self._cloud.catalogue.review(template_id, status)


def told_to_end() -> asyncio.Event:
    """Give what SIGTERM and SIGINT set, in the main thread's loop."""
    told = asyncio.Event()
    # Loops on Windows take no signals; there, an interrupt is a KeyboardInterrupt.
    if sys.platform != "win32" and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    # Whoever started this in another process waits for the line.
    sys.stdout.flush()
