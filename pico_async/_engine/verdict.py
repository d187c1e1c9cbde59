"""Judge what a reply, or a failure without a reply, means: by the body first, then by the status."""

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
    AuthenticationError,
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

# v0.4 documents four statuses. The other cases are inferred from RuoYi, the framework whose text is in the documented
# 401 body. Its messages come in simplified and traditional characters; its gateway, and Sentinel in it, add their own.
# "Too many open files" is not about a rate, and such a request may have been carried out. Nor is a request that is too
# large, or a used-up quota.
_REQUESTS = "(?:请求|請求|访问|訪問|调用|調用)"
_EXCEEDED = "(?:超过|超過|超出|达到|達到)"
_COUNT = "(?:次?[数數]|[频頻速]率)"
_RATE_TEXTS = (
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
)
_TOO_FREQUENT = re.compile("|".join(_RATE_TEXTS))
_REPEATED = re.compile(r"重复提交|重複提交")
_NOT_FOUND = re.compile(r"(?i)not found|does not exist|no such|不存在")
_ABOUT_THE_CALLER = re.compile(r"(?i)user|account|key|token|用户|用戶|帐|账|帳")
_MASKED_FAILURE = re.compile(r"/error/?(?![A-Za-z0-9_./-])")
# These 4xx do not prove a refusal. 408 and 499: some server's wait ended. 406: Spring notices it after the work.
# 416 and 418 do not apply to such requests.
_UNCLEAR = frozenset({406, 408, 416, 418, 499})
# The other registered 4xx (RFC 9110, 15.5, and others) mean that the request was not carried out.
_REFUSALS = frozenset(status.value for status in HTTPStatus if 400 <= status < 500) - _UNCLEAR
# RFC 9110, 15.4.8 and 15.4.9: send the same request to another address.
_SEND_ELSEWHERE = (307, 308)
# A reply may contain a megabyte of them.
ERRORS_KEPT = 20
ERRORS_SHOWN = 5


@define(eq=False, repr=False)
class Success:
    """Pico carried out the request. It has no repr, because its payload may be a token."""

    payload: Any


class StaleToken(NamedTuple):
    """Pico refused the token. Nothing was carried out."""

    error: PicoError


Verdict: TypeAlias = Success | StaleToken | PicoError


