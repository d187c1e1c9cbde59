"""What a coordinator offers to the sessions of one API key: limiters that grant slots, and the token."""

from __future__ import annotations

import hashlib
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from typing import Protocol, Self, runtime_checkable

from attrs import frozen

from pico_async.coordination.rates import RateGroup


class Priority(IntEnum):
    """Which of several waiting requests gets the next slot; equal priorities are served first come first served."""

    INTERACTIVE = 0
    """Somebody waits for the message, such as for a code. The default of a single send."""
    BULK = 1
    """Part of a bulk send."""


class Slot(Protocol):
    """Permission to send one request now."""

    @property
    def granted_at(self) -> float:
        """When the slot was granted, on the monotonic clock."""

    async def renew(self) -> bool:
        """
        Re-date the slot to now, because the connection opened late, and return False.

        If other slots were granted meanwhile, wait for another one, ahead of all who wait, and return True.
        """

    def answered(self, took_s: float) -> None:
        """Learn from the time between the grant and the reply."""

    async def refused(self, retry_after_s: float | None) -> None:
        """Pause the rate group, then slow it down: Pico refused the request because requests came too fast."""

    def give_back(self) -> None:
        """Return the slot unused: nothing was sent."""


class Limiter(Protocol):
    """Grants the slots of one rate group."""

    @property
    def per_s(self) -> float | None:
        """Requests per second that it grants now; None if it is unlimited or unknown."""

    async def acquire(self, priority: Priority) -> Slot:
        """
        Wait for a slot. A cancelled caller gives it back.

        Raises:
            PicoError: There is no slot to be had. Nothing was sent.
        """


class TokenStore(Protocol):
    """Stores the shared token, and decides who may fetch a new one."""

    async def current(self) -> str | None:
        """Return the token and record its use; None if there is no token to trust."""

    async def keep(self, token: str) -> None:
        """Store a fresh token in place of the present one."""

    async def discard(self, token: str) -> None:
        """Delete the token, unless it was replaced already."""

    def refreshing(self) -> AbstractAsyncContextManager[object]:
        """Return a lock; its holder may fetch a token."""


@runtime_checkable
class Coordinator(Protocol):
    """
    The limiters of one API key, and the token of one account. It serves sessions of that account alone.

    `LocalCoordinator` serves the sessions of one event loop, `RedisCoordinator` those of a fleet. Close a coordinator
    that you make.
    """

    def join(self, identity: Identity) -> None:
        """
        Serve one more session, in the running loop.

        Raises:
            ConfigurationError: It serves another identity or another loop.
        """

    async def leave(self) -> None:
        """End one `join`. The last one closes connections and returns unused slots."""

    @property
    def token(self) -> TokenStore:
        """The store of the shared token."""

    def limiter(self, rate_group: RateGroup) -> Limiter:
        """Return the limiter of a rate group. A session asks once for each."""


@frozen
class Identity:
    """
    What a coordinator serves, as digests: neither the key nor the account can be read from them.

    Attributes:
        limiter: Digest of the API key and the server that counts its requests: Pico, or a stand-in for it.
        token: Digest of the host, the account and the key, for which a token is valid.
    """

    limiter: str
    token: str

    @classmethod
    def of(cls, counted_at: str, host: str, username: str, api_key: str) -> Self:
        """Return the digests. *counted_at* names the server that counts the requests to several hosts."""
        return cls(digest(counted_at, api_key), digest(host, username, api_key))


def digest(*parts: str) -> str:
    """Return a name from which a secret, such as a key, cannot be read."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
