"""`pico fleet`: the processes that share a rate over Redis, and their state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from pico_async.cli.account_options import Json
from pico_async.cli.console import print_error, print_json, print_line, print_table, printable
from pico_async.cli.fleet_address import URL_HELP, FleetAddress
from pico_async.cli.format import format_duration
from pico_async.errors import ConfigurationError

if TYPE_CHECKING:
    from pico_async.coordination.redis.status import FleetStatus, MemberStatus, RateGroupStatus, TokenStatus

# The first characters of a digest distinguish the fleets of one Redis.
NAME_SHOWN = 8

# By a part of the error's kind, as redis-py or the server names it.
_HINTS = {
    "NoPermission": "The user needs the rights +@read +time and ~pico:* there.",
    "Authentication": "Are its user and password right?",
    "WRONGTYPE": "Another program has written to a key of the fleet: delete that key, or choose another prefix.",
}


def status(
    redis: Annotated[str | None, typer.Option(metavar="URL", help=f"The fleet's Redis, {URL_HELP}")] = None,
    prefix: Annotated[
        str, typer.Option(envvar="PICO_REDIS_PREFIX", metavar="NAME", help="The beginning of its keys.")
    ] = "pico",
    as_json: Json = False,
) -> None:
    """
    Show the live rate, the waiting requests and reserved slots of each process, and the token's age.

    The command takes a second, needs no API key, and changes nothing in Redis: a user with `+@read +time ~pico:*` is
    enough. Fleets and tokens are named by the beginning of a digest. The token itself is not read.
    """
    address = FleetAddress.of(redis, prefix)
    if address is None:
        raise ConfigurationError("No Redis address was given: pass --redis URL or set PICO_REDIS_URL.")
    fleets = _read(address)
    if as_json:
        print_json({"fleets": [_as_json(fleet) for fleet in fleets]})
        return
    if not fleets:
        print_line(
            f"There is no fleet: no key in that Redis begins with {printable(prefix)}:{{, so no process sends over it."
        )
        print_line(
            "`pico blast --redis URL` and RedisCoordinator.from_url(URL) do. If their prefix is another, pass --prefix."
        )
    for number, fleet in enumerate(fleets):
        if number:
            print_line()
        _print_fleet(fleet)


def _read(address: FleetAddress) -> tuple[FleetStatus, ...]:
    client = address.client()
    # Imported here, because the rest of the command line works without the extra.
    from pico_async.coordination.redis.client import RedisUnavailableError
    from pico_async.coordination.redis.status import read_fleets

    async def read() -> tuple[FleetStatus, ...]:
        async with client:
            return await read_fleets(client, address.prefix)

    try:
        return asyncio.run(read())
    except RedisUnavailableError as error:
        fault = str(error)
    print_error(f"Redis is not available: {fault}. {hint_for(fault)}")
    raise typer.Exit(1)


def hint_for(fault: str) -> str:
    """Return what to do about a Redis that is not available."""
    return next((hint for word, hint in _HINTS.items() if word in fault), "Does it run, and is the address right?")


def _print_fleet(fleet: FleetStatus) -> None:
    print_line(f"Fleet {fleet.name[:NAME_SHOWN]}")
    for token in fleet.tokens:
        print_line(f"Token {token.name[:NAME_SHOWN]}: {', '.join(_token_state(token))}.")
    if not fleet.rate_groups:
        print_line("No process has sent anything for a minute.")
        return
    print_line()
    print_table(
        ("rate group", "per second", "allowed", "waiting", "reserved ahead", "state"),
        (_rate_group_row(rate_group) for rate_group in fleet.rate_groups),
    )
    print_line()
    print_table(
        ("rate group", "process", "waiting", "reserved", "last request"),
        (
            (rate_group.rate_group, *_member_row(member))
            for rate_group in fleet.rate_groups
            for member in rate_group.members
        ),
    )


def _token_state(token: TokenStatus) -> Iterator[str]:
    if token.age_s is None or token.unused_s is None:
        yield "not stored"
    else:
        yield f"fetched {format_duration(token.age_s)} ago"
        yield f"last used {format_duration(token.unused_s)} ago"
    if token.fetched_by is not None:
        yield f"{printable(token.fetched_by)} is fetching one"


def _rate_group_row(rate_group: RateGroupStatus) -> tuple[object, ...]:
    return (
        rate_group.rate_group,
        f"{rate_group.per_s:.1f}",
        "" if rate_group.allowed_per_s is None else f"{rate_group.allowed_per_s:.1f}",
        f"{rate_group.waiting:,}",
        format_duration(rate_group.ahead_s) if rate_group.ahead_s else "",
        ", ".join(_state(rate_group)),
    )


def _state(rate_group: RateGroupStatus) -> Iterator[str]:
    if rate_group.paused_s:
        yield f"Pico refused: paused for {format_duration(rate_group.paused_s)}"
    if rate_group.slowed_s:
        yield f"slowed to {rate_group.slowed_to:.0%} for {format_duration(rate_group.slowed_s)}"
    if not rate_group.paused_s:
        yield "sending" if rate_group.ahead_s else "idle"


def _member_row(member: MemberStatus) -> tuple[object, ...]:
    return (
        member.name,
        "" if member.silent else f"{member.waiting:,}",
        f"{member.reserved:,}, for {format_duration(member.reserved_for_s)}" if member.reserved else "",
        f"{format_duration(member.asked_ago_s)} ago",
    )


def _as_json(fleet: FleetStatus) -> dict[str, Any]:
    def rounded(_: object, __: object, value: object) -> object:
        return round(value, 3) if isinstance(value, float) else value

    values = attrs.asdict(fleet, value_serializer=rounded)
    for rate_group, source in zip(values["rate_groups"], fleet.rate_groups, strict=True):
        rate_group["waiting"] = source.waiting
    return values
