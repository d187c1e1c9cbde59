"""How the sessions of one API key in one event loop find each other."""

from __future__ import annotations

import asyncio
import threading

from pico_async.coordination.local.coordinator import LocalCoordinator
from pico_async.coordination.protocols import Identity
from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError


class _Shared:
    """What the sessions of one API key share in one loop."""

    def __init__(self, rates: Rates) -> None:
        self.pace = LocalCoordinator(rates)
        self.by_token: dict[str, LocalCoordinator] = {}
        self.sessions = 0
        self.forgetting: asyncio.TimerHandle | None = None

    def keep_to(self, rates: Rates) -> None:
        """Go on at these rates, where they are others."""
        if rates == self.pace.rates:
            return
        self.pace = self.pace.at_other_rates(rates)
        for name, earlier in self.by_token.items():
            self.by_token[name] = self.pace.for_another_account()
            self.by_token[name].token = earlier.token


# The one global of the package: two sessions of one key must share a pace without knowing of each other. Loops of
# several threads share the table, never an entry.
_shared: dict[asyncio.AbstractEventLoop, dict[str, _Shared]] = {}
_table = threading.Lock()


def join(identity: Identity, rates: Rates) -> LocalCoordinator:
    """
    Give the coordinator that all sessions of this identity share in the running loop.

    Sessions of the same key, but of another account or host, get one with the same pace and another token.

    Each `join` is ended by a `leave`. What was sent counts for a while after it was sent, so the pace and the tokens
    outlive the last session by that while: a session for each message must not cross a rate, either.

    Raises:
        ConfigurationError: Another session of this key runs at other rates.
    """
    loop = asyncio.get_running_loop()
    with _table:
        for closed in [loop for loop in _shared if loop.is_closed()]:  # sessions that were never closed
            del _shared[closed]
        keys = _shared.setdefault(loop, {})
        shared = keys.get(identity.pace)
        if shared is None:
            shared = keys[identity.pace] = _Shared(rates)
    if not shared.sessions:
        shared.keep_to(rates)
    if shared.pace.rates != rates:
        raise ConfigurationError(
            f"Another open session of this API key runs at {shared.pace.rates}, and they share one pace, whatever "
            "account and host they name: give both the same `rates`."
        )
    if shared.forgetting is not None:
        shared.forgetting.cancel()
        shared.forgetting = None
    shared.sessions += 1
    if identity.token not in shared.by_token:
        shared.by_token[identity.token] = shared.pace.for_another_account()
    return shared.by_token[identity.token]


def leave(identity: Identity) -> None:
    """End what a `join` in the running loop began."""
    loop = asyncio.get_running_loop()
    shared = _shared[loop][identity.pace]
    shared.sessions -= 1
    if not shared.sessions:
        shared.forgetting = loop.call_later(shared.pace.remembers_s(), _forget, loop, identity.pace, shared)


def _forget(loop: asyncio.AbstractEventLoop, name: str, shared: _Shared) -> None:
    with _table:
        keys = _shared.get(loop, {})
        if keys.get(name) is shared:
            del keys[name]
        if not keys:
            _shared.pop(loop, None)
