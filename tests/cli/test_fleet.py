"""`pico fleet status` shows a fleet to users who may read its Redis, and never shows a secret."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from attrs import frozen
from redis.asyncio import Redis

from pico_async.coordination.rates import spacing_s
from pico_async.coordination.redis.status import read_fleets
from tests.cli.blast.test_redis import PASSWORD
from tests.support.fleet_schedule import begin_schedules
from tests.support.pico_command import TEXT, Ran, people, running
from tests.support.sandbox_process import KEY, sandbox_process
from tests.support.valkey_server import valkey_server
from tests.support.waiting import wait_until

Pico = Callable[..., Ran]


@frozen(kw_only=True)
class Fleet:
    """
    A fleet of one blast that is still sending.

    Attributes:
        url: The address of the fleet's Redis, as a user with all rights.
        reader: The same address, as a user who may only read.
        outsider: The same address, as a user without the rights that the command needs.
        secrets: The values that no output may contain.
        process: The host name and process ID of the blast.
    """

    url: str
    reader: str
    outsider: str
    secrets: tuple[str, ...]
    process: str


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run one fleet for all tests that use its status."""
    with ExitStack() as held:
        server = held.enter_context(valkey_server())
        sandbox = held.enter_context(sandbox_process("--rate-rule=none", api_key=KEY))
        client = held.enter_context(server.client())
        begin_schedules(client, KEY, sandbox.base_url)
        for user, rights in (("reader", ("+@read", "+time")), ("outsider", ("+get",))):
            client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}", "~pico:*", "-@all", *rights)
        path: Path = tmp_path_factory.mktemp("fleet") / "people.csv"
        path.write_text("\n".join(["phone,code", *(f"{to},{code}" for to, code in people(3000))]))
        blast = held.enter_context(
            running("blast", path, "--text", TEXT, "--no-progress", "--redis", server.url, env=sandbox.env)
        )
        wait_until(lambda: len(sandbox.accepted()) > 10)
        token = next(client.hget(key, "value") for key in client.scan_iter("pico:{*}:token:*") if b":lock" not in key)
        yield Fleet(
            url=server.url,
            reader=server.url.replace("unix://", f"unix://reader:{PASSWORD}@"),
            outsider=server.url.replace("unix://", f"unix://outsider:{PASSWORD}@"),
            secrets=(PASSWORD, KEY, token.decode()),
            process=f"{socket.gethostname()}:{blast.pid}",
        )


@pytest.mark.usefixtures("short_look")
def test_a_reader_sees_who_sends_and_how_fast(pico_here: Pico, fleet: Fleet) -> None:
    """
    A user who may only read sees the token's age, each rate group's rate and its processes. No API key is needed, and
    no secret is printed.
    """
    ran = pico_here("fleet", "status", "--redis", fleet.reader)

    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert re.fullmatch(r"Fleet [0-9a-f]{8}", lines[0])
    assert re.fullmatch(r"Token [0-9a-f]{8}: fetched \d+\.\d s ago, last used \d+\.\d s ago\.", lines[1])
    assert any(re.fullmatch(r"sms +[\d.]+ +29\.0 +\d+ .* sending *", line) for line in lines)
    assert any(re.match(rf"sms +{re.escape(fleet.process)} +\d+ .*\d s ago", line) for line in lines)
    assert not any(secret in ran.out for secret in fleet.secrets)


def test_programs_get_the_same_as_json(pico_here: Pico, fleet: Fleet) -> None:
    """The JSON holds the same status: the allowed rate of the rate group, and the slots that its member reserved."""
    ran = pico_here("fleet", "status", "--json", env={"PICO_REDIS_URL": fleet.url})

    (shown,) = ran.json["fleets"]
    (sms,) = (rate_group for rate_group in shown["rate_groups"] if rate_group["rate_group"] == "sms")
    (member,) = sms["members"]
    (token,) = shown["tokens"]
    assert 0 < sms["per_s"] <= 31
    assert sms["allowed_per_s"] == pytest.approx(1 / spacing_s(30), abs=0.01)
    assert sms["granted"] > 10
    assert (sms["paused_s"], sms["slowed_s"], sms["slowed_to"]) == (0, 0, 1)
    assert member["name"] == fleet.process
    assert sms["waiting"] == member["waiting"] > 0
    assert (member["reserved"] > 0) == (member["reserved_for_s"] > 0)
    assert token["there"] is True
    assert token["age_s"] > 0
    assert token["fetched_by"] is None
    assert not any(secret in ran.out for secret in fleet.secrets)


