"""
What goes back over the wire: the reference's bodies, RuoYi's, and those of a proxy in front.

Everything here is pure. A `Reply` also says how the connection ends, since half of what goes wrong on the wire is
not a body.

Source: API reference v0.4, "Errors" and "Authentication". Not documented in v0.4, and marked below: the rate
refusals, `code` 500, HTTP 200 with code 401, HTML.
"""

import json
from enum import Enum, StrEnum, auto
from math import ceil
from typing import Any
from uuid import uuid4

from attrs import evolve, frozen

from pico_async.sandbox.faults import Fault, FaultRule

MIB = 1024 * 1024

# RuoYi's own sentences: too frequent; repeated submission; any other exception.
_TOO_FREQUENT = "访问过于频繁，请稍候再试"  # noqa: RUF001  # as it is on the wire
_REPEATED = "不允许重复提交，请稍候再试"  # noqa: RUF001
_EXCEPTION = "系统异常，请联系管理员"  # noqa: RUF001

Headers = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"content-type", b"application/json"),)
HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"),)


class Dialect(StrEnum):
    """How failures of authentication and of rate look."""

    DOCUMENTED = "documented"
    RUOYI = "ruoyi"


class Ending(Enum):
    """What happens to the connection."""

    REPLY = auto()  # the whole reply, and the connection stays
    DROP = auto()  # closed without a byte (FIN)
    RESET = auto()  # reset without a byte (RST)
    TRUNCATE = auto()  # headers and half of the body, then reset
    REFUSE = auto()  # as if nothing listened; only an in-process transport can show it


@frozen
class Reply:
    """One answer: *hang_s* passes first, then it ends as *ending* says."""

    status: int
    body: bytes
    headers: Headers = JSON
    request_id: str | None = None
    ending: Ending = Ending.REPLY
    hang_s: float = 0.0


def _json(payload: object) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def success(request_id: str | None = None, /, **fields: Any) -> Reply:
    """200 with a request_id, fresh unless given, and *fields*."""
    request_id = request_id or str(uuid4())
    return Reply(200, _json({**fields, "request_id": request_id}), request_id=request_id)


def refusal(*errors: str, status: int = 400, headers: Headers = ()) -> Reply:
    """The documented error body. Source: API reference v0.4, "Error Response Body"."""
    request_id = str(uuid4())
    body = _json({"request_id": request_id, "errors": errors})
    return Reply(status, body, headers=JSON + headers, request_id=request_id)


def unauthorised(path: str, dialect: Dialect) -> Reply:
    """
    The documented 401 body for *path*; in RuoYi's dialect the same under HTTP 200, with `code` a number.

    Source: API reference v0.4, "401 Unauthorized Example"; the 200 is not documented.
    """
    msg = f"請求訪問:{path},驗證失敗,無法訪問系统資源"
    if dialect is Dialect.RUOYI:
        return Reply(200, _json({"msg": msg, "code": 401}))
    return Reply(401, _json({"msg": msg, "code": "401"}))


def trouble(msg: str) -> Reply:
    """RuoYi's answer to any exception: HTTP 200, code 500. Not documented in v0.4."""
    return Reply(200, _json({"msg": msg, "code": 500}))


def rate_refusal(dialect: Dialect, retry_after_s: float | None) -> Reply:
    """
    Too many requests.

    Not documented in v0.4. Own invention in the documented dialect: 429 in the documented error body, with
    Retry-After in whole seconds. RuoYi's has no Retry-After.
    """
    if dialect is Dialect.RUOYI:
        return trouble(_TOO_FREQUENT)
    return refusal("Too many requests.", status=429, headers=_retry_after(retry_after_s))


def repeated_submission() -> Reply:
    """The same body again within RuoYi's interval. Not documented in v0.4."""
    return trouble(_REPEATED)


def _retry_after(seconds: float | None) -> Headers:
    return () if seconds is None else ((b"retry-after", b"%d" % ceil(seconds)),)


def _html(status: int, title: str, headers: Headers = ()) -> Reply:
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), headers=HTML + headers)


_NOTHING = Reply(0, b"", headers=(), ending=Ending.DROP)


def disguise(rule: FaultRule, honest: Reply | None, *, path: str, dialect: Dialect) -> Reply:
    """
    Say what the client sees of a request that *rule* befell.

    *honest* is the reply that it would have got: given for the faults that are carried out, None for the others.
    """
    match rule.fault:
        case Fault.ACCEPT_THEN_DROP | Fault.DROP_BEFORE_ACCEPT:
            return _NOTHING
        case Fault.ACCEPT_THEN_RESET:
            return evolve(_NOTHING, ending=Ending.RESET)
        case Fault.REFUSED_CONNECTION:
            return evolve(_NOTHING, ending=Ending.REFUSE)
        case Fault.HANG_BEFORE_ACCEPT:
            return evolve(_NOTHING, hang_s=rule.delay_s)
        case Fault.ACCEPT_THEN_HANG:
            return evolve(honest or success(), hang_s=rule.delay_s)
        case Fault.TRUNCATED_REPLY:
            return evolve(honest or success(), ending=Ending.TRUNCATE)
        case Fault.BAD_GATEWAY_BEFORE | Fault.BAD_GATEWAY_AFTER:
            return _html(502, "502 Bad Gateway")
        case Fault.UNAVAILABLE:
            return _html(503, "503 Service Temporarily Unavailable", _retry_after(rule.retry_after_s))
        case Fault.RATE_LIMITED:
            return rate_refusal(dialect, rule.retry_after_s)
        case Fault.SERVER_TROUBLE_BEFORE | Fault.SERVER_TROUBLE_AFTER:
            return trouble(_EXCEPTION)
        case Fault.MASKED_ERROR:
            return unauthorised("/error", dialect)
        case Fault.STALE_TOKEN:
            return unauthorised(path, dialect)
        case Fault.NO_REQUEST_ID:
            return Reply(200, b"{}")
        case Fault.GARBAGE_REPLY:
            return Reply(200, b'\xff{"request_id": ')
        case Fault.OVERSIZED_REPLY:
            return success(honest.request_id if honest else None, padding="x" * (MIB + 1))
        case Fault.REDIRECT:
            return Reply(302, b"", headers=((b"location", b"https://elsewhere.invalid" + path.encode()),))
        case Fault.BAD_REQUEST:
            return refusal("Refused on request by the sandbox.")
        case Fault.EXPECTATION_FAILED:
            return refusal("Expectation failed on request by the sandbox.", status=417)
        case Fault.DUPLICATE_SUPPRESSED:
            return repeated_submission()
