"""
Targets of receipts: only this machine, unless a host was allowed by name.

A client chooses the callback, so it may name any address. Its host is resolved once, and each of its addresses is
checked. The connection goes to a checked address, because the name may resolve to another one later. Redirects are not
followed.
"""

import ipaddress
import socket
import ssl
from collections.abc import Collection
from contextlib import AsyncExitStack
from typing import Self
from urllib.parse import quote, urlsplit

import anyio
import httpx
from attrs import frozen

from pico_async.sandbox.receipts.receipt import ReceiptRequest, Receipts, split_callback

# Printable ASCII is allowed in a request line and stays as it is; all other characters are quoted.
_SAFE = "".join(map(chr, range(0x21, 0x7F)))


class RefusedAddressError(Exception):
    """No receipts are sent to this callback. The text gives the reason, and how to allow it."""


@frozen
class Target:
    """The server that a callback names, and its checked addresses."""

    scheme: str
    authority: str
    host: str
    port: int
    addresses: tuple[str, ...]
    is_loopback: bool


async def resolve_target(callback: str, allow_hosts: Collection[str]) -> Target:
    """Resolve the host of *callback*; raise if it is malformed, or its host is neither loopback nor allowed."""
    scheme, authority, _ = split_callback(callback)
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port or (443 if scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if host is None or scheme not in ("http", "https"):
        raise RefusedAddressError("the callback URL has no valid scheme, host or port")
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    loopback = all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
    if not loopback and not {"*", host} & set(allow_hosts):
        raise RefusedAddressError(
            f"{host} is not loopback: Receipts(allow_hosts=[{host!r}]) or --receipt-host {host} allows it"
        )
    return Target(scheme, authority.rpartition("@")[2], host, port, addresses, loopback)


class ReceiptSender:
    """Sends receipts to their targets, each within its timeout. `async with` closes the connections."""

    def __init__(self, receipts: Receipts) -> None:
        self.receipts: Receipts = receipts
        self._stack = AsyncExitStack()
        self._transports: dict[bool, httpx.AsyncBaseTransport] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def post(self, callback: str, request: ReceiptRequest) -> int:
        """
        Send one receipt and return the HTTP status of the reply.

        Raises:
            RefusedAddressError: No receipts are sent to this callback.
            TimeoutError: No reply came within `timeout_s`.
            OSError, httpx.TransportError: The target was not reached, or did not reply.
        """
        with anyio.fail_after(self.receipts.timeout_s):
            if self.receipts.transport is not None:
                scheme, authority, _ = split_callback(callback)
                return await _exchange(self.receipts.transport, f"{scheme}://{authority}", authority, "", request)
            target = await resolve_target(callback, self.receipts.allow_hosts)
            *others, last = target.addresses
            for address in others:
                try:
                    return await self._post_to(target, address, request)
                except httpx.ConnectError:
                    continue
            return await self._post_to(target, last, request)

    async def _post_to(self, target: Target, address: str, request: ReceiptRequest) -> int:
        host = f"[{address}]" if ":" in address else address
        origin = f"{target.scheme}://{host}:{target.port}"
        transport = self._transport(verified=not target.is_loopback)
        return await _exchange(transport, origin, target.authority, target.host, request)

    def _transport(self, *, verified: bool) -> httpx.AsyncBaseTransport:
        if verified not in self._transports:
            context = ssl.create_default_context()
            if not verified:
                # Loopback traffic does not leave this machine, and no CA issues certificates for "localhost".
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            transport = httpx.AsyncHTTPTransport(verify=context, retries=0)
            self._stack.push_async_callback(transport.aclose)
            self._transports[verified] = transport
        return self._transports[verified]


async def _exchange(
    transport: httpx.AsyncBaseTransport, origin: str, authority: str, server_name: str, request: ReceiptRequest
) -> int:
    target = quote(request.target, safe=_SAFE).encode("ascii")
    headers = {"Host": authority, "User-Agent": "pico-sandbox", "Accept": "*/*"}
    if request.content_type is not None:
        headers["Content-Type"] = request.content_type
    response = await transport.handle_async_request(
        httpx.Request(
            request.method,
            httpx.URL(origin).copy_with(raw_path=target),
            headers=headers,
            content=request.content or None,
            # httpx would quote the request target again, but a signature may cover it as it is.
            extensions={"target": target, **({"sni_hostname": server_name} if server_name else {})},
        )
    )
    await response.aclose()
    return response.status_code
