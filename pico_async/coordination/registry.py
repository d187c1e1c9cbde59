"""The sessions of one API key in one event loop find each other here."""

from __future__ import annotations

import asyncio
import os
import threading

from pico_async.coordination.local.coordinator import LocalCoordinator
from pico_async.coordination.protocols import Identity
from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError


class _SharedCoordinator(LocalCoordinator):
    """A coordinator that outlives its sessions for as long as their sends count."""

    async def leave(self) -> None:
        """End one `join`."""
        await super().leave()
        if self._identity is not None:
            leave(self._identity)


class _Shared:
    """The coordinators of one API key in one loop: one for each account and host, with the same limiters."""

    def __init__(self, rates: Rates) -> None:
        self.limiters = _SharedCoordinator(rates)
        self.by_token: dict[str, _SharedCoordinator] = {}
        self.sessions = 0
        self.forgetting: asyncio.TimerHandle | None = None

    def keep_to(self, rates: Rates) -> None:
        """Continue at these rates, if they differ."""
        if rates == self.limiters.rates:
            return
        self.limiters = self.limiters.at_other_rates(rates)
        for name, earlier in self.by_token.items():
            self.by_token[name] = self.limiters.for_another_account()
            self.by_token[name].token = earlier.token


# The one global of the package: two sessions of one key must share limiters without knowing each other. The loops of
# several threads share this table, never an entry.
_shared: dict[asyncio.AbstractEventLoop, dict[str, _Shared]] = {}
_table = threading.Lock()


def _forked() -> None:
    global _table
    _table = threading.Lock()  # a thread that the child does not have may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def join(identity: Identity, rates: Rates) -> LocalCoordinator:
    """
    Return the coordinator that all sessions of this identity share in the running loop.

    Sessions of the same key, but of another account or host, get one with the same limiters and another token.

    Call its `leave` for each `join`. The limiters outlive the last session for as long as its sends count: a program
    that opens a session for each message must not exceed a rate either.

    Raises:
        ConfigurationError: Another session of this key has other rates.
    """
    loop = asyncio.get_running_loop()
    with _table:
        for closed in [loop for loop in _shared if loop.is_closed()]:  # their sessions were never closed
            del _shared[closed]
        keys = _shared.setdefault(loop, {})
        shared = keys.get(identity.limiter)
        if shared is None:
            shared = keys[identity.limiter] = _Shared(rates)
    if not shared.sessions:
        shared.keep_to(rates)
    if shared.limiters.rates != rates:
        raise ConfigurationError(
            f"Another open session of this API key has {shared.limiters.rates}. All sessions of a key share one rate, "
            "also for other accounts and hosts. Pass the same `rates` to both."
        )
    if shared.forgetting is not None:
        shared.forgetting.cancel()
        shared.forgetting = None
    shared.sessions += 1
    if identity.token not in shared.by_token:
        shared.by_token[identity.token] = shared.limiters.for_another_account()
    coordinator = shared.by_token[identity.token]
    coordinator.join(identity)
    return coordinator


def leave(identity: Identity) -> None:
    """End one `join` in the running loop."""
    loop = asyncio.get_running_loop()
    shared = _shared[loop][identity.limiter]
    shared.sessions -= 1
    if not shared.sessions:
        shared.forgetting = loop.call_later(shared.limiters.constrained_s(), _forget, loop, identity.limiter, shared)


def _forget(loop: asyncio.AbstractEventLoop, name: str, shared: _Shared) -> None:
    with _table:
        keys = _shared.get(loop, {})
        if keys.get(name) is shared:
            del keys[name]
        if not keys:
            _shared.pop(loop, None)
