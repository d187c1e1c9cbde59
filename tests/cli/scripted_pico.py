"""
Tests can run a server whose replies they set, over plain HTTP or TLS, and a proxy for it, in threads of this process.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import Factory, define

from tests.support.sandbox_process import KEY

TOKEN = "token-that-nobody-may-see-0123456789"
GIVEN = f'{{"request_id": "r-1", "token": "{TOKEN}"}}'
CREDIT = '{"request_id": "r-2", "username": "user333", "balance": "%s"}'


@define
class ScriptedPico:
    """
    The replies of a scripted server, and the requests that reached it.

    Attributes:
        token: Status and body of the reply to a token request.
        reply: Status and body of the reply to any other request.
        content_type: Content type of all replies.
        ahead_s: By how many seconds the server's clock is ahead.
        dated: Whether the replies have a Date header.
        hangs: Whether the server reads a request and never replies.
        before_reply: Called before each reply except the reply to a token request.
        headers: Additional headers of all replies.
        asked: The requests, as "GET /token/user333".
        over: Set when the server stops; it ends the requests that hang.
    """

    token: tuple[int, str] = (200, GIVEN)
    reply: tuple[int, str] = (200, CREDIT % "1000.00")
    content_type: str = "application/json"
    ahead_s: float = 0.0
    dated: bool = True
    hangs: bool = False
    before_reply: Callable[[], None] | None = None
    headers: dict[str, str] = Factory(dict)
    asked: list[str] = Factory(list)
    base_url: str = ""
    over: threading.Event = Factory(threading.Event)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment variables that make `pico` use this server."""
        return {"PICO_BASE_URL": self.base_url, "PICO_USERNAME": "user333", "PICO_API_KEY": KEY}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Record one request and reply to it."""
        self.asked.append(f"{handler.command} {handler.path}")
        if self.hangs:
            self.over.wait(30)
            return
        if self.before_reply is not None and not handler.path.startswith("/token/"):
            self.before_reply()
        status, body = self.token if handler.path.startswith("/token/") else self.reply
        handler.send_response_only(status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        if self.dated:
            handler.send_header("Date", formatdate(time.time() + self.ahead_s, usegmt=True))
        handler.send_header("Content-Type", self.content_type)
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())


@contextmanager
def scripted_pico(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedPico]:
    """Run a scripted server until the context ends."""
    script = ScriptedPico()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            script.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, address: Any) -> None:
            # This runs in the connection's own thread, so that a TLS handshake does not block the accept loop.
            with suppress(OSError):
                if tls is None:
                    super().finish_request(request, address)
                else:
                    with tls.wrap_socket(request, server_side=True) as secured:
                        super().finish_request(secured, address)

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        script.base_url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        try:
            yield script
        finally:
            script.over.set()
            server.shutdown()


@contextmanager
def silent_host() -> Iterator[int]:
    """Listen on the returned port, and never send anything to a client."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def connecting_proxy(
    answer: bytes | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """
    Run a proxy that opens tunnels; return its port and the list of the requests that reach it.

    Args:
        answer: The bytes that the proxy sends instead of opening a tunnel.
        tls: The TLS context of the proxy, if clients reach it by TLS.
    """
    asked: list[bytes] = []
    with ExitStack() as held:
        listening = held.enter_context(socket.create_server(("127.0.0.1", 0)))

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while part := source.recv(65536):
                    sink.sendall(part)
                sink.shutdown(socket.SHUT_WR)

        def serve(connection: socket.socket) -> None:
            with suppress(OSError), ExitStack() as open_:
                open_.enter_context(connection)
                client = (
                    connection if tls is None else open_.enter_context(tls.wrap_socket(connection, server_side=True))
                )
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                asked.append(head)
                if answer is not None:
                    client.sendall(answer)
                    return
                host, _, port = head.split()[1].partition(b":")
                with socket.create_connection((host.decode(), int(port))) as target:
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    back = threading.Thread(target=pump, args=(target, client), daemon=True)
                    back.start()
                    pump(client, target)
                    back.join(10)

        def take() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=take, daemon=True).start()
        try:
            yield listening.getsockname()[1], asked
        finally:
            # A thread in accept() is not woken by close() alone.
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
