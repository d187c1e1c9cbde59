"""
Who may reach the sandbox: whoever asked for it by a name that is this machine's own.

Its control routes ask for no key, and the key of its API is in its documentation. So any page in a browser on the same
machine could try to reach it, and have it post receipts to other services there. Two doors are shut, before every
route: a name of somebody else's that resolves to this machine (DNS rebinding), and a change that a page from elsewhere
asks for.
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# In the ASGI scope's "state", where there is no socket: no browser is there, and a client may name any host.
IN_PROCESS = "pico_sandbox.in_process"

# Nobody can register a public name under these: RFC 6761, RFC 6762, RFC 8375, and "internal" as ICANN reserved it.
_PRIVATE = (".localhost", ".local", ".internal", ".test", ".lan", ".home.arpa")
_LOOKED_AT = (b"host", b"origin", b"sec-fetch-site")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:[0-9]{1,5})?")
_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


class Door:
    """ASGI middleware that answers what may not come in, so that no route sees it, whichever server runs the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None
        if scope["type"] in ("http", "websocket") and IN_PROCESS not in scope.get("state", {}):
            refused = _refusal(scope)
        if refused is None:
            await self._app(scope, receive, send)
            return
        status, error = refused
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await JSONResponse({"errors": [error]}, status)(scope, receive, send)


def _refusal(scope: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return why a request may not come in, with the status that says so; None for one that may."""
    headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"] if name in _LOOKED_AT}
    host = headers.get(b"host", "")
    server = scope.get("server")
    if not _is_ours(host, server[0] if server else ""):
        return 421, (
            "Host: the sandbox answers to localhost and loopback addresses, and where it listens for others, to its "
            "address or a private name. Let a proxy in front of it send `Host: localhost`."
        )
    if scope.get("method") not in ("GET", "HEAD"):
        if headers.get(b"origin", f"http://{host}") != f"http://{host}":
            return 403, "Origin: only the sandbox's own page may change it."
        if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Sec-Fetch-Site: only the sandbox's own page may change it."
    return None


@lru_cache(maxsize=64)
def _is_ours(host: str, listens_at: str) -> bool:
    # What a browser takes for a host and a port, and nothing that one may read as another name than the next.
    named = _HOST.fullmatch(host)
    if named is None:
        return False
    name = named["name"].strip("[]")
    name = name.removesuffix(".")
    if name == "localhost":
        return True
    address = _address(name)
    if address is not None and address.is_loopback:
        return True
    # The end of the connection on this side: loopback, unless others may reach it.
    local = _address(listens_at)
    if local is None or local.is_loopback:
        return False
    return address is not None or "." not in name or name.endswith(_PRIVATE)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
