"""
This module gives a fleet schedules in Redis.

A fleet that is new to Redis waits before its first request in each rate group, because other processes may hold slots.
With a schedule, the first slot is granted at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import redis

from pico_async import Identity
from pico_async._settings import DEFAULT_BASE_URL, counted_at
from pico_async.coordination.rates import RateGroup


def begin_schedules(
    client: redis.Redis | redis.RedisCluster,
    api_key: str,
    base_url: str = DEFAULT_BASE_URL,
    *,
    lanes: Iterable[RateGroup] = (RateGroup.SMS, RateGroup.TOKEN),
    prefix: str = "pico",
) -> None:
    """Write a schedule that ended long ago for each of these rate groups of an API key."""
    fleet = Identity.of(counted_at(base_url), base_url, "", api_key).limiter
    for rate_group in lanes:
        client.hset(f"{prefix}:{{{fleet}}}:pace:{rate_group}", mapping={"name": "S", "tat": 0, "last": 0})
