"""Check the connection to the host as a session opens it, without sending a request."""

from __future__ import annotations

import errno
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
from attrs import define, field

from pico_async.cli.doctor.certificate import handshake_failure, handshake_success
from pico_async.cli.doctor.configuration import origin_of
from pico_async.cli.doctor.finding import Finding, failed, not_checked, ok
from pico_async.errors import ConfigurationError

_REASONS = {
    errno.ECONNREFUSED: (
        "nothing listens there",
        "Is the port of PICO_BASE_URL right? If it is a sandbox: does it run? `pico sandbox` prints its address.",
    ),
    errno.ENETUNREACH: ("there is no route to the network", "Is this machine connected to the network?"),
    errno.EHOSTUNREACH: ("there is no route to the host", "Is this machine connected to the network?"),
    errno.ECONNRESET: ("the connection was reset", "Does a firewall on the way allow this host?"),
}


class _ConnectedError(Exception):
    """The connection is open, and the request would be written next."""


@define
class _ConnectionTrace:
    """The events of httpcore while a connection is opened."""

    begun_at: float = field(factory=time.monotonic)
    connected_s: float | None = None
    secured_s: float | None = None
    address: str | None = None
    tunnelled: bool = False
    tls: Any = None

    async def on_event(self, event: str, info: dict[str, Any]) -> None:
        """Record an event; raise at the last one before the request is written."""
        if event.endswith("connect_tcp.complete"):
            self.connected_s = time.monotonic() - self.begun_at
            address = info["return_value"].get_extra_info("server_addr")
            self.address = str(address[0]) if address else None
        elif event.endswith("start_tls.complete"):
            self.secured_s = time.monotonic() - self.begun_at
            self.tls = info["return_value"].get_extra_info("ssl_object")
        elif event.endswith("send_request_headers.started"):
            if info["request"].method != b"CONNECT":
                raise _ConnectedError
        elif event.endswith("receive_response_headers.complete"):
            self.tunnelled = 200 <= info["return_value"][1] < 300  # The reply of the proxy.


def make_transport(proxy: str | None, tls: ssl.SSLContext, kind: type[httpx.AsyncHTTPTransport]) -> Any:
    try:
        via = None if proxy is None else httpx.Proxy(proxy, ssl_context=tls if proxy.startswith("https:") else None)
        return kind(verify=tls, proxy=via)
    except (ImportError, ValueError, httpx.InvalidURL):
        fault = "httpx cannot use the proxy that the environment names: socks5:// needs `pip install httpx[socks]`."
    raise ConfigurationError(fault)


async def check_connection(
    base_url: str, proxy: str | None, tls: ssl.SSLContext, *, timeout_s: float
) -> tuple[Finding, Finding]:
    """Open a connection to the host, and return the findings about the connection and TLS. No request is sent."""
    try:
        transport = make_transport(proxy, tls, httpx.AsyncHTTPTransport)
    except ConfigurationError as error:
        finding = failed("connection", str(error), "Set another proxy, or add this host to NO_PROXY.")
        return finding, not_checked("tls", "there is no connection")
    trace = _ConnectionTrace()
    fault: Exception | None = None
    phases = httpx.Timeout(timeout_s).as_dict()
    request = httpx.Request("GET", base_url, extensions={"timeout": phases, "trace": trace.on_event})
    async with transport:
        try:
            # Each phase has its own timeout; this is the timeout of all.
            with anyio.fail_after(timeout_s * 2):
                await transport.handle_async_request(request)
        except _ConnectedError:
            pass
        except Exception as error:  # noqa: BLE001  any error is a finding
            fault = error
    origin = origin_of(base_url)
    if trace.connected_s is None or (fault is not None and proxy is not None and not trace.tunnelled):
        finding = _no_connection(origin, proxy, trace, fault, timeout_s)
        return finding, not_checked("tls", "there is no connection")
    via = f", over the proxy {origin_of(proxy)}" if proxy else f" at {trace.address}" if trace.address else ""
    connected = ok(
        "connection",
        f"{origin} was reached{via}, after {trace.connected_s * 1000:.0f} ms",
        address=trace.address,
        proxy=None if proxy is None else origin_of(proxy),
        ms=round(trace.connected_s * 1000, 1),
    )
    if not base_url.startswith("https:"):
        return connected, ok("tls", "It is not used on loopback.", used=False)
    if fault is not None or trace.tls is None:
        return connected, handshake_failure(fault, list(_causes(fault)), origin, timeout_s)
    return connected, handshake_success(trace.tls, trace.secured_s or 0.0)


def _no_connection(
    origin: str, proxy: str | None, trace: _ConnectionTrace, fault: Exception | None, timeout_s: float
) -> Finding:
    at = origin if proxy is None else f"the proxy {origin_of(proxy)}"
    if trace.connected_s is not None and any(isinstance(cause, ssl.SSLError) for cause in _causes(fault)):
        return failed(
            "connection",
            f"{at} was reached, but TLS with it failed.",
            "Does it use https:// at all? If so, put the certificate of its CA into a PEM file, and set SSL_CERT_FILE "
            "to that file.",
        )
    if trace.connected_s is not None:
        # Only its number: the words of a proxy may repeat anything.
        status = re.match(r"[0-9]{3}\b", str(fault)) if isinstance(fault, httpx.ProxyError) else None
        words = f" (it replied {status[0]})" if status else ""
        return failed(
            "connection",
            f"{at} was reached, but opened no connection to {origin}{words}.",
            "Does it need a username and a password (in HTTPS_PROXY), and does it allow this host? NO_PROXY lists "
            "hosts that are reached without it.",
        )
    numbers = {cause.errno for cause in _causes(fault) if isinstance(cause, OSError)}
    for number, (reason, advice) in _REASONS.items():
        if number in numbers:
            if proxy is not None:
                advice = "Is the proxy that the environment names right (HTTPS_PROXY, ALL_PROXY), and does it run?"
            return failed("connection", f"There is no connection to {at}: {reason}.", advice)
    if isinstance(fault, TimeoutError | httpx.TimeoutException):
        return failed(
            "connection",
            f"There is no connection to {at} within {timeout_s:g} s.",
            "A firewall may drop the packets. If this network reaches the web only over a proxy, set HTTPS_PROXY.",
        )
    # An error about a proxy may contain its URL, which may contain a password.
    words = "" if proxy is not None else f": {' '.join(str(fault).split())[:200]}"
    return failed(
        "connection",
        f"There is no connection to {at} ({type(fault).__name__}{words}).",
        "Is the address right, and is this machine on the network?",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all its causes, because the libraries wrap the errors of the system."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
