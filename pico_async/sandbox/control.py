"""
Control routes, for a test or a benchmark in another process.

Own invention throughout. These routes need no key and no token, meet no fault and no rate, and are not recorded as
arrivals:

| route | effect |
|---|---|
| GET /_sandbox/ | returns the banner |
| GET /_sandbox/ledger?since=N | returns arrivals from number N on (0: all), with their messages |
| POST /_sandbox/expire-tokens | makes every token stale |
| POST /_sandbox/faults | injects one rule or a list of them: the fields of `FaultRule`, as JSON |
| DELETE /_sandbox/faults | removes the injected rules and the chance of faults |
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence

import anyio.lowlevel
from attrs import asdict
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from pico_async.sandbox.banner import BANNER
from pico_async.sandbox.body import BodyError, read_json, refuse
from pico_async.sandbox.faults import FaultRule, Faults
from pico_async.sandbox.ledger import Arrival, Ledger, Message
from pico_async.sandbox.settings import Settings
from pico_async.sandbox.state import Cloud

_CHUNK = 500


def control_routes(cloud: Cloud, ledger: Ledger, faults: Faults, settings: Settings) -> list[BaseRoute]:
    """Return the control routes for one sandbox."""

    async def show_banner(request: Request) -> Response:
        return PlainTextResponse(BANNER)

    async def show_ledger(request: Request) -> Response:
        try:
            since = int(request.query_params.get("since", "0"))
        except ValueError:
            since = -1
        if since < 0:
            return refuse("since: pass the number of an arrival, from 0.")
        return StreamingResponse(_dump(ledger, since), media_type="application/json")

    async def expire_tokens(request: Request) -> Response:
        cloud.tokens.expire_all()
        return JSONResponse({"expired": True})

    async def inject_faults(request: Request) -> Response:
        try:
            rules = parse_rules(await read_json(request))
        except BodyError as error:
            return refuse(str(error), error.status)
        except (TypeError, ValueError, OverflowError) as error:
            return refuse(str(error))
        for rule in rules:
            faults.inject(rule)
        settings.version += 1
        return JSONResponse({"injected": len(rules)})

    async def clear_faults(request: Request) -> Response:
        faults.clear()
        settings.version += 1
        return JSONResponse({"cleared": True})

    return [
        Route("/_sandbox/", show_banner),
        Route("/_sandbox/ledger", show_ledger),
        Route("/_sandbox/expire-tokens", expire_tokens, methods=["POST"]),
        Route("/_sandbox/faults", inject_faults, methods=["POST"]),
        Route("/_sandbox/faults", clear_faults, methods=["DELETE"]),
    ]


def parse_rules(payload: object) -> list[FaultRule]:
    """Return the rules in one JSON object or a list of them; raise ValueError or TypeError for a wrong one."""
    rules = []
    for item in payload if isinstance(payload, list) else [payload]:
        if not isinstance(item, dict):
            raise TypeError("Pass a rule, an object with at least a fault, or a list of rules.")
        if not isinstance(item.get("to"), str | None):
            raise TypeError("to: pass a number as a string of digits.")
        rules.append(FaultRule(**item))
    return rules


async def _dump(ledger: Ledger, since: int) -> AsyncIterator[str]:
    # Writing 100,000 arrivals takes over a second. It is done in chunks, so that other requests are served meanwhile.
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
        for chunk in _chunks(entries):
            yield chunk
            await anyio.lowlevel.checkpoint()
        yield "]"
    yield "}"


def _chunks(entries: Sequence[Arrival] | Sequence[Message]) -> Iterator[str]:
    for first in range(0, len(entries), _CHUNK):
        rows = [json.dumps(asdict(entry, recurse=False)) for entry in entries[first : first + _CHUNK]]
        yield ("," if first else "") + ",".join(rows)
