"""
A server that does next to nothing: it answers each message at once, and counts them.

    python -m benchmarks.lean_pico

What a client costs is measured against it, in a process of its own. The sandbox would not do for that: it reads and
judges each request, and so is slower than the fastest of the clients. This one reads only the path and the
Content-Length, and answers a constant. It takes any message, checks no token, and knows nothing of chunked bodies,
which none of the clients sends; a POST without a Content-Length is refused rather than counted.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

COUNT_PATH = "/_lean/messages"
BACKLOG = 4096

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")


def reply(status: HTTPStatus, body: Any) -> bytes:
    """Give a whole reply."""
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


# By the end of the path. The shortest that each client takes for a success: real replies of Twilio and Telnyx are
# longer, and cost their clients a little more.
ACCEPTED = {
    b"/sms": reply(HTTPStatus.OK, {"request_id": "lean-0123456789"}),
    b"/Messages.json": reply(HTTPStatus.CREATED, {"sid": "SM0123456789", "status": "queued"}),
    b"/messages": reply(HTTPStatus.OK, {"data": {"id": "0123456789", "record_type": "message"}}),
}
TOKEN = reply(HTTPStatus.OK, {"request_id": "lean-token", "token": "lean-0123456789"})
NOT_FOUND = reply(HTTPStatus.NOT_FOUND, {"errors": ["no such path"]})
LENGTH_REQUIRED = reply(HTTPStatus.LENGTH_REQUIRED, {"errors": ["no Content-Length"]})


class Counter:
    """How many messages have arrived, on all connections."""

    messages = 0


class LeanPico(asyncio.Protocol):
    """One connection."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is here as a whole, and keep the rest."""
        unread = self._unread + data
        begin = 0
        while (end_of_head := unread.find(b"\r\n\r\n", begin)) >= 0:
            head = unread[begin:end_of_head]
            length = _LENGTH.search(head)
            end = end_of_head + 4 + (int(length[1]) if length else 0)
            if len(unread) < end:
                break
            self._transport.write(self._answer(head, has_length=length is not None))
            begin = end
        self._unread = unread[begin:]

    def _answer(self, head: bytes, *, has_length: bool) -> bytes:
        method, path, _ = head.split(b" ", 2)
        if method == b"POST":
            if not has_length:
                return LENGTH_REQUIRED
            accepted = ACCEPTED.get(path[path.rindex(b"/") :])
            self._counter.messages += accepted is not None
            return accepted or NOT_FOUND
        if path.startswith(b"/token/"):
            return TOKEN
        if path == COUNT_PATH.encode():
            return reply(HTTPStatus.OK, self._counter.messages)
        return NOT_FOUND


def allow_many_connections() -> None:
    """Let this process open as many files as it may: a thousand connections are more than the usual limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def lean_pico() -> Iterator[str]:
    """Run the server in a process of its own for as long as the context lasts, and give its address."""
    command = [sys.executable, "-m", "benchmarks.lean_pico"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield next(line for line in process.stdout if line.startswith("listening on ")).split()[-1]
        finally:
            process.terminate()


def messages_at(base_url: str) -> int:
    """Ask the server how many messages have arrived."""
    with urllib.request.urlopen(base_url + COUNT_PATH, timeout=10) as answer:
        return int(json.load(answer))


async def serve() -> None:
    """Serve until the process ends, and say where."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: LeanPico(counter), "127.0.0.1", 0, backlog=BACKLOG)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    allow_many_connections()
    asyncio.run(serve())