def judge(request: Request, reply: Reply, *, secrets: Iterable[str] = ()) -> Verdict:
    """
    Return what a reply means.

    The cases, in this order, after a plain success:

        status or `code` 401          stale token; in doubt if `msg` names a path ending in /error (a masked failure)
        HTTP 429                      rate exceeded
        3xx to a GET                  misconfigured; a redirect is never followed
        307, 308 without request_id   misconfigured
        other 3xx                     in doubt, because a server may redirect after it carried out the request
        empty 2xx to PUT, DELETE      success
        no JSON, or over 1 MiB        a gateway's reply: a registered 4xx is a refusal, others are in doubt
        `errors` with 2xx or 4xx      the documented refusal; rate exceeded if the text says so
        `errors` with another status  in doubt
        `code` 429 or 500             rate exceeded if `msg` says so: refused before any work
        `code` 500, "repeated"        refused: the same body came within 5 s
        any other `code` but 200      server failure, in doubt
        2xx                           success; in doubt if the `request_id` of a send is missing
        a registered 4xx              refused, except for 406, 408, 416 and 418
        anything else                 in doubt

    Args:
        secrets: Strings that no error may contain, besides those of the request's body.
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

    # A callback URL may contain a signature.
    sensitive: dict[str, Any] = {
        "secrets": [*secrets, *_said(request, "callback")],
        "texts": _said(request, "text", "content"),
    }
    errors = tuple(_errors(fields, partial(redact, **sensitive)))
    context: dict[str, Any] = {
        "status_code": reply.status,
        "request_id": shareable(request_id(fields), request, secrets=sensitive["secrets"]),
        "errors": errors,
        "retry_after": reply.retry_after,
    }
    said = f": {'; '.join(errors[:ERRORS_SHOWN])}" if errors else ""

    if reply.status == 401 or code == "401":
        if _MASKED_FAILURE.search(str(fields.get("msg", ""))):
            return ServerError(
                f"{request}: Pico failed inside and masked it as a 401. {doubt_about(request)}", **context
            )
        return StaleToken(RejectedError(f"{request}: Pico did not take the token. {_REFUSED}", **context))
    if reply.status == 429:
        return _too_fast(request, f" (HTTP 429){said}", context)
    if 300 <= reply.status < 400:
        return _redirected(request, reply.status, context, took=request_id(fields) is not None)
    if payload is None:
        # The body of a reply to an update or a deletion is not documented in v0.4. It may be empty.
        if request.endpoint.method in ("PUT", "DELETE") and 200 <= reply.status < 300 and not reply.content.strip():
            return Success({})
        return _gateway(request, reply, context)
    if fields.get("errors"):
        refusal = _refused(request, reply.status, said, context, documented=True)
        is_rate = isinstance(refusal, RejectedError) and any(_TOO_FREQUENT.search(error) for error in errors)
        return _too_fast(request, said, context) if is_rate else refusal
    if code in ("429", "500") and _TOO_FREQUENT.search(str(fields.get("msg", ""))):
        return _too_fast(request, said, context)
    if code == "500" and _REPEATED.search(str(fields.get("msg", ""))):
        return RejectedError(
            f"{request}: Pico refused it as a repeat of the same request within 5 s. The earlier one reached Pico; "
            "this one was not carried out.",
            **context,
        )
    if code not in (None, "200"):
        return ServerError(
            f"{request}: Pico had trouble (code {redact(code, **sensitive)}){said}. {doubt_about(request)}", **context
        )
    if 200 <= reply.status < 300:
        return unexpected(request, "the reply has no `request_id`", **context)
    return _refused(request, reply.status, said, context, documented=False)


def shareable(named: str | None, request: Request, *, secrets: Iterable[str]) -> str | None:
    """Return Pico's ID of a request, or None if it repeats a part of the request's content or of *secrets*."""
    sensitive = {
        "secrets": [*secrets, *_said(request, "callback")],
        "texts": _said(request, "text", "content"),
        "numbers": _said(request, "to", "from"),
    }
    return None if named is None or echoes(named, **sensitive) else named


def judge_failure(request: Request, failure: Failure) -> PicoError:
    """Return the error of a request without a complete reply."""
    if failure.sent_nothing:
        return NotSentError(f"{request}: {failure.reason}. Nothing was sent; it is safe to send it again.")
    return NoResponseError(f"{request}: {failure.reason}. {doubt_about(request)}")


def without_token(request: Request, cause: PicoError) -> PicoError:
    """Return the error of a request for which no token could be fetched."""
    if isinstance(cause, ConfigurationError):
        return cause
    refused = isinstance(cause, RejectedError) and not isinstance(cause, RateLimitError)
    fault = "Pico gave no token, check the username and the API key" if refused else "there is no token to send it with"
    return (AuthenticationError if refused else NotSentError)(
        f"{request}: {fault}. Nothing was sent. ({cause})",
        status_code=cause.status_code,
        request_id=cause.request_id,
        errors=cause.errors,
        retry_after=cause.retry_after,
    )


def call_ended(request: Request) -> NotSentError:
    """Return the error of a request that was ended while it waited."""
    return NotSentError(f"{request}: the call was ended, or its session closed, while it waited. Nothing was sent.")


def unexpected(request: Request, fault: str, **context: Any) -> UnexpectedResponseError:
    """Return the error of a reply that is neither a refusal nor what the reference promises."""
    return UnexpectedResponseError(f"{request}: {fault}. {doubt_about(request)}", **context)


def found_nothing(request: Request, error: PicoError) -> bool:
    """
    Return whether a refused DELETE only means that there is nothing to delete.

    How Pico reports that is not documented in v0.4.
    """
    if request.endpoint.method != "DELETE":
        return False
    said = any(_NOT_FOUND.search(text) and not _ABOUT_THE_CALLER.search(text) for text in error.errors)
    # The framework reports it with HTTP 200 and a code, as all failures.
    if isinstance(error, ServerError):
        return error.status_code == 200 and said
    return isinstance(error, RejectedError) and (error.status_code == 404 or said)


_REFUSED = "It was not carried out."


def doubt_about(request: Request) -> str:
    """Return what an unknown outcome means for the caller, and what to do."""
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


def _redirected(request: Request, status: int, context: dict[str, Any], *, took: bool) -> PicoError:
    fault = (
        f"the host redirects (HTTP {status}), and redirects are never followed: they would hand the API key to another "
        "host"
    )
    if request.endpoint.method != "GET" and (took or status not in _SEND_ELSEWHERE):
        return unexpected(request, f"{fault}. Check `base_url`", **context)
    return ConfigurationError(f"{request}: {fault}. Check `base_url`.", **context)


def _gateway(request: Request, reply: Reply, context: dict[str, Any]) -> PicoError:
    # A gateway's text is a page of HTML, so it is not shown.
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
    Return the error of a reply that is not a success.

    Args:
        documented: The reply has the documented error body.
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


def _errors(fields: dict[str, Any], redacted: Callable[[str], str]) -> Iterator[str]:
    errors = fields.get("errors") or fields.get("msg") or ()
    for text in errors[:ERRORS_KEPT] if isinstance(errors, list) else [errors]:
        if isinstance(text, str) and text.strip():
            yield redacted(text)
