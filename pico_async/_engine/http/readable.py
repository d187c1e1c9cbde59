"""Check whether a socket has something to read, without the event loop."""

from __future__ import annotations

import select
from typing import Any


def is_readable(socket: Any) -> bool:
    """
    Return at once whether the socket has a byte, the end of the connection or an error to read.

    Args:
        socket: A socket, or asyncio's view of one. None counts as closed.
    """
    descriptor = -1 if socket is None else socket.fileno()
    if descriptor < 0:
        return True
    if not hasattr(select, "poll"):  # Windows, where `select` accepts any descriptor
        return any(select.select([descriptor], [], [descriptor], 0))
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return bool(looking.poll(0))
