"""Find out which library a transport belongs to: httpx, or httpx2, which has the same interface."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Protocol


class AsyncTransport(Protocol):
    """An async transport of httpx or httpx2."""

    async def handle_async_request(self, request: Any, /) -> Any:
        """Send a request and return its response."""

    async def aclose(self) -> None:
        """Close the connections."""


def library_of(transport: object) -> ModuleType | None:
    """Return the library whose transport this is, or None. A library that is not imported has made none."""
    for name in ("httpx", "httpx2"):
        library = sys.modules.get(name)
        if library is not None and isinstance(transport, library.AsyncBaseTransport):
            return library
    return None
