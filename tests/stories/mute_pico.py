"""
This module runs a lean server in a process of its own, which reports its connections.

With the argument `mute`, the server answers no message.

    python -m tests.stories.mute_pico [mute]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from benchmarks.lean_pico import BACKLOG, Counter, LeanPico, allow_many_connections


@frozen
class State:
    """
    The server's counts.

    Attributes:
        messages: The messages that have arrived.
        open: The connections that clients have open now.
        most_open: The most connections that were open at the same time.
    """

    messages: int
    open: int
    most_open: int


class Connections:
    """The counts of open connections."""

    open = most_open = 0


class MutePico(LeanPico):
    """One connection, which is counted while it is open."""

    def __init__(self, counter: Counter, connections: Connections, *, mute: bool) -> None:
        super().__init__(counter)
        self._connections = connections
        self._mute = mute

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add the new connection to the counts."""
        super().connection_made(transport)
        self._connections.open += 1
        self._connections.most_open = max(self._connections.most_open, self._connections.open)

    def connection_lost(self, error: Exception | None) -> None:
        """Subtract the closed connection from the open ones."""
        self._connections.open -= 1

    def _answer(self, head: bytes, *, has_length: bool) -> bytes:
        answer = super()._answer(head, has_length=has_length)
        return b"" if self._mute and head.startswith(b"POST") else answer


class Server:
    """
    The server, as seen from the process that started it.

    Attributes:
        address: The base URL to which messages are sent.
    """

    def __init__(self, address: str, asked_at: int) -> None:
        self.address = address
        self._asked_at = asked_at

    async def state(self) -> State:
        """Return the counts that the server reports."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._asked_at)
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        return State(*json.loads(said))


@contextmanager
def mute_pico(*, mute: bool) -> Iterator[Server]:
    """Run the server for as long as the context lasts."""
    command = [sys.executable, "-m", "tests.stories.mute_pico", *(["mute"] if mute else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port, asked_at = map(int, process.stdout.readline().split())
            yield Server(f"http://127.0.0.1:{port}", asked_at)
        finally:
            process.terminate()


async def serve(*, mute: bool) -> None:
    """Serve until the process ends."""
    counter, seen = Counter(), Connections()

    def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps([counter.messages, seen.open, seen.most_open]).encode())
        writer.close()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: MutePico(counter, seen, mute=mute), "127.0.0.1", 0, backlog=BACKLOG)
    # The counts have a port of their own, so that a connection that asks for them is not counted.
    asked = await asyncio.start_server(tell, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], asked.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    allow_many_connections()
    asyncio.run(serve(mute="mute" in sys.argv))
