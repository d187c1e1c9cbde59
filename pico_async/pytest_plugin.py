"""
The pytest plugin: the fixtures `pico_sandbox` and `pico`.

    async def test_the_code_reaches_the_phone(pico, pico_sandbox):
        await login("+86 123 4567 8901", pico)

        assert await confirm(pico_sandbox.otp_for("+86 123 4567 8901"))

The fixtures open no socket and need no credentials; `PICO_*` variables are ignored. They need the extra:
`pip install 'pico-async[sandbox]'`. `-p no:pico_async` disables the plugin. A project's own fixture of the same name
replaces this one.

Tests send nothing. A session that would reach Pico raises ConfigurationError instead, wherever it was made. It would
reach Pico if its host is not loopback and its transport may use a network. A test that sends for real is marked:

    @pytest.mark.pico_live
    async def test_pico_takes_a_message(): ...

A fixture of a wider scope belongs to the test that requests it first. A transport of your own that uses no network has
an attribute `in_process = True`; httpx.MockTransport and httpx.ASGITransport are known. Processes that a test starts
are not checked.

The fixtures are plain functions, so they work with each asyncio plugin: pytest-asyncio in both modes and with loops of
any scope, anyio's plugin on asyncio, IsolatedAsyncioTestCase, and `asyncio.run` in a plain test. A session opens with
its first use, in the caller's loop. It is closed when the fixture ends, or with its loop if that ended before.

Both fixtures are new for each test. For a wider scope, write a fixture of your own:
`with PicoSandbox() as sandbox: yield sandbox`, with `sandbox.clear()` between the tests.
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
    # A run within a run, as pytester starts it, must not end the check of the outer run.
    config.stash[_OUTER] = live.refusal
    live.refusal = _refusal


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the check of where sessions send."""
    live.refusal = config.stash.get(_OUTER, live.refusal)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Remember the running test, also while its fixtures are set up."""
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
        "`pico_sandbox.session()`, or call `pico_sandbox.install()` for the sessions that an app makes. Mark the test "
        "with @pytest.mark.pico_live if it must reach Pico. If your own transport uses no network, give it the "
        "attribute `in_process = True`."
    )


@pytest.fixture
def pico_sandbox(request: pytest.FixtureRequest) -> Iterator[PicoSandbox]:
    """
    A stand-in for Pico Cloud inside the test, new for each: `sent_to()`, `otp_for()`, `fault()`, `clock`, `session()`.

    It enforces no rate, so that no test waits. `@pytest.mark.pico_sandbox(rate_rule="sliding-log")` passes any argument
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

    Its limiter is off, so that no test waits. `@pytest.mark.pico(timeout=0.1)` passes any argument of `PicoSession`.
    It works in any event loop. `pico_sandbox.install()` redirects the sessions that an app makes.
    """
    return pico_sandbox.session(**_settings(request, "pico"))


def _settings(request: pytest.FixtureRequest, marker: str) -> dict[str, Any]:
    """Return the settings of all markers; the marker closest to the test wins."""
    settings: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(marker))):
        if mark.args:
            pytest.fail(f"@pytest.mark.{marker} takes arguments by name: {_MARKERS[marker]}.", pytrace=False)
        settings |= mark.kwargs
    return settings
