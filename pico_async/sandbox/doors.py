"""
Who may look into the sandbox: whoever asked for it by a name that is this machine's own.

The sandbox asks for no key at its control routes, so any page in a browser on the same machine could try to reach it.
Two doors are shut: a name of somebody else's that resolves to this machine (DNS rebinding), and a change that a page
from elsewhere asks for.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .app import CONNECTION

# Nobody can register a public name under these: RFC 6761, RFC 6762, RFC 8375, and "internal" as ICANN reserved it.
_PRIVATE = (".localhost", ".local", ".internal", ".test", ".lan", ".home.arpa")

Answer = Callable[[Request], Awaitable[Response]]


def refusal_at_the_door(request: Request) -> tuple[int, str] | None:
    """Say why *request* may not come in, with the status that says so; None for one that may."""
    # Without a socket there is no browser, and a client names the host that it believes to talk to.
    if CONNECTION not in request.scope.get("state", {}):
        return None
    host = request.headers.get("host", "")
    if not _is_ours(host, request.scope["server"]):
        return 421, (
            "Host: the sandbox's page and control answer to localhost and loopback addresses, and where it listens "
            "for others, to its address or a private name."
        )
    if request.method not in ("GET", "HEAD"):
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return 403, "Origin: only the sandbox's own page may change it."
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Sec-Fetch-Site: only the sandbox's own page may change it."
    return None


def behind_the_door(answer: Answer) -> Answer:
    """Let *answer* see only what may come in."""

    async def answer_who_may(request: Request) -> Response:
        refused = refusal_at_the_door(request)
        if refused is not None:
            status, error = refused
            return JSONResponse({"errors": [error]}, status)
        return await answer(request)

    return answer_who_may


def _is_ours(host: str, server: tuple[str, int | None] | None) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if not name:
        return False
    name = name.removesuffix(".")
    if name == "localhost":
        return True
    address = _address(name)
    if address is not None and address.is_loopback:
        return True
    # The end of the connection on this side: loopback, unless others may reach it.
    local = _address(server[0]) if server else None
    if local is None or local.is_loopback:
        return False
    return address is not None or "." not in name or name.endswith(_PRIVATE)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
