"""Check that the name of the host resolves."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import Any

from pico_async.cli.doctor.finding import Finding, failed, ok


async def check_dns(host: str, *, timeout_s: float) -> Finding:
    """Resolve the name of a host, and return its addresses as a finding."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        addresses = {"ipv4": [host][: address.version == 4], "ipv6": [host][: address.version == 6]}
        return ok("dns", f"{host} is an address, so there is nothing to resolve.", host=host, **addresses)
    try:
        found = await asyncio.wait_for(_addresses(host), timeout_s)
    except TimeoutError:
        return failed(
            "dns",
            f"{host} was not resolved within {timeout_s:g} s.",
            "Does the name server of this machine reply? Try another name: getent hosts example.com",
            host=host,
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a valid host name"
        return failed(
            "dns",
            f"{host} does not resolve: {reason}.",
            "Is the host of PICO_BASE_URL spelled right, and is this machine on the network? In a container, does it "
            "have a name server?",
            host=host,
        )
    ipv4, ipv6 = ([address for family, address in found if family == wanted] for wanted in _FAMILIES)
    message = f"{host} has {len(ipv4)} IPv4 and {len(ipv6)} IPv6: {', '.join([*ipv4, *ipv6])}"
    return ok("dns", message, host=host, ipv4=ipv4, ipv6=ipv6)


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


async def _addresses(host: str) -> list[tuple[int, str]]:
    # A daemon thread ends with the process. The threads of asyncio and anyio would delay Ctrl-C, and the end of the
    # command, while the system waits for a name server.
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def settle(found: list[Any], fault: Exception | None) -> None:
        if not answer.done():
            answer.set_exception(fault) if fault is not None else answer.set_result(found)

    def look_up() -> None:
        found: list[Any] = []
        fault = None
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            fault = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found, fault)

    threading.Thread(target=look_up, name="pico doctor dns", daemon=True).start()
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in await answer))
