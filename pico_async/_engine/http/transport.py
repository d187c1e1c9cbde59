"""What the client asks of an HTTP library."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping

from attrs import define

from pico_async._engine.endpoints import Method
from pico_async._engine.http.departure import Departure
from pico_async._engine.wire import Failure, Reply

# If a connection was not there within this time, it had to be opened or waited for, on a busy loop too.
AT_ONCE_S = 0.0005


@define(eq=False, repr=False)
class HttpRequest:
    """
    One request. It has no repr, so none shows its headers or its content.

    Attributes:
        headers: One mapping for all requests with one token, so that a transport may cache what it makes of it.
    """

    method: Method
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes


class HttpTransport(ABC):
    """
    One HTTP library, used by one session.

    Attributes:
        reports_writes: It calls `Departure.leave` right before it writes. Without that, each request that was begun may
            have been written.
    """

    reports_writes = True

    @abstractmethod
    def bind(self, base_url: str, connect_s: float, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        """
        Serve one session.

        Args:
            tls: The CA certificates, and perhaps a client certificate, in place of those of the environment.

        Raises:
            ConfigurationError: It serves another one.
        """

    @abstractmethod
    async def send(self, request: HttpRequest, departure: Departure) -> Reply:
        """Send one request and return its reply, up to 1 MiB of it. Raise as the library does."""

    @abstractmethod
    def failure(self, error: Exception, *, written: bool) -> Failure:
        """Return what an exception of `send` means."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""
