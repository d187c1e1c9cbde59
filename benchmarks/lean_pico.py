"""
A server that only answers each message at once, and counts them.

    python -m benchmarks.lean_pico

The costs of the clients are measured with it, in a process of its own. The sandbox checks each request, so it is slower
than the fastest of the clients. This server reads only the path and the Content-Length, and answers a constant. It
accepts any message and checks no token. A POST without a Content-Length is refused and not counted: chunked bodies are
not supported, and no client sends them.
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
    """Return a whole reply."""
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


# By the end of the path. Each is the shortest reply that the client takes for a success. Real replies of Twilio and
# Telnyx are longer, and cost their clients a little more.
ACCEPTED = {
    b"/sms": reply(HTTPStatus.OK, {"request_id": "lean-0123456789"}),
    b"/Messages.json": reply(HTTPStatus.CREATED, {"sid": "SM0123456789", "status": "queued"}),
    b"/messages": reply(HTTPStatus.OK, {"data": {"id": "0123456789", "record_type": "message"}}),
}
TOKEN = reply(HTTPStatus.OK, {"request_id": "lean-token", "token": "lean-0123456789"})
NOT_FOUND = reply(HTTPStatus.NOT_FOUND, {"errors": ["no such path"]})
LENGTH_REQUIRED = reply(HTTPStatus.LENGTH_REQUIRED, {"errors": ["no Content-Length"]})


class Counter:
    """The number of messages that have arrived, on all connections."""

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
        """Answer each complete request, and keep the rest."""
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
    """Raise this process's limit of open files to its maximum: a thousand connections exceed the usual limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def lean_pico() -> Iterator[str]:
    """Run the server in a process of its own until the context ends, and yield its address."""
    command = [sys.executable, "-m", "benchmarks.lean_pico"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield next(line for line in process.stdout if line.startswith("listening on ")).split()[-1]
        finally:
            process.terminate()


def messages_at(base_url: str) -> int:
    """Return how many messages have arrived at the server."""
    with urllib.request.urlopen(base_url + COUNT_PATH, timeout=10) as answer:
        return int(json.load(answer))


async def serve() -> None:
    """Print the address, and serve until the process ends."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: LeanPico(counter), "127.0.0.1", 0, backlog=BACKLOG)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    allow_many_connections()
    asyncio.run(serve())
