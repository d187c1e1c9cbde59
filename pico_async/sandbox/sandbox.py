"""`Sandbox` makes the parts of a sandbox and serves them."""

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

from pico_async.sandbox.app import Delays, build_app
from pico_async.sandbox.banner import BANNER
from pico_async.sandbox.catalogue import Catalogue
from pico_async.sandbox.control import control_routes
from pico_async.sandbox.faults import DRAWN_FAULTS, Fault, FaultRule, Faults
from pico_async.sandbox.ledger import Ledger
from pico_async.sandbox.operations import RATES
from pico_async.sandbox.outbox.feed import Feed
from pico_async.sandbox.outbox.page import page_routes
from pico_async.sandbox.rates import RateRule, make_limiter
from pico_async.sandbox.receipts.delivery import ReceiptDelivery
from pico_async.sandbox.receipts.receipt import Receipts
from pico_async.sandbox.replies import Dialect
from pico_async.sandbox.server import listening
from pico_async.sandbox.settings import Settings
from pico_async.sandbox.state import Cloud
from pico_async.sandbox.statistics import Statistics
from pico_async.sandbox.transport import SandboxTransport

DEFAULT_RATES: Mapping[str, float | None] = {"sms": 30, "token": 1, "balance": 1}
DEFAULT_API_KEY: str = "sandbox-api-key"  # documented, and valid only at a sandbox
DEFAULT_PORT: int = 8321


