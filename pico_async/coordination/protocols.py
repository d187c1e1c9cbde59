"""What all callers of one API key share: the pace and the token."""

from __future__ import annotations

import hashlib
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from typing import Protocol, Self, runtime_checkable

from attrs import frozen

from pico_async.coordination.rates import RateGroup


class Priority(IntEnum):
    """Who goes first where several wait for one pace; equals go first come, first served."""

    AGAIN = -1
    """It had a turn, and its connection was too slow to open to use it. The session's own word, not yours."""
    INTERACTIVE = 0
    """Somebody waits for it: a code, a chatbot's answer. The default of a single send."""
    BULK = 1
    """Part of a blast."""


class TokenStore(Protocol):
    """Where the one token lives, and whose turn it is to fetch it."""

    async def current(self) -> str | None:
        """Give the token and note its use, or None where there is none to trust."""
        ...

    async def keep(self, token: str) -> None:
        """Put a fresh token in the place of whatever is there."""
        ...

    async def discard(self, token: str) -> None:
        """Drop the token, unless another has taken its place."""
        ...

    def refreshing(self) -> AbstractAsyncContextManager[object]:
        """Hold the right to fetch; one caller at a time does."""
        ...


@runtime_checkable
class Coordinator(Protocol):
    """
    The pace of one API key, and the token of one account. It serves sessions of that account alone.

    `LocalCoordinator` serves the sessions of one event loop. Whoever makes a coordinator closes it.
    """

    @property
    def token(self) -> TokenStore:
        """The token that all callers share."""
        ...

    async def turn(self, rate_group: RateGroup, priority: Priority) -> None:
        """
        Wait until one more request may go out.

        A cancelled caller gives its place back.
        """
        ...

    async def refused(self, rate_group: RateGroup, retry_after_s: float | None) -> None:
        """Take note that Pico refused a request because of the rate: everyone pauses, then goes slower for a while."""
        ...


@runtime_checkable
class LearningCoordinator(Coordinator, Protocol):
    """A coordinator that is told how the network is, and tells how fast it goes by what it knows."""

    def heard(self, rate_group: RateGroup, took_s: float) -> None:
        """Learn from how long after its turn a request had its reply."""
        ...

    async def leave_late(self, rate_group: RateGroup, turn_at: float) -> bool:
        """
        Count a turn from now on that was given at *turn_at*, on the monotonic clock: the request leaves only now.

        False where that cannot be: others had turns meanwhile, so it needs another one.
        """
        ...

    def per_s(self, rate_group: RateGroup) -> float | None:
        """Say how many requests a second the rate group gives now; None where nothing limits it."""
        ...


def digest(*parts: str) -> str:
    """Name what must not be shown, such as a key, by what it cannot be read from."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


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
