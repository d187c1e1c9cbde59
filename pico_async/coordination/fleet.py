"""Whose pace and whose token a coordinator keeps, and how it is told."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

from attrs import frozen

from pico_async.coordination import Coordinator, digest


@frozen
class Identity:
    """
    Whose pace and whose token it is, in digests: neither the key nor the account can be read from them.

    Attributes:
        pace: Of the API key, at Pico or at a stand-in for it: what the documented rates are counted by.
        token: Of the host and the account, too: what a token is good for.
    """

    pace: str
    token: str

    @classmethod
    def of(cls, place: str, host: str, username: str, api_key: str) -> Self:
        """Digest them. A *place* may have several hosts."""
        return cls(digest(place, api_key), digest(host, username, api_key))


@runtime_checkable
class FleetCoordinator(Coordinator, Protocol):
    """A coordinator that must be told whose pace and token it keeps, and when nobody asks any more."""

    def join(self, identity: Identity) -> None:
        """
        Serve a session of this identity in the running loop.

        Raises:
            ConfigurationError: It serves another identity, or another loop.
        """
        ...

    async def leave(self) -> None:
        """End what a `join` began. With the last, connections are closed and unused turns given back."""
        ...
