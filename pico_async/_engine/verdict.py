"""What a reply, or the lack of one, means: the body first, then the status."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias

from attrs import define

from pico_async._engine.endpoints import Request
from pico_async._engine.redaction import echoes, redact
from pico_async._engine.wire import DecodeError, Failure, Reply, parse, request_id
from pico_async.coordination.rates import RateGroup
from pico_async.errors import (
    BadRequestError,
    ConfigurationError,
    ExpectationFailedError,
    NoResponseError,
    NotSentError,
    PicoError,
    RateLimitError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)

# Compiled with the first trouble, and not with the import.
# What lies beyond v0.4's four statuses is not documented there. It is inferred from the framework whose words the
# documented 401 body speaks (RuoYi), in simplified and traditional characters.
# "Too many open files" is no rate, and what fails by it may have been carried out. Nor is a request that is too large,
# or an amount that is used up. The framework's gateway, and Sentinel in it, have words of their own.
_REQUESTS = "(?:请求|請求|访问|訪問|调用|調用)"
_EXCEEDED = "(?:超过|超過|超出|达到|達到)"
_COUNT = "(?:次?[数數]|[频頻速]率)"
_TOO_FREQUENT = "|".join(
    [
        r"(?i)频繁|頻繁|限流|流控|限频|限頻",
        rf"{_REQUESTS}{_COUNT}?[过過太](?:于|於)?[多快高]",
        rf"{_REQUESTS}{_COUNT}?已?{_EXCEEDED}了?最大{_COUNT}(?![据據])",
        rf"{_EXCEEDED}了?最?大?(?:允许|允許)?的?{_REQUESTS}{_COUNT}(?![据據])",
        rf"(?:[频頻]率|速率|qps|tps)已?(?:{_EXCEEDED}|超限|[过過]高)",
        r"too frequent|too many (?:requests|calls|attempts|messages|times|visits)|too many\W*$",
        r"rate[ -]?limit(?:ed\b| (?:was |is |has been )?(?:exceeded|reached|hit))|over (?:the )?rate limit",
        r"(?:^|: )rate exceeded\W*$",
        r"exceed(?:s|ed|ing)? (?:the |your |our )?(?:max(?:imum)? |allowed )?(?:request |call |api |sending )?rate\b",
        r"exceed(?:s|ed|ing)? (?:the |your |our )?(?:max(?:imum)? )?(?:number of )?requests\b",
        r"requests? (?:rate|limit) (?:was |is |has been )?(?:exceeded|reached|too high)",
        r"requests? (?:\w+ )?too (?:fast|quickly|often)|reduce (?:your|the) request rate",
        r"\bthrottl(?:ed|ing)|(?:qps|tps) (?:limit )?exceeded|blocked by sentinel|flow ?exception",
    ]
)
_REPEATED = r"重复提交|重複提交"
_NOTHING_THERE = r"(?i)not found|does not exist|no such|不存在"
_WHO = r"(?i)user|account|key|token|用户|用戶|帐|账|帳"
_MASKED_FAILURE = r"/error/?(?![A-Za-z0-9_./-])"
# These 4xx prove nothing. 408 and 499: a wait ended, and nobody knows whose. 406: Spring finds it after the work.
# 416 and 418 say nothing of a request like ours.
_UNCLEAR = frozenset({406, 408, 416, 418, 499})
# What the others mean is registered (RFC 9110, 15.5, and its like), and it is that the request was not carried out.
_REFUSALS = frozenset(status.value for status in HTTPStatus if 400 <= status < 500) - _UNCLEAR
# RFC 9110, 15.4.8 and 15.4.9: the same request is to be made elsewhere.
_MAKE_ELSEWHERE = (307, 308)
# A reply may hold a megabyte of them.
ERRORS_KEPT = 20
ERRORS_SHOWN = 5


@define(eq=False, repr=False)
class Success:
    """Pico carried out the request. It has no repr, because its payload may be a token."""

    payload: Any


class StaleToken(NamedTuple):
    """The token is not taken any more. Nothing was carried out."""

    error: PicoError


Verdict: TypeAlias = Success | StaleToken | PicoError


def judge(request: Request, reply: Reply, *, secrets: Iterable[str] = ()) -> Verdict:
    """
    Say what a reply means.

    The cases, in this order, but for a plain success, which is told first:
        status 401, or `code` 401    stale token; a masked failure, in doubt, where `msg` names a path ending in /error
        HTTP 429                     rate exceeded
        3xx                          never followed. In doubt, for a server may redirect what it took; misconfigured to
                                     a GET, and where 307 or 308, without a `request_id`, says to ask elsewhere
        no JSON, or over the cap     a gateway's answer: a registered 4xx refused, else in doubt; an empty 2xx to a PUT
                                     or DELETE is success
        `errors`                     the documented refusal with a 2xx or 4xx, of the rate where it says "too frequent";
                                     with another status in doubt
        `code` 500 or 429, the same  rate exceeded, refused before any work
        `code` 500, "repeated"       the same body came within 5 s: refused
        any other `code` but 200     server trouble, in doubt
        2xx                          success; in doubt where a send's `request_id` is missing
        a registered 4xx             refused, but for 406, 408, 416 and 418
        anything else                in doubt

    Args:
        secrets: What must not stand in an error, beside what the request's body says.
    """
    try:
        payload = None if reply.truncated else parse(reply.content, reply.content_type)
    except DecodeError:
        payload = None
    fields = payload if isinstance(payload, dict) else {}
    code = str(fields.get("code")) if fields.get("code") is not None else None
    carried_out = (
        200 <= reply.status < 300 and payload is not None and code in (None, "200") and not fields.get("errors")
    )
    if carried_out and not (request.endpoint.sends and request_id(fields) is None):
        return Success(payload)

    # The address of a receipt may hold a signature.
    ours: dict[str, Any] = {
        "secrets": [*secrets, *_said(request, "callback")],
        "texts": _said(request, "text", "content"),
    }
    told = tuple(_told(fields, partial(redact, **ours)))
    context: dict[str, Any] = {
        "status_code": reply.status,
        "request_id": tellable(request_id(fields), request, secrets=ours["secrets"]),
        "errors": told,
        "retry_after": reply.retry_after,
    }
    said = f": {'; '.join(told[:ERRORS_SHOWN])}" if told else ""

    if reply.status == 401 or code == "401":
        if re.search(_MASKED_FAILURE, str(fields.get("msg", ""))):
            return ServerError(
                f"{request}: Pico failed inside and masked it as a 401. {doubt_about(request)}", **context
            )
        return StaleToken(RejectedError(f"{request}: Pico did not take the token. {_REFUSED}", **context))
    if reply.status == 429:
        return _too_fast(request, f" (HTTP 429){said}", context)
    if 300 <= reply.status < 400:
        return _redirected(request, reply.status, context, took=request_id(fields) is not None)
    if payload is None:
        if _says_nothing(request, reply):
            return Success({})
        return _gateway(request, reply, context)
    if fields.get("errors"):
        refusal = _refused(request, reply.status, said, context, documented=True)
        of_the_rate = isinstance(refusal, RejectedError) and any(re.search(_TOO_FREQUENT, words) for words in told)
        return _too_fast(request, said, context) if of_the_rate else refusal
    if code in ("429", "500") and re.search(_TOO_FREQUENT, str(fields.get("msg", ""))):
        return _too_fast(request, said, context)
    if code == "500" and re.search(_REPEATED, str(fields.get("msg", ""))):
        return RejectedError(
            f"{request}: Pico refused it as a repeat of the same request within 5 s. The earlier one reached Pico; "
            "this one was not carried out.",
            **context,
        )
    if code not in (None, "200"):
        return ServerError(
            f"{request}: Pico had trouble (code {redact(code, **ours)}){said}. {doubt_about(request)}", **context
        )
    if 200 <= reply.status < 300:
        return unexpected(request, "the reply has no `request_id`", **context)
    return _refused(request, reply.status, said, context, documented=False)


def tellable(named: str | None, request: Request, *, secrets: Iterable[str]) -> str | None:
    """Give Pico's name for a request, unless it repeats something of what the request said, or of *secrets*."""
    ours = {
        "secrets": [*secrets, *_said(request, "callback")],
        "texts": _said(request, "text", "content"),
        "numbers": _said(request, "to", "from"),
    }
    return None if named is None or echoes(named, **ours) else named


