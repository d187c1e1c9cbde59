"""
Replies: the reference's bodies, RuoYi's, and those of a proxy in front of Pico.

Everything here is pure. A `Reply` also has the ending of its connection, because many faults are no bodies.

Source: API reference v0.4, "Errors" and "Authentication". Not documented in v0.4, and marked below: the rate refusals,
`code` 500, HTTP 200 with code 401, HTML.
"""

import json
from enum import Enum, auto
from math import ceil
from typing import Any
from uuid import uuid4

from attrs import evolve, frozen

from pico_async.sandbox.checks import Choice
from pico_async.sandbox.faults import Fault, FaultRule

MIB = 1024 * 1024

# RuoYi's own messages: too frequent; repeated submission; any other exception.
_TOO_FREQUENT = "访问过于频繁，请稍候再试"  # noqa: RUF001  # as it is on the wire
_REPEATED = "不允许重复提交，请稍候再试"  # noqa: RUF001
_EXCEPTION = "系统异常，请联系管理员"  # noqa: RUF001

Headers = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"content-type", b"application/json"),)
HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"),)


class Dialect(Choice):
    """Form of the replies to failures of authentication and rate."""

    DOCUMENTED = "documented"
    RUOYI = "ruoyi"


class Ending(Enum):
    """What happens to the connection of a reply."""

    REPLY = auto()  # the whole reply; the connection stays open
    DROP = auto()  # closed without a byte (FIN)
    RESET = auto()  # reset without a byte (RST)
    TRUNCATE = auto()  # headers and half of the body, then reset
    REFUSE = auto()  # as if no server listened; only an in-process transport can show it


@frozen
class Reply:
    """One reply. It is sent after *hang_s* seconds, and its connection ends with *ending*."""

    status: int
    body: bytes
    headers: Headers = JSON
    request_id: str | None = None
    ending: Ending = Ending.REPLY
    hang_s: float = 0.0


def _json(payload: object) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def success(request_id: str | None = None, /, **fields: Any) -> Reply:
    """Return a 200 with *fields* and a request_id, by default a new one."""
    request_id = request_id or str(uuid4())
    return Reply(200, _json({**fields, "request_id": request_id}), request_id=request_id)


def refusal(*errors: str, status: int = 400, headers: Headers = ()) -> Reply:
    """Return the documented error body. Source: API reference v0.4, "Error Response Body"."""
    request_id = str(uuid4())
    body = _json({"request_id": request_id, "errors": errors})
    return Reply(status, body, headers=JSON + headers, request_id=request_id)


def unauthorised(path: str, dialect: Dialect) -> Reply:
    """
    Return the documented 401 body for *path*; in RuoYi's dialect under HTTP 200, with a number as `code`.

    Source: API reference v0.4, "401 Unauthorized Example"; the 200 is not documented.
    """
    msg = f"請求訪問:{path},驗證失敗,無法訪問系统資源"
    if dialect is Dialect.RUOYI:
        return Reply(200, _json({"msg": msg, "code": 401}))
    return Reply(401, _json({"msg": msg, "code": "401"}))


def server_error(msg: str) -> Reply:
    """Return RuoYi's reply to any exception: HTTP 200 with code 500. Not documented in v0.4."""
    return Reply(200, _json({"msg": msg, "code": 500}))


def rate_refusal(dialect: Dialect, retry_after_s: float | None) -> Reply:
    """
    Return the reply to a request beyond the rate.

    Not documented in v0.4. In the documented dialect it is an invention: 429 in the documented error body, with
    Retry-After in whole seconds. RuoYi's reply has no Retry-After.
    """
    if dialect is Dialect.RUOYI:
        return server_error(_TOO_FREQUENT)
    return refusal("Too many requests.", status=429, headers=_retry_after(retry_after_s))


def repeated_submission() -> Reply:
    """Return RuoYi's reply to the same body again within its interval. Not documented in v0.4."""
    return server_error(_REPEATED)


def _retry_after(seconds: float | None) -> Headers:
    return () if seconds is None else ((b"retry-after", b"%d" % ceil(seconds)),)


def _html(status: int, title: str, headers: Headers = ()) -> Reply:
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), headers=HTML + headers)


_NO_REPLY = Reply(0, b"", headers=(), ending=Ending.DROP)


def faulty_reply(rule: FaultRule, true_reply: Reply | None, *, path: str, dialect: Dialect) -> Reply:
    """
    Return the reply to a request that *rule* struck.

    *true_reply* is the reply without the fault. It is None for a fault that prevents the request.
    """
    match rule.fault:
        case Fault.ACCEPT_THEN_DROP | Fault.DROP_BEFORE_ACCEPT:
            return _NO_REPLY
        case Fault.ACCEPT_THEN_RESET:
            return evolve(_NO_REPLY, ending=Ending.RESET)
        case Fault.REFUSED_CONNECTION:
            return evolve(_NO_REPLY, ending=Ending.REFUSE)
        case Fault.HANG_BEFORE_ACCEPT:
            return evolve(_NO_REPLY, hang_s=rule.delay_s)
        case Fault.ACCEPT_THEN_HANG:
            return evolve(true_reply or success(), hang_s=rule.delay_s)
        case Fault.TRUNCATED_REPLY:
            return evolve(true_reply or success(), ending=Ending.TRUNCATE)
        case Fault.BAD_GATEWAY_BEFORE | Fault.BAD_GATEWAY_AFTER:
            return _html(502, "502 Bad Gateway")
        case Fault.UNAVAILABLE:
            return _html(503, "503 Service Temporarily Unavailable", _retry_after(rule.retry_after_s))
        case Fault.RATE_LIMITED:
            return rate_refusal(dialect, rule.retry_after_s)
        case Fault.SERVER_TROUBLE_BEFORE | Fault.SERVER_TROUBLE_AFTER:
            return server_error(_EXCEPTION)
        case Fault.MASKED_ERROR:
            return unauthorised("/error", dialect)
        case Fault.STALE_TOKEN:
            return unauthorised(path, dialect)
        case Fault.NO_REQUEST_ID:
            return Reply(200, b"{}")
        case Fault.GARBAGE_REPLY:
            return Reply(200, b'\xff{"request_id": ')
        case Fault.OVERSIZED_REPLY:
            return success(true_reply.request_id if true_reply else None, padding="x" * (MIB + 1))
        case Fault.REDIRECT:
            return Reply(302, b"", headers=((b"location", b"https://elsewhere.invalid" + path.encode()),))
        case Fault.BAD_REQUEST:
            return refusal("Refused on request by the sandbox.")
        case Fault.EXPECTATION_FAILED:
            return refusal("Expectation failed on request by the sandbox.", status=417)
        case Fault.DUPLICATE_SUPPRESSED:
            return repeated_submission()
