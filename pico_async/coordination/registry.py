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
    """A coordinator that outlives its sessions for as long as their requests still limit new ones."""

    async def leave(self) -> None:
        await super().leave()
        if self._identity is not None:
            leave_shared(self._identity)


class _Entry:
    """The coordinators of one API key in one loop: one for each account and host, with the same limiters."""

    def __init__(self, rates: Rates) -> None:
        # Serves no session. The others are made from it.
        self.prototype = _SharedCoordinator(rates)
        self.by_token: dict[str, _SharedCoordinator] = {}
        self.sessions = 0
        self.forgetting: asyncio.TimerHandle | None = None

    def change_rates(self, rates: Rates) -> None:
        if rates == self.prototype.rates:
            return
        self.prototype = self.prototype.at_other_rates(rates)
        for name, earlier in self.by_token.items():
            self.by_token[name] = self.prototype.for_another_account()
            self.by_token[name].token = earlier.token


# The one global by which sessions affect each other: those of one key must share limiters without knowing each other.
# The loops of several threads share it, but never an entry.
_entries: dict[asyncio.AbstractEventLoop, dict[str, _Entry]] = {}
_lock = threading.Lock()


def _forked() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that the child does not have may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def join_shared(identity: Identity, rates: Rates) -> LocalCoordinator:
    """
    Return the coordinator that all sessions of this identity share in the running loop.

    Sessions of the same key, but of another account or host, get one with the same limiters and another token.

    This joins the coordinator: call its `leave` once for each call of this function. The limiters outlive the last
    session for as long as its requests still limit new ones: a program that opens a session for each message must not
    exceed a rate either.

    Raises:
        ConfigurationError: Another session of this key has other rates.
    """
    loop = asyncio.get_running_loop()
    with _lock:
        for closed in [loop for loop in _entries if loop.is_closed()]:  # their sessions were never closed
            del _entries[closed]
        keys = _entries.setdefault(loop, {})
        entry = keys.get(identity.limiter)
        if entry is None:
            entry = keys[identity.limiter] = _Entry(rates)
    if not entry.sessions:
        entry.change_rates(rates)
    if entry.prototype.rates != rates:
        raise ConfigurationError(
            f"Another open session of this API key has {entry.prototype.rates}. All sessions of a key share one rate, "
            "also for other accounts and hosts. Pass the same `rates` to both."
        )
    if entry.forgetting is not None:
        entry.forgetting.cancel()
        entry.forgetting = None
    entry.sessions += 1
    if identity.token not in entry.by_token:
        entry.by_token[identity.token] = entry.prototype.for_another_account()
    coordinator = entry.by_token[identity.token]
    coordinator.join(identity)
    return coordinator


def leave_shared(identity: Identity) -> None:
    loop = asyncio.get_running_loop()
    entry = _entries[loop][identity.limiter]
    entry.sessions -= 1
    if not entry.sessions:
        entry.forgetting = loop.call_later(entry.prototype.constrained_s(), _forget, loop, identity.limiter, entry)


def _forget(loop: asyncio.AbstractEventLoop, name: str, entry: _Entry) -> None:
    with _lock:
        keys = _entries.get(loop, {})
        if keys.get(name) is entry:
            del keys[name]
        if not keys:
            _entries.pop(loop, None)
