"""What to do about a session that is used in no event loop, or in a wrong one."""

from __future__ import annotations

import asyncio

from pico_async.errors import ConfigurationError

FROM_SYNCHRONOUS_CODE = "from synchronous code, use `pico_async.blocking.Pico`"


def no_loop() -> ConfigurationError:
    """Return the error for a session that is used outside of an event loop."""
    return ConfigurationError(
        f"PicoSession needs a running event loop. Use it in a coroutine; or {FROM_SYNCHRONOUS_CODE}."
    )


def another_loop(loop: asyncio.AbstractEventLoop) -> ConfigurationError:
    """Return the error for a session that was opened in this loop, which is not the running one."""
    if loop.is_closed():
        return ConfigurationError(
            "This session belongs to another event loop, which has ended, such as that of an earlier `asyncio.run`. "
            "Open the session in the coroutine that `asyncio.run` runs, with `async with PicoSession() as pico:`, and "
            f"make all its calls there; or {FROM_SYNCHRONOUS_CODE}, which keeps one event loop."
        )
    return ConfigurationError(
        "This session belongs to another event loop, which is not the running one. Make its calls there, such as by "
        f"`asyncio.run_coroutine_threadsafe`, or make another session in this loop; or {FROM_SYNCHRONOUS_CODE}, which "
        "any thread may use."
    )