def judge_failure(request: Request, failure: Failure) -> PicoError:
    """Say what it means that no whole reply came."""
    if failure.sent_nothing:
        return NotSentError(f"{request}: {failure.reason}. Nothing was sent; it is safe to send it again.")
    return NoResponseError(f"{request}: {failure.reason}. {doubt_about(request)}")


def unexpected(request: Request, fault: str, **context: Any) -> UnexpectedResponseError:
    """Make the error of a reply that is neither a refusal nor what the reference promises."""
    return UnexpectedResponseError(f"{request}: {fault}. {doubt_about(request)}", **context)


def found_nothing(request: Request, error: PicoError) -> bool:
    """
    Say whether a refused DELETE only means that there is nothing left to delete.

    How Pico says so is not documented in v0.4.
    """
    if request.endpoint.method != "DELETE":
        return False
    said = any(_says_so(words) for words in error.errors)
    # The framework says so with HTTP 200 and a code, as it says all that goes wrong.
    if isinstance(error, ServerError):
        return error.status_code == 200 and said
    return isinstance(error, RejectedError) and (error.status_code == 404 or said)


def _says_so(words: str) -> bool:
    return bool(re.search(_NOTHING_THERE, words)) and not re.search(_WHO, words)


_REFUSED = "It was not carried out."


