"""Does the host's name lead anywhere."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import Any

from pico_async.cli.doctor.finding import Finding, State, failed


async def resolve(host: str, *, timeout_s: float) -> Finding:
    """Ask the system for the addresses of a host."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return Finding(
            check="dns",
            state=State.OK,
            message=f"{host} is an address, so there is nothing to resolve.",
            facts={"host": host, "ipv4": [host][: address.version == 4], "ipv6": [host][: address.version == 6]},
        )
    try:
        found = await asyncio.wait_for(_addresses(host), timeout_s)
    except TimeoutError:
        return failed(
            "dns",
            f"{host} was not resolved within {timeout_s:g} s.",
            "Does the name server of this machine answer? Try another name, as: getent hosts example.com",
            host=host,
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        return failed(
            "dns",
            f"{host} does not resolve: {reason}.",
            "Is the host of PICO_BASE_URL spelled right, and is this machine on the network? In a container, does it "
            "have a name server?",
            host=host,
        )
    ipv4, ipv6 = ([address for family, address in found if family == wanted] for wanted in _FAMILIES)
    return Finding(
        check="dns",
        state=State.OK,
        message=f"{host} has {len(ipv4)} IPv4 and {len(ipv6)} IPv6: {', '.join([*ipv4, *ipv6])}",
        facts={"host": host, "ipv4": ipv4, "ipv6": ipv6},
    )


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


async def _addresses(host: str) -> list[tuple[int, str]]:
    # In a thread of its own that ends with the process: the loop's, and anyio's, would hold up Ctrl-C, and the end of
    # the command, for as long as the system waits for a name server.
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def settle(found: list[Any] | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def ask() -> None:
        found, fault = None, None
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            fault = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found, fault)

    threading.Thread(target=ask, name="pico doctor dns", daemon=True).start()
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in await answer))
