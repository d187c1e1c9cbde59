"""
The sandbox's remote control, for a test or a benchmark in another process.

Own invention throughout. These paths need no key and no token, meet no fault and no rate, and are not arrivals:

    GET    /_sandbox/                 what this is, as text
    GET    /_sandbox/ledger?since=N   arrivals from number N on (0: all), with the messages that they brought
    POST   /_sandbox/expire-tokens    every token is stale from now on
    POST   /_sandbox/faults           one rule or a list of them: the fields of `FaultRule`, as JSON
    DELETE /_sandbox/faults           drop the rules
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anyio.lowlevel
from attrs import fields
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from pico_async.sandbox.banner import BANNER
from pico_async.sandbox.body import BodyError, read_json, refuse
from pico_async.sandbox.faults import FaultRule, Faults
from pico_async.sandbox.ledger import Arrival, Ledger, Message
from pico_async.sandbox.settings import Dials
from pico_async.sandbox.state import Cloud

_CHUNK = 500


def control_routes(cloud: Cloud, ledger: Ledger, faults: Faults, dials: Dials) -> list[BaseRoute]:
    """Make the routes under /_sandbox/ for one sandbox's parts."""

    async def show_banner(request: Request) -> Response:
        return PlainTextResponse(BANNER)

    async def show_ledger(request: Request) -> Response:
        try:
            since = int(request.query_params.get("since", "0"))
        except ValueError:
            since = -1
        if since < 0:
            return refuse("since: the number of an arrival, from 0.")
        return StreamingResponse(_dump(ledger, since), media_type="application/json")

    async def expire_tokens(request: Request) -> Response:
        cloud.tokens.expire_all()
        return JSONResponse({"expired": True})

    async def inject_faults(request: Request) -> Response:
        try:
            rules = read_rules(await read_json(request))
        except BodyError as error:
            return refuse(str(error), error.status)
        except (TypeError, ValueError, OverflowError) as error:
            return refuse(str(error))
        for rule in rules:
            faults.inject(rule)
        dials.changes += 1
        return JSONResponse({"injected": len(rules)})

    async def clear_faults(request: Request) -> Response:
        faults.clear()
        dials.changes += 1
        return JSONResponse({"cleared": True})

    return [
        Route("/_sandbox/", show_banner),
        Route("/_sandbox/ledger", show_ledger),
        Route("/_sandbox/expire-tokens", expire_tokens, methods=["POST"]),
        Route("/_sandbox/faults", inject_faults, methods=["POST"]),
        Route("/_sandbox/faults", clear_faults, methods=["DELETE"]),
    ]


def read_rules(payload: object) -> list[FaultRule]:
    """Make rules from JSON, one object or a list of them; ValueError or TypeError for what makes none."""
    rules = []
    for item in payload if isinstance(payload, list) else [payload]:
        if not isinstance(item, dict):
            raise TypeError("A rule is an object with at least a fault, or a list of such objects.")
        if not isinstance(item.get("to"), str | None):
            raise TypeError("to: a number, as a string of digits.")
        rules.append(FaultRule(**item))
    return rules


async def _dump(ledger: Ledger, since: int) -> AsyncIterator[str]:
    # 100,000 arrivals take a good second to write: in pieces, or every other request would stand still meanwhile.
    arrivals, accepted = ledger.arrivals[since:], ledger.accepted[ledger.accepted_since(since) :]
    head = {
        "counts": ledger.counts(),
        "token_requests": ledger.token_requests,
        "refusals": ledger.refusals,
        "total_arrivals": len(ledger.arrivals),
        "total_accepted": len(ledger.accepted),
        "since": since,
    }
    yield json.dumps(head)[:-1]
    for name, entries in (("arrivals", arrivals), ("accepted", accepted)):
        yield f', "{name}": ['
        for piece in _pieces(entries):
            yield piece
            await anyio.lowlevel.checkpoint()
        yield "]"
    yield "}"


def _pieces(entries: Sequence[Arrival] | Sequence[Message]) -> Iterator[str]:
    for first in range(0, len(entries), _CHUNK):
        rows = [json.dumps(_row(entry)) for entry in entries[first : first + _CHUNK]]
        yield ("," if first else "") + ",".join(rows)


def _row(entry: Arrival | Message) -> dict[str, Any]:
    return {attribute.name: getattr(entry, attribute.name) for attribute in fields(type(entry))}