class Sandbox:
    """
    A stand-in for Pico Cloud with one account. It checks requests by the reference, and fails on request.

    Where the reference is silent, it does not show what Pico does: `BANNER` lists its inventions.

    Args:
        username: Name of the account.
        api_key: Key of the account.
        rate_rule: Window rule of the rates; None enforces none.
        rates: Requests per second for "sms", "mms", "voice", "token", "balance" and "management". A rate that is None
            or absent is not limited.
        dialect: "documented", or "ruoyi", which reports failures of authentication and rate under HTTP 200.
        latency_s: Seconds between the decision and the reply.
        jitter_s: Most seconds before a request arrives, drawn for each request.
        seed: Seed of jitter and faults: the same seed draws the same ones.
        faults: Fault rules in force from the start.
        fault_rate: Share of the sends that fail with a fault from *fault_kinds*.
        fault_kinds: Faults to draw from.
        clock: Returns seconds, for times of arrival and ages of sessions. Jitter, latency and hangs take real time.
        duplicate_window_s: Seconds of RuoYi's rule against repeated submission; 5 is RuoYi's default, None is off.
        balance: Credit at the start.
        price: Price of one message.
        template_status: Status of a new template: "approved", or "pending" until `review_template`.
        receipts: Settings of the delivery receipts to the `callback` of a message; None sends none.

    Attributes:
        ledger: Requests and messages so far.
        app: The ASGI application, for a server of your own.

    One sandbox may be served and used in-process at the same time, in one event loop.
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
        self.username: str = username
        self.api_key: str = api_key
        self.ledger: Ledger = Ledger()
        self._faults = Faults(faults, rate=fault_rate, kinds=fault_kinds, seed=seed)
        self._cloud = Cloud(
            username=username,
            api_key=api_key,
            limiters={
                name: make_limiter(rate_rule, rate)
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
        # Not the random numbers of the faults, so that jitter does not change which requests fail.
        delays = Delays(latency_s, jitter_s, Random(seed))  # noqa: S311  # draws are repeatable, not secret
        epoch = time.time() - clock()
        self._delivery = ReceiptDelivery(self.ledger, clock, epoch, receipts)
        settings = Settings(
            delays=delays,
            cloud=self._cloud,
            faults=self._faults,
            delivery=self._delivery,
            rate_rule=None if rate_rule is None else RateRule(rate_rule),
            rates=rates,
        )
        feed = Feed(
            run=uuid4().hex[:12],
            username=username,
            api_key=api_key if api_key == DEFAULT_API_KEY else None,
            ledger=self.ledger,
            catalogue=self._cloud.catalogue,
            delivery=self._delivery,
            settings=settings,
            statistics=Statistics(self.ledger),
            clock=clock,
            epoch=epoch,
        )
        control = control_routes(self._cloud, self.ledger, self._faults, settings)
        self.app: Starlette = build_app(self._cloud, delays, [*page_routes(feed, self._delivery, settings), *control])

    @property
    def balance(self) -> Decimal:
        """Remaining credit."""
        return self._cloud.balance

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return an httpx transport that reaches the sandbox without a socket, whatever host a request names."""
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
        Serve on a socket in the running asyncio loop, and yield the base URL, such as "http://127.0.0.1:54321".

        At the end of the context, requests in progress are cut off. No task and no connection is left behind.

        Args:
            host: Address to listen on. An address that is not loopback needs *allow_remote*.
            port: Port to listen on; 0 picks a free one.
            allow_remote: Allow an address that other machines can reach, although the control routes need no key. The
                sandbox then answers to its address and private names, too. It refuses other host names, which a page
                in a browser could use to reach it (DNS rebinding).
            keep_alive_s: Seconds until an idle connection is closed.
        """
        async with listening(self.app, host, port, allow_remote=allow_remote, keep_alive_s=keep_alive_s) as base_url:
            # No task group: a pytest fixture may leave the context in another task than it entered it in.
            delivery = asyncio.get_running_loop().create_task(self._delivery.run())
            try:
                yield base_url
            finally:
                delivery.cancel()
                await asyncio.wait([delivery])

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        allow_remote: bool = False,
        keep_alive_s: float = 75.0,
    ) -> None:
        """
        Print the banner and `listening on http://…`, and serve until SIGTERM or SIGINT.

        For the command line: it blocks, and starts its own event loop.
        """
        _print(BANNER)
        key = f", X-API-Key {self.api_key}" if self.api_key == DEFAULT_API_KEY else ""
        _print(f"account {self.username}{key}")

        async def serve_until_signal() -> None:
            stop = stop_event()
            async with self.serve(host, port, allow_remote=allow_remote, keep_alive_s=keep_alive_s) as base_url:
                _print(f"outbox at {base_url}/")
                _print(f"listening on {base_url}")
                await stop.wait()

        with suppress(KeyboardInterrupt):
            asyncio.run(serve_until_signal())

    async def deliver_receipts(self, *, everything: bool = False) -> int:
        """
        Send the delivery receipts that are due on the sandbox's clock, one after the other; return the number of tries.

        For use without `serve()`, which sends receipts itself. A receipt that its target does not acknowledge is due
        again after its backoff. With *everything* no due time is waited for: all receipts are sent now, with all their
        retries.

        Raises:
            RuntimeError: The sandbox was made without `receipts`.
        """
        return await self._delivery.deliver(everything=everything)

    def expire_tokens(self) -> None:
        """Make every token stale that was issued so far: requests with them get a 401."""
        self._cloud.tokens.expire_all()

    def inject(self, rule: FaultRule) -> None:
        """Add a fault rule."""
        self._faults.inject(rule)

    def clear_faults(self) -> None:
        """Remove the fault rules and stop the seeded draw; magic destinations stay."""
        self._faults.clear()

    def review_template(self, template_id: str, status: str) -> None:
        """Set a template to "approved", "rejected" or "pending", as Pico's review does; raise KeyError if unknown."""
        self._cloud.catalogue.review(template_id, status)

    def __repr__(self) -> str:
        faults = f"fault rules: {len(self._faults.active_rules())}, fault rate: {self._faults.rate:g}"
        counts = f"requests: {len(self.ledger.arrivals)}, messages: {len(self.ledger.accepted)}"
        return f"<{type(self).__name__}, {counts}, {faults}, pending receipts: {self._delivery.pending}>"


def stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set, if this is the main thread's loop."""
    stop = asyncio.Event()
    # Event loops on Windows take no signals; there, an interrupt is a KeyboardInterrupt.
    if sys.platform != "win32" and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    # A process that started this one waits for the line.
    sys.stdout.flush()