def doubt_about(request: Request) -> str:
    """Say what it means that nobody knows, and what to do."""
    if request.endpoint.sends:
        return (
            "The message may have been sent, so it was not repeated. Check the delivery receipt, "
            "or pass retry_in_doubt=True where a double is harmless."
        )
    if request.endpoint.method == "GET":
        return "A GET changes nothing, so it is safe to repeat."
    return "It may have been carried out: look before you repeat it."


def _said(request: Request, *names: str) -> list[str]:
    body = request.body or {}
    return [str(body[name]) for name in names if name in body]


def _says_nothing(request: Request, reply: Reply) -> bool:
    # What an update or a deletion answers is not documented in v0.4; it may be nothing at all.
    changes = request.endpoint.method in ("PUT", "DELETE")
    return changes and 200 <= reply.status < 300 and not reply.content.strip()


def _redirected(request: Request, status: int, context: dict[str, Any], *, took: bool) -> PicoError:
    fault = (
        f"the host redirects (HTTP {status}), and redirects are never followed: they would hand the API key to another "
        "host"
    )
    if request.endpoint.method != "GET" and (took or status not in _MAKE_ELSEWHERE):
        return unexpected(request, f"{fault}. Check `base_url`", **context)
    return ConfigurationError(f"{request}: {fault}. Check `base_url`.", **context)


def _gateway(request: Request, reply: Reply, context: dict[str, Any]) -> PicoError:
    # A gateway's own words are a page of HTML: they help nobody.
    if reply.status in _REFUSALS:
        return RejectedError(f"{request}: a gateway refused it (HTTP {reply.status}). {_REFUSED}", **context)
    if reply.status >= 500:
        return ServerError(f"{request}: a gateway failed (HTTP {reply.status}). {doubt_about(request)}", **context)
    if 200 <= reply.status < 300:
        fault = "is larger than 1 MiB" if reply.truncated else "is not JSON"
        return unexpected(request, f"the reply (HTTP {reply.status}) {fault}", **context)
    return _unclear(request, reply.status, context)


def _refused(request: Request, status: int, said: str, context: dict[str, Any], *, documented: bool) -> PicoError:
    """
    Make the error of a reply that is no success.

    Args:
        documented: It has the documented error body.
    """
    if status >= 500:
        return ServerError(f"{request}: Pico failed (HTTP {status}){said}. {doubt_about(request)}", **context)
    if status not in _REFUSALS and not (documented and status >= 200 and status not in _UNCLEAR):
        return _unclear(request, status, context)
    kind = {400: BadRequestError, 417: ExpectationFailedError}.get(status, RejectedError)
    return kind(f"{request}: Pico refused (HTTP {status}){said}. {_REFUSED}", **context)


def _too_fast(request: Request, said: str, context: dict[str, Any]) -> RateLimitError:
    if request.endpoint.rate_group is RateGroup.TOKEN:
        advice = (
            "Pico gives one token a second, to all processes of an API key together: open one session and keep it; "
            "several processes share a token with RedisCoordinator."
        )
    else:
        advice = "Is another process using this API key, or is a rate of `rates=` too high?"
    return RateLimitError(f"{request}: Pico refused, requests come too fast{said}. {_REFUSED} {advice}", **context)


def _unclear(request: Request, status: int, context: dict[str, Any]) -> PicoError:
    return unexpected(request, f"the reply (HTTP {status}) does not say that it was refused", **context)


def _told(fields: dict[str, Any], redacted: Callable[[str], str]) -> Iterator[str]:
    errors = fields.get("errors") or fields.get("msg") or ()
    for words in errors[:ERRORS_KEPT] if isinstance(errors, list) else [errors]:
        if isinstance(words, str) and words.strip():
            yield redacted(words)
