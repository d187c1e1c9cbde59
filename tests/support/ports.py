"""This module finds ports of this machine, for a server in a process of its own."""

from __future__ import annotations

import itertools
import os
import socket

# Below the ports that a system gives to clients and to servers on port 0: from 32768 (Linux) or 49152.
_LOWEST, _COUNT = 20_000, 12_000
# Processes that look for a port at the same time begin at different places.
_ports = (_LOWEST + (os.getpid() * 97 + number) % _COUNT for number in itertools.count())


def free_port() -> int:
    """
    Return a port on which no process listens, and which no client gets by chance before the caller listens there.

    A process that asks for this very port may still take it.
    """
    for port in itertools.islice(_ports, _COUNT):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError("A process listens on every port.")


def listens(port: int) -> bool:
    """Return whether a process listens on the port."""
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0
