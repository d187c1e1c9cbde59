"""A receiver on a socket records delivery receipts, and answers them as a test asks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from attrs import define, field

from tests.support.waiting import until


@define
class Receiver:
    """A receiver: `got` has (request line, headers, body) of each request; the last of `answers` repeats."""

    port: int
    answers: list[int]
    got: list[tuple[str, dict[str, str], bytes]] = field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait_for(self, count: int) -> None:
        await until(lambda: len(self.got) >= count, f"{count} requests have come")


@asynccontextmanager
async def receiving(*answers: int, hang: bool = False, headers: str = "") -> AsyncIterator[Receiver]:
    """Start a receiver on loopback; with *hang* it never answers."""
    tasks: set[Any] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                receiver.got.append((head[0], fields, body))
                if hang:
                    await asyncio.sleep(3600)
                status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{headers}\r\n".encode())
                await writer.drain()
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver = Receiver(server.sockets[0].getsockname()[1], list(answers) or [204])
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
