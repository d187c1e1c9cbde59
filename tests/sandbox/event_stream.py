"""A reader of the outbox page's server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.waiting import PATIENCE_S


@asynccontextmanager
async def listening(base_url: str, after: str | None = None) -> AsyncIterator[Any]:
    """Yield a function that returns the next event of one kind from the stream, with its id."""
    headers = {"Last-Event-ID": after} if after else {}
    async with (
        httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False, timeout=None) as client,
        client.stream("GET", "/_sandbox/outbox/events", headers=headers) as reply,
    ):
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = reply.aiter_lines()

        async def next_event(wanted: str) -> tuple[dict[str, Any], str]:
            name = cursor = None
            async with asyncio.timeout(PATIENCE_S):
                async for line in lines:
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "id":
                        cursor = value
                    elif field == "data" and name == wanted:
                        return json.loads(value), cursor
            raise AssertionError("the stream ended")

        yield next_event
