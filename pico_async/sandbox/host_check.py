"""
Host check: refuse requests that a web page from elsewhere may have caused.

The control routes need no key, and the API key is documented. So a page in a browser on this machine could try to reach
the sandbox, and make it post receipts to other services there. Before any route, the check refuses two things:

- A host name that is not this machine's own. A foreign name may resolve to this machine (DNS rebinding).
- A change that was requested by a page of another origin.
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Key in the ASGI scope's "state" of an in-process request: there is no browser, and a client may name any host.
IN_PROCESS = "pico_sandbox.in_process"

# No public name can be registered under these: RFC 6761, RFC 6762, RFC 8375, and "internal" as ICANN reserved it.
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".test", ".lan", ".home.arpa")
_CHECKED_HEADERS = (b"host", b"origin", b"sec-fetch-site")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:[0-9]{1,5})?")
_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


class HostCheck:
    """ASGI middleware that answers refused requests itself, whichever server runs the app."""

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
    """Return the status and the reason of a refusal; None admits the request."""
    headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"] if name in _CHECKED_HEADERS}
    host = headers.get(b"host", "")
    server = scope.get("server")
    if not _is_own_name(host, server[0] if server else ""):
        return 421, (
            "Host: the sandbox answers only to localhost and loopback addresses. If it listens for others, it also "
            "answers to its address and private names. Let a proxy in front of it send `Host: localhost`."
        )
    if scope.get("method") not in ("GET", "HEAD"):
        if headers.get(b"origin", f"http://{host}") != f"http://{host}":
            return 403, "Origin: only the sandbox's own page may change it."
        if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Sec-Fetch-Site: only the sandbox's own page may change it."
    return None


@lru_cache(maxsize=64)
def _is_own_name(host: str, listens_at: str) -> bool:
    # Stricter than RFC 9110: a header that two parsers may read as two different names is refused.
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match["name"].strip("[]").removesuffix(".")
    if is_loopback(name):
        return True
    # The server's end of this connection: other machines can reach it only if it is not loopback.
    local = _address(listens_at)
    if local is None or local.is_loopback:
        return False
    return _address(name) is not None or "." not in name or name.endswith(_PRIVATE_SUFFIXES)


def is_loopback(host: str) -> bool:
    """Return whether *host* can be reached from this machine only."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
