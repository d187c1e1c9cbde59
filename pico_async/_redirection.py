"""
Sessions of a test that need no socket: they work in any event loop, and `install` sends all others to a sandbox.

A session's engine belongs to one event loop, because its connections do. A test client runs an app in a loop of its
own, and some run each request in one. So `EngineOfEachLoop` stands in the engine's place, and has one for each loop.
"""

from __future__ import annotations

import asyncio
import functools
import os
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Protocol

import httpx
from attrs import evolve

from pico_async import _settings
from pico_async._engine import live
from pico_async._engine.call import Engine
from pico_async._engine.http.exchange import HttpClient
from pico_async._engine.http.selection import http_transport_for
from pico_async.coordination.local.coordinator import LocalCoordinator
from pico_async.coordination.rates import Rates
from pico_async.coordination.token_cache import Secret
from pico_async.resources._member import Resource
from pico_async.session import PicoSession

SENDER = "8612345678888"
# No name server resolves it (RFC 2606), so a session with another transport sends nothing either.
BASE_URL = "https://pico-sandbox.invalid"
UNLIMITED = Rates(sms=None, token=None, balance=None)

# Calls that are under way when the test ends get this time to end; then they are cancelled.
_SETTLE_S = 0.5


class Target(Protocol):
    """A sandbox, as sessions are redirected to it."""

    username: str
    api_key: str

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that reaches it without a socket."""


class EngineOfEachLoop:
    """
    Stands in the place of a session's engine: it has one for each event loop, made by its first use there.

    Args:
        make: Makes an engine. Its HTTP transport must not use sockets.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Engine] = weakref.WeakKeyDictionary()
        self._latest = make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._present(), name)

    def _present(self) -> Engine:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._latest
        if loop not in self._engines:
            self._engines[loop] = self._make()
            self._engines[loop].closed = self._latest.closed
        self._latest = self._engines[loop]
        return self._latest

    def close(self, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close all engines, by a function that closes the one of the running loop."""
        for engine in list(self._engines.values()):
            _close(engine, aclose)
        self._latest.closed = True


class _Redirected:
    """Stands in the place of an engine that would reach Pico. It is the one of the sandbox that is installed."""

    def __init__(self, session: PicoSession, own: Engine) -> None:
        self._session = session
        self._own = own
        self._of_targets: weakref.WeakKeyDictionary[Redirection, EngineOfEachLoop] = weakref.WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._present(), name)

    def _present(self) -> EngineOfEachLoop | Engine:
        if not _installed:
            return self._own
        redirection = _installed[-1]
        if redirection not in self._of_targets:
            engines = EngineOfEachLoop(functools.partial(_engine_for, redirection.target, self._own))
            self._of_targets[redirection] = engines
            redirection.redirected.append((engines, self._session.aclose))
        return self._of_targets[redirection]


class Redirection:
    """Sends each session that would reach Pico to a sandbox, also those that were made before, until it is ended."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.redirected: list[tuple[EngineOfEachLoop, Callable[[], Coroutine[Any, Any, None]]]] = []
        self._session: PicoSession | None = None

    def begin(self) -> None:
        """Redirect from now on. The latest one that was begun applies."""
        if not _installed:
            _patch()
        _installed.append(self)

    def end(self) -> None:
        """Close the engines of this redirection, and redirect no more. Ending twice does nothing."""
        if self not in _installed:
            return
        _installed.append(self)  # so that each session closes the engine of this one
        try:
            while self.redirected:
                engines, aclose = self.redirected.pop()
                engines.close(aclose)
        finally:
            while self in _installed:
                _installed.remove(self)
            if not _installed:
                _unpatch()

    def session(self) -> PicoSession:
        """Return the session for apps that have opened none, because a test client did not run their lifespan."""
        if self._session is None:
            self._session = PicoSession()
        return self._session


_installed: list[Redirection] = []
_own_init = PicoSession.__init__


@functools.wraps(_own_init)
def _init(session: PicoSession, **settings: Any) -> None:
    # What a session cannot be made without. All else is the app's own.
    target = _installed[-1].target
    for name, value in (("username", target.username), ("api_key", target.api_key)):
        if not (settings.get(name) or os.environ.get(f"PICO_{name.upper()}")):
            settings[name] = value
    # PICO_BASE_URL may name a sandbox that was left running. Callbacks name hosts that only the test reaches.
    settings["base_url"] = settings.get("base_url") or _settings.DEFAULT_BASE_URL
    _own_init(session, **settings | {"allow_private_urls": True})


def _engine(session: PicoSession) -> Any:
    attributes = vars(session)
    if "_engine" not in attributes:
        raise AttributeError("_engine")
    if isinstance(own := attributes["_engine"], EngineOfEachLoop) or not own._reaches_pico:
        return own
    return attributes.setdefault("_redirected", _Redirected(session, own))


def _set_engine(session: PicoSession, engine: object) -> None:
    vars(session)["_engine"] = engine


def _set_resource(resource: Resource[Any], session: PicoSession, value: object) -> None:
    raise AttributeError("resources cannot be set")


# As Any: a type checker knows what may be assigned to a class, and this may not.
_session_class: Any = PicoSession
_resource_class: Any = Resource


def _patch() -> None:
    # The property comes before the attribute of the same name, also in sessions that were made before.
    _session_class._engine = property(_engine, _set_engine)
    # With a setter, resources too come before those that a session has kept.
    _resource_class.__set__ = _set_resource
    _session_class.__init__ = _init
    live.session = lambda: _installed[-1].session()


def _unpatch() -> None:
    del _session_class._engine, _resource_class.__set__
    _session_class.__init__ = _own_init
    live.session = live.none


def _engine_for(target: Target, own: Engine) -> Engine:
    key = Secret(target.api_key)
    coordinator = LocalCoordinator(UNLIMITED)

    def join() -> LocalCoordinator:
        coordinator.join(_settings.identity(BASE_URL, target.username, key))
        return coordinator

    sender = own.account.sender or SENDER
    return evolve(
        own,
        account=own.account._replace(username=target.username, sender=sender, private_urls=True),
        api_key=key,
        client=HttpClient(BASE_URL, own._client._timeout_s, http_transport_for(target.transport())),
        join=join,
        reaches_pico=False,
    )


def serve_each_loop(session: PicoSession, transport: Callable[[], httpx.AsyncBaseTransport]) -> None:
    """Make a session whose transport uses no socket work in any event loop."""
    own = session._engine

    def make() -> Engine:
        client = HttpClient(session._base_url, own._client._timeout_s, http_transport_for(transport()))
        return evolve(own, client=client)

    session._engine = EngineOfEachLoop(make)  # type: ignore[assignment]


def close_session(session: PicoSession) -> None:
    """Close a session of a test from outside its event loop."""
    engine: Any = vars(session)["_engine"]
    if isinstance(engine, EngineOfEachLoop):
        engine.close(session.aclose)
    else:
        _close(engine, session.aclose)


def _close(engine: Engine, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """
    Close an engine from outside its event loop, which may have ended already.

    `asyncio.run` and all plugins cancel the tasks of a loop before they close it. Then the engine has nothing left to
    close: it has no socket, and its calls were awaited by those tasks.
    """
    loop = engine.loop
    if loop is None or loop.is_closed() or _in_a_loop():
        engine.closed = True
    elif loop.is_running():
        # The loop runs in another thread, as that of a portal or a test client.
        with suppress(CancelledError):  # the loop ended meanwhile
            asyncio.run_coroutine_threadsafe(_settle(aclose), loop).result(timeout=10 + _SETTLE_S)
    else:
        # The loop is idle between two tests. Remaining tasks would run in the next test.
        loop.run_until_complete(_settle(aclose))


async def _settle(aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(aclose(), _SETTLE_S)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
