"""The way to the host, as a session goes it, up to the moment before the first byte of a request."""

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
from pico_async.cli.doctor.finding import Finding, State, failed, not_checked
from pico_async.errors import ConfigurationError

_NO_WAY = {
    errno.ECONNREFUSED: (
        "nothing listens there",
        "Is the port of PICO_BASE_URL right? Of a sandbox: does it run? `pico sandbox` says where it listens.",
    ),
    errno.ENETUNREACH: ("there is no trace to that network", "Is this machine on the network? Does it have a route?"),
    errno.EHOSTUNREACH: ("there is no trace to that host", "Is this machine on the network? Does it have a route?"),
    errno.ECONNRESET: ("the connection was reset", "A firewall may stand on the trace: does it let this host through?"),
}


class _ConnectedError(Exception):
    """All is open, and the request would be written next."""


@define
class _ConnectionTrace:
    """What httpcore told of the trace so far."""

    begun_at: float = field(factory=time.monotonic)
    connected_s: float | None = None
    secured_s: float | None = None
    address: str | None = None
    tunnelled: bool = False
    tls: Any = None

    async def trace(self, event: str, told: dict[str, Any]) -> None:
        """Take note of an event; end at the last one before the request."""
        if event.endswith("connect_tcp.complete"):
            self.connected_s = time.monotonic() - self.begun_at
            address = told["return_value"].get_extra_info("server_addr")
            self.address = str(address[0]) if address else None
        elif event.endswith("start_tls.complete"):
            self.secured_s = time.monotonic() - self.begun_at
            self.tls = told["return_value"].get_extra_info("ssl_object")
        elif event.endswith("send_request_headers.started"):
            if told["request"].method != b"CONNECT":
                raise _ConnectedError
        elif event.endswith("receive_response_headers.complete"):
            self.tunnelled = 200 <= told["return_value"][1] < 300  # what the proxy said


def make_transport(proxy: str | None, tls: ssl.SSLContext, kind: type[httpx.AsyncHTTPTransport]) -> Any:
    """
    Make a transport as a session has it.

    Raises:
        ConfigurationError: httpx cannot use the proxy.
    """
    try:
        by = None if proxy is None else httpx.Proxy(proxy, ssl_context=tls if proxy.startswith("https:") else None)
        return kind(verify=tls, proxy=by)
    except (ImportError, ValueError, httpx.InvalidURL):
        fault = "httpx cannot use the proxy that the environment names: socks5:// needs `pip install httpx[socks]`."
    raise ConfigurationError(fault)


async def walk(base_url: str, proxy: str | None, tls: ssl.SSLContext, *, timeout_s: float) -> tuple[Finding, Finding]:
    """Go to the host, and tell of the connection and of TLS. Nothing is asked of the host."""
    try:
        transport = make_transport(proxy, tls, httpx.AsyncHTTPTransport)
    except ConfigurationError as error:
        said = failed("connection", str(error), "Name another proxy, or this host in NO_PROXY.")
        return said, not_checked("tls", "there is no connection")
    trace = _ConnectionTrace()
    fault: Exception | None = None
    phases = httpx.Timeout(timeout_s).as_dict()
    request = httpx.Request("GET", base_url, extensions={"timeout": phases, "trace": trace.trace})
    async with transport:
        try:
            # Each phase is bounded by itself; this bounds them together.
            with anyio.fail_after(timeout_s * 2):
                await transport.handle_async_request(request)
        except _ConnectedError:
            pass
        except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
            fault = error
    origin = origin_of(base_url)
    if trace.connected_s is None or (fault is not None and proxy is not None and not trace.tunnelled):
        told = _no_connection(origin, proxy, trace, fault, timeout_s)
        return told, not_checked("tls", "there is no connection")
    by = f", over the proxy {origin_of(proxy)}" if proxy else f" at {trace.address}" if trace.address else ""
    connected = Finding(
        check="connection",
        state=State.OK,
        message=f"{origin} is there{by}, after {trace.connected_s * 1000:.0f} ms",
        facts={
            "address": trace.address,
            "proxy": None if proxy is None else origin_of(proxy),
            "ms": round(trace.connected_s * 1000, 1),
        },
    )
    if not base_url.startswith("https:"):
        return connected, Finding(
            check="tls", state=State.OK, message="It is not used on loopback.", facts={"used": False}
        )
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
            f"{at} is there, and TLS with it failed.",
            "Is it reached by https:// at all? If so, its authority has to be trusted: put that into a PEM file, and "
            "name it in SSL_CERT_FILE.",
        )
    if trace.connected_s is not None:
        # Its number only: who knows what a proxy repeats in its words.
        status = re.match(r"[0-9]{3}\b", str(fault)) if isinstance(fault, httpx.ProxyError) else None
        words = f" (it answers {status[0]})" if status else ""
        return failed(
            "connection",
            f"{at} is there, and gives no connection to {origin}{words}.",
            "Does it ask for a user and a password (in HTTPS_PROXY), and does it let this host through? NO_PROXY names "
            "hosts that are reached without it.",
        )
    numbers = {cause.errno for cause in _causes(fault) if isinstance(cause, OSError)}
    for number, (reason, advice) in _NO_WAY.items():
        if number in numbers:
            if proxy is not None:
                advice = "Is the proxy that the environment names right (HTTPS_PROXY, ALL_PROXY), and does it run?"
            return failed("connection", f"There is no connection to {at}: {reason}.", advice)
    if isinstance(fault, TimeoutError | httpx.TimeoutException):
        return failed(
            "connection",
            f"There is no connection to {at} within {timeout_s:g} s.",
            "A firewall may drop what goes there. Does this network reach the web only over a proxy? Then set "
            "HTTPS_PROXY.",
        )
    # What is said of a proxy may repeat its address, and that may hold a password.
    words = "" if proxy is not None else f": {' '.join(str(fault).split())[:200]}"
    return failed(
        "connection",
        f"There is no connection to {at} ({type(fault).__name__}{words}).",
        "Is the address right, and is this machine on the network?",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and all that it came from: the libraries wrap what the system said."""
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
