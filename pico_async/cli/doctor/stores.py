"""Check the fleet's Redis, and the journal of a bulk send."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio

from pico_async.bulk.journal.protocols import JournalState
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.cli.doctor.account import CLOCK_S
from pico_async.cli.doctor.finding import Finding, failed, ok, warning
from pico_async.cli.fleet import hint_for
from pico_async.cli.fleet_address import FleetAddress
from pico_async.cli.format import format_count
from pico_async.errors import ConfigurationError, PicoError

# RedisCoordinator's scripts need it.
_OLDEST = 6


async def check_redis(address: FleetAddress, *, timeout_s: float) -> Finding:
    """Check the connection, the version and the clock of the fleet's Redis."""
    try:
        client = address.client()
    except ConfigurationError as error:
        return failed("redis", str(error), "Correct the address: without its Redis, no process of a fleet sends.")
    # Not at the top: all other checks work without the extra.
    from redis.exceptions import RedisError, ResponseError

    from pico_async.coordination.redis.client import error_kind

    version: str | None = None
    try:
        with anyio.fail_after(timeout_s):
            async with client:
                # Not PING: a user that may only read a fleet has no right to it. The first call opens the connection.
                await client.time()
                before, begun_at = time.time(), time.monotonic()
                seconds, microseconds = await client.time()
                answered_s = time.monotonic() - begun_at
                ahead_s = before + answered_s / 2 - (int(seconds) + int(microseconds) / 1e6)
                try:
                    info: dict[str, Any] = await client.info("server")
                except ResponseError:
                    pass  # A user of a fleet may have no right to INFO.
                else:
                    version = str(info.get("valkey_version") or info.get("redis_version") or "") or None
                    kind = "Valkey" if info.get("valkey_version") else "Redis"
    except RedisError as error:
        fault = error_kind(error)
        return failed("redis", f"Redis is not available: {fault}.", hint_for(fault))
    except TimeoutError:
        return failed("redis", f"Redis did not answer within {timeout_s:g} s.", hint_for(""))
    except Exception as error:  # noqa: BLE001  redis-py raises other errors, too; their text may contain the address
        return failed("redis", f"Redis is not available: {type(error).__name__}.", hint_for(""))
    facts = {"version": version, "ms": round(answered_s * 1000, 1), "ahead_s": round(ahead_s, 1)}
    name = "Redis (this user may not read its version)" if version is None else f"{kind} {version}"
    message = f"{name} replied within {answered_s * 1000:.1f} ms"
    major = "" if version is None else version.partition(".")[0]
    if major.isdigit() and int(major) < _OLDEST:
        return failed("redis", f"{message}, and is too old.", f"RedisCoordinator needs {_OLDEST} or newer.", **facts)
    if abs(ahead_s) > CLOCK_S:
        direction = "ahead of" if ahead_s > 0 else "behind"
        return warning(
            "redis",
            f"{message}; this machine's clock is {abs(ahead_s):,.0f} s {direction} it.",
            "One of the two clocks is wrong. The rate limit is not affected: it uses only the clock of Redis.",
            **facts,
        )
    return ok("redis", f"{message}, and the clocks agree.", **facts)


async def check_journal(path: Path) -> Finding:
    """Check that a journal can be read, and whether it has messages in doubt."""
    try:
        counts = await SqliteJournal(path).counts()
    except PicoError as error:
        return failed("journal", str(error), "Check the name. `pico blast --journal FILE` creates a journal.")
    in_doubt = counts[JournalState.IN_DOUBT]
    facts = {state.value: counts[state] for state in JournalState}
    if in_doubt:
        return warning(
            "journal",
            f"{format_count(in_doubt, 'message')} may have been sent.",
            f"See `pico journal in-doubt {path}`, and decide with `mark-sent` or `resend`.",
            **facts,
        )
    total = sum(counts[state] for state in JournalState)
    return ok("journal", f"{format_count(total, 'message')}, none in doubt", **facts)
