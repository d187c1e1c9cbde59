"""What sends rest on beside Pico: the fleet's Redis, and a blast's journal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio

from pico_async.bulk.journal.protocols import JournalState
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.cli.doctor.account import CLOCK_S
from pico_async.cli.doctor.finding import Finding, State, failed
from pico_async.cli.fleet import hint_for
from pico_async.cli.fleet_address import FleetAddress
from pico_async.cli.format import format_count
from pico_async.errors import ConfigurationError, PicoError

# RedisCoordinator's scripts need it.
_OLDEST = 6


async def redis(address: FleetAddress, *, timeout_s: float) -> Finding:
    """See whether the fleet's Redis answers, how old it is, and what time it has."""
    try:
        client = address.client()
    except ConfigurationError as error:
        return failed("redis", str(error), "Correct it: without its Redis, no process of a fleet sends.")
    # Here and not above: all else works without the extra.
    from redis.exceptions import RedisError, ResponseError

    from pico_async.coordination.redis.client import kind_of

    version: str | None = None
    try:
        with anyio.fail_after(timeout_s):
            async with client:
                # Not by PING: who may look at a fleet may not ask for it. The first one opens the connection.
                await client.time()
                before, begun_at = time.time(), time.monotonic()
                seconds, microseconds = await client.time()
                answered_s = time.monotonic() - begun_at
                ahead_s = before + answered_s / 2 - (int(seconds) + int(microseconds) / 1e6)
                try:
                    told: dict[str, Any] = await client.info("server")
                except ResponseError:
                    pass  # a user of a fleet may have no right to ask
                else:
                    version = str(told.get("valkey_version") or told.get("redis_version") or "") or None
                    kind = "Valkey" if told.get("valkey_version") else "Redis"
    except RedisError as error:
        fault = kind_of(error)
        return failed("redis", f"Redis is not available: {fault}.", hint_for(fault))
    except TimeoutError:
        return failed("redis", f"Redis did not answer within {timeout_s:g} s.", hint_for(""))
    except Exception as error:  # noqa: BLE001  redis-py lets others through; their words may hold the address
        return failed("redis", f"Redis is not available: {type(error).__name__}.", hint_for(""))
    facts = {"version": version, "ms": round(answered_s * 1000, 1), "ahead_s": round(ahead_s, 1)}
    named = "Redis (it tells this user no version)" if version is None else f"{kind} {version}"
    said = f"{named} answers within {answered_s * 1000:.1f} ms"
    if version is not None and _major(version) < _OLDEST:
        return failed("redis", f"{said}, and is too old.", f"RedisCoordinator needs {_OLDEST} or newer.", **facts)
    if abs(ahead_s) > CLOCK_S:
        direction = "ahead of" if ahead_s > 0 else "behind"
        return Finding(
            check="redis",
            state=State.WARNING,
            message=f"{said}; this machine's clock is {abs(ahead_s):,.0f} s {direction} it.",
            advice="The pace goes by Redis's own clock and is not harmed, but one of the two is wrong.",
            facts=facts,
        )
    return Finding(check="redis", state=State.OK, message=f"{said}, and the clocks agree.", facts=facts)


def _major(version: str) -> int:
    leading = version.partition(".")[0]
    return int(leading) if leading.isdigit() else _OLDEST


async def journal(path: Path) -> Finding:
    """See whether a journal can be read, and what is in doubt there."""
    try:
        counts = await SqliteJournal(path).counts()
    except PicoError as error:
        return failed("journal", str(error), "Is the name right? `pico blast --journal FILE` makes one.")
    in_doubt = counts[JournalState.IN_DOUBT]
    facts = {state.value: counts[state] for state in JournalState}
    if in_doubt:
        return Finding(
            check="journal",
            state=State.WARNING,
            message=f"{format_count(in_doubt, 'message')} may have gone out.",
            advice=f"See `pico journal in-doubt {path}`, and decide by `mark-sent` or `resend`.",
            facts=facts,
        )
    total = sum(counts[state] for state in JournalState)
    return Finding(
        check="journal", state=State.OK, message=f"{format_count(total, 'message')}, none in doubt", facts=facts
    )