async def test_what_a_process_holds_is_seen_while_it_holds_it(fleet: Fleet) -> None:
    """
    The slots that a blast has reserved are visible. The test reads repeatedly, because at some moments the blast holds
    none.
    """
    async with Redis.from_url(fleet.url) as client:
        for _ in range(500):
            (found,) = await read_fleets(client, over_s=0.02)
            (sms,) = (rate_group for rate_group in found.rate_groups if rate_group.rate_group == "sms")
            (member,) = sms.members
            if member.reserved:
                break

    assert member.name == fleet.process
    assert 1 <= member.reserved <= 12
    assert 0 < member.reserved_for_s <= sms.ahead_s < 1


@pytest.mark.usefixtures("short_look")
def test_a_refusal_and_a_fetch_are_shown(pico_here: Pico, fleet: Fleet) -> None:
    """
    After a refusal, the status shows the pause first and then the lower rate. While a first token is fetched, it names
    the fetching process. The test writes that state to Redis itself.
    """
    root = f"refused:{{{'0f' * 16}}}"
    with redis.Redis.from_url(fleet.url) as client:
        seconds, _ = client.time()
        now = seconds * 1_000_000
        refused = {"resume": now + 50_000_000, "recover": now + 80_000_000, "slowed_to": 0.8}
        schedule = {"name": now, "granted": 30, "tat": now, "spacing": 50_000} | refused
        client.hset(f"{root}:pace:sms", mapping=schedule)
        client.zadd(f"{root}:pace:sms:members", {"m1": now - 9_000_000})
        client.hset(f"{root}:pace:sms:about", mapping={"m1": f"web-1:42 7 0 {now}"})
        client.set(f"{root}:token:{'1e' * 16}:lock", "m1")

    ran = pico_here("fleet", "status", "--redis", fleet.url, "--prefix", "refused")

    lines = ran.out.splitlines()
    assert lines[:2] == ["Fleet 0f0f0f0f", "Token 1e1e1e1e: not stored, web-1:42 is fetching one."]
    assert re.fullmatch(r"sms +0\.0 +16\.0 +7 +Pico refused: paused for 4\d\.\d s, slowed to 80% for 1 min *", lines[4])
    assert re.fullmatch(r"sms +web-1:42 +7 +\d+\.\d s ago *", lines[7])


def test_a_user_who_may_not_read_sees_which_rights_are_missing(pico_here: Pico, fleet: Fleet) -> None:
    """
    A user without the right to read, or an unknown user, gets one error line with the missing rights or the likely
    cause.
    """
    may_not = pico_here("fleet", "status", "--redis", fleet.outsider)
    unknown = pico_here("fleet", "status", "--redis", fleet.outsider.replace("outsider", "unknown"))

    assert may_not.code == unknown.code == 1
    assert re.fullmatch(
        r"error: Redis is not available: NoPermission.*\+@read \+time and ~pico:\* there\.\n", may_not.err
    )
    assert re.fullmatch(r"error: Redis is not available: Auth.* Are its user and password right\?\n", unknown.err)
    assert may_not.out == unknown.out == ""


def test_a_redis_that_is_away_is_one_line(pico_here: Pico) -> None:
    """A Redis that is not reachable gives one error line and exit code 1, which a health check can use."""
    ran = pico_here("fleet", "status", "--redis", f"redis://me:{PASSWORD}@127.0.0.1:1")

    expected = "error: Redis is not available: ConnectionError. Does it run, and is the address right?\n"
    assert ran == Ran(1, "", expected)


def test_without_a_fleet_the_searched_keys_are_named(pico_here: Pico, fleet: Fleet) -> None:
    """
    A Redis without a fleet of that prefix is no error: the output names the keys that were searched, and the JSON has
    an empty list.
    """
    ran = pico_here("fleet", "status", "--redis", fleet.url, "--prefix", "[p]ico")
    as_json = pico_here("fleet", "status", "--redis", fleet.url, "--prefix", "pic", "--json")

    assert ran.code == as_json.code == 0
    assert "no key in that Redis begins with [p]ico:{" in ran.out
    assert "pass --prefix" in ran.out
    assert as_json.json == {"fleets": []}


def test_without_an_address_the_option_and_the_variable_are_named(pico_here: Pico) -> None:
    """
    Without a Redis address, the error names the option and the variable. A wrong address gives an error without its
    password.
    """
    none = pico_here("fleet", "status")
    wrong = pico_here("fleet", "status", "--redis", f"http://me:{PASSWORD}@localhost")

    assert none == Ran(2, "", "error: No Redis address was given: pass --redis URL or set PICO_REDIS_URL.\n")
    assert wrong.code == 2
    assert "This is no address of a Redis" in wrong.err
    assert PASSWORD not in wrong.err
