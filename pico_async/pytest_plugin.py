"""
The pytest plugin: fixtures `pico_sandbox` and `pico`, there wherever pico_async and pytest are installed.

    async def test_the_code_reaches_the_phone(pico, pico_sandbox):
        await login("+86 123 4567 8901", pico)

        assert await confirm(pico_sandbox.otp_for("+86 123 4567 8901"))

No socket is opened, no credentials are needed, and none are taken from the environment. `-p no:pico_async` leaves the
plugin out, and a project's own fixture of either name takes the place of this one. Until a test asks for a fixture,
nothing of pico_async is imported but this file. The fixtures need the extra: `pip install 'pico-async[sandbox]'`.

Tests send nothing. Any other session of the test process raises a ConfigurationError in place of a request, if its
host is not loopback and its transport may reach a network: also where it was made by a module, a fixture or the app.
What is to send for real is marked:

    @pytest.mark.pico_live
    async def test_pico_takes_a_message(): ...

A fixture of a wider scope counts as a part of the test that asks for it first. A transport of your own that reaches no
network says so by `in_process = True`; httpx.MockTransport and httpx.ASGITransport are known. Processes that a test
starts are not watched.

Both fixtures are plain ones, not coroutines, so they depend on no plugin for asyncio and work with each: pytest-asyncio
in either mode and with loops of any scope, anyio's plugin on its asyncio backend, IsolatedAsyncioTestCase, and
`asyncio.run` in a plain test. A session opens with its first use, in the loop of whoever uses it, and is closed when
the fixture ends: within its loop where that goes on, and else it ended with the loop.

Both are new for each test. For a wider scope, as for an app that is started once, make a fixture of your own, with
`with PicoSandbox() as sandbox: yield sandbox` and `sandbox.clear()` between the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pico_async._engine import live

if TYPE_CHECKING:
    from pico_async.session import PicoSession
    from pico_async.testing import PicoSandbox

_OUTER = pytest.StashKey[Callable[[], str | None]]()
_running: list[pytest.Item] = []
_MARKERS = {
    "pico": "arguments of PicoSession for the fixture `pico`, as timeout=0.1 or rates=Rates()",
    "pico_sandbox": "arguments of Sandbox for the fixture `pico_sandbox`, as rate_rule='sliding-log'",
}


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for name, what in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}(**settings): {what}")
    config.addinivalue_line("markers", "pico_live: the test sends for real, by Pico itself and with your credentials")
    # A run within a run, as pytester's, must not end the guard of the outer one.
    config.stash[_OUTER] = live.refusal
    live.refusal = _refusal


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let sessions go where they like again."""
    live.refusal = config.stash.get(_OUTER, live.refusal)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Know which test runs, with its fixtures."""
    _running.append(item)
    try:
        yield
    finally:
        _running.pop()


def _refusal() -> str | None:
    if _running and _running[-1].get_closest_marker("pico_live") is not None:
        return None
    return (
        "This is a test, and the session would send for real. Nothing was sent. Use the fixture `pico`, or "
        "`pico_sandbox.session()`; mark the test with @pytest.mark.pico_live if it is to reach Pico itself. A "
        "transport of your own that reaches no network says so by `in_process = True`."
    )


@pytest.fixture
def pico_sandbox(request: pytest.FixtureRequest) -> Iterator[PicoSandbox]:
    """
    A stand-in for Pico Cloud inside the test, new for each: `sent_to()`, `otp_for()`, `fault()`, `clock`, `session()`.

    It enforces no rate, so that no test waits. `@pytest.mark.pico_sandbox(rate_rule="sliding-log")` gives any argument
    of `Sandbox`. See `pico_async.testing.PicoSandbox`.
    """
    try:
        from pico_async.testing import PicoSandbox
    except ImportError as error:
        fault = str(error)
    else:
        with PicoSandbox(**_settings(request, "pico_sandbox")) as sandbox:
            yield sandbox
        return
    pytest.fail(f"The fixture `pico_sandbox` cannot be made: {fault}", pytrace=False)


@pytest.fixture
def pico(request: pytest.FixtureRequest, pico_sandbox: PicoSandbox) -> PicoSession:
    """
    A `PicoSession` with `pico_sandbox`, open for the test and closed after it.

    It keeps no pace, so that no test waits. `@pytest.mark.pico(timeout=0.1)` gives any argument of `PicoSession`. It
    serves one event loop; where a test runs several, `pico_sandbox.session()` makes one for each.
    """
    return pico_sandbox.session(**_settings(request, "pico"))


def _settings(request: pytest.FixtureRequest, marker: str) -> dict[str, Any]:
    """Gather what the markers say; the one closest to the test has the last word."""
    settings: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(marker))):
        if mark.args:
            pytest.fail(f"@pytest.mark.{marker} takes arguments by name: {_MARKERS[marker]}.", pytrace=False)
        settings |= mark.kwargs
    return settings
