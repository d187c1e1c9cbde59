"""Whether something lies in a socket, also where no event loop has run to read it."""

from __future__ import annotations

import select
from typing import Any


def is_readable(socket: Any) -> bool:
    """
    Return whether a byte, the end of the connection or an error lies in the socket. It does not wait.

    Args:
        socket: A socket, or what asyncio shows of one; None counts as closed.
    """
    descriptor = -1 if socket is None else socket.fileno()
    if descriptor < 0:
        return True
    if not hasattr(select, "poll"):  # Windows, where `select` takes any number of descriptor
        return any(select.select([descriptor], [], [descriptor], 0))
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return bool(looking.poll(0))
