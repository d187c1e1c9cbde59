"""Ports of this machine, for a server in a process of its own."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Give one that nobody listens on; whoever takes it must be quick."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Say whether somebody does."""
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0
