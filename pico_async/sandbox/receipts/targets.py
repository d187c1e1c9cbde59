"""
Where receipts may go: to this machine, unless a host was allowed by name.

A callback is an address that a client chose. So its host is resolved once, each of its addresses is looked at, and the
connection goes to an address that was looked at, not to a name that may mean another one by then. Nothing is followed.
"""

import ipaddress
import socket
import ssl
from collections.abc import Collection
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import anyio
import httpx
from attrs import frozen

from pico_async.sandbox.receipts.receipt import Letter, Receipts, split_callback

# Whatever may stand in a request line stays as it is; anything else has to be quoted.
_SAFE = "".join(map(chr, range(0x21, 0x7F)))


class RefusedAddressError(Exception):
    """A callback that receipts are not sent to; its text says why, and what allows it."""


@frozen
class Receiver:
    """A callback whose addresses may be connected to."""

    scheme: str
    authority: str
    host: str
    port: int
    addresses: tuple[str, ...]
    is_loopback: bool


async def find_receiver(callback: str, allow_hosts: Collection[str]) -> Receiver:
    """
    Resolve the host of *callback*.

    Raises:
        RefusedAddressError: It is neither loopback nor allowed, or no address at all.
        OSError: It cannot be resolved.
    """
    scheme, authority, _ = split_callback(callback)
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port or (443 if scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if host is None or scheme not in ("http", "https"):
        raise RefusedAddressError("not an address that can be connected to")
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    loopback = all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
    if not loopback and not {"*", host} & set(allow_hosts):
        raise RefusedAddressError(
            f"{host} is not loopback: Receipts(allow_hosts=[{host!r}]) or --receipt-host {host} lets receipts go there"
        )
    return Receiver(scheme, authority.rpartition("@")[2], host, port, addresses, loopback)


class Carrier:
    """Sends receipts, each within its bound; `async with` closes its connections."""

    def __init__(self, receipts: Receipts) -> None:
        self.receipts = receipts
        self._stack = AsyncExitStack()
        self._transports: dict[bool, httpx.AsyncBaseTransport] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def post(self, callback: str, letter: Letter) -> int:
        """
        Send one receipt and give the status of the answer.

        Raises:
            RefusedAddressError: It may not go there.
            TimeoutError: No answer within `timeout_s`.
            OSError, httpx.TransportError: The receiver was not reached, or did not answer.
        """
        with anyio.fail_after(self.receipts.timeout_s):
            if self.receipts.transport is not None:
                scheme, authority, _ = split_callback(callback)
                return await _exchange(self.receipts.transport, f"{scheme}://{authority}", authority, "", letter)
            receiver = await find_receiver(callback, self.receipts.allow_hosts)
            *others, last = receiver.addresses
            for address in others:
                try:
                    return await self._connect(receiver, address, letter)
                except httpx.ConnectError:
                    continue
            return await self._connect(receiver, last, letter)

    async def _connect(self, receiver: Receiver, address: str, letter: Letter) -> int:
        host = f"[{address}]" if ":" in address else address
        origin = f"{receiver.scheme}://{host}:{receiver.port}"
        return await _exchange(
            self._transport(verified=not receiver.is_loopback), origin, receiver.authority, receiver.host, letter
        )

    def _transport(self, *, verified: bool) -> httpx.AsyncBaseTransport:
        if verified not in self._transports:
            context = ssl.create_default_context()
            if not verified:
                # Nobody is between this machine and itself, and no authority signs for "localhost".
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            transport = httpx.AsyncHTTPTransport(verify=context, retries=0)
            self._stack.push_async_callback(transport.aclose)
            self._transports[verified] = transport
        return self._transports[verified]


async def _exchange(transport: httpx.AsyncBaseTransport, origin: str, authority: str, name: str, letter: Letter) -> int:
    target = quote(letter.target, safe=_SAFE).encode("ascii")
    headers = {"Host": authority, "User-Agent": "pico-sandbox", "Accept": "*/*"}
    if letter.content_type is not None:
        headers["Content-Type"] = letter.content_type
    request = httpx.Request(
        letter.method,
        httpx.URL(origin).copy_with(raw_path=target),
        headers=headers,
        content=letter.content or None,
        # httpx would quote the target anew; a signature may cover it as it stands.
        extensions={"target": target, **({"sni_hostname": name} if name else {})},
    )
    response = await transport.handle_async_request(request)
    await response.aclose()
    return response.status_code
