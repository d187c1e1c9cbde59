"""This module finds ports of this machine, for a server in a process of its own."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port on which no process listens; another process may take it before the caller does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Return whether a process listens on the port."""
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0
