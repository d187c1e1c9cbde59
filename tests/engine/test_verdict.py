"""These tests check how each kind of reply is judged, in both error formats, and that no error shows a secret."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pico_async._engine.endpoints import (
    CREATE_CAMPAIGN,
    CREATE_SMS_TEMPLATE,
    DELETE_CAMPAIGN,
    GET_BALANCE,
    GET_TOKEN,
    LIST_CAMPAIGNS,
    UPDATE_CAMPAIGN,
    Request,
)
from pico_async._engine.verdict import StaleToken, Success, found_nothing, judge, judge_failure, unexpected
from pico_async._engine.wire import Account, Failure, Reply, send_request
from pico_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ExpectationFailedError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoError,
    RateLimitError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)
from pico_async.messages import MmsMessage, SmsMessage, VoiceMessage
from tests.support.reference import replies
from tests.support.reference.replies import REQUEST_ID, framework
from tests.support.reference.requests import API_KEY, TOKEN

ACCOUNT = Account("user333", sender="8612345678888")
NUMBER = "8612345678901"
TEXT = "Your verification code is 1234"


def sms(text: str = TEXT) -> Request:
    return send_request(SmsMessage(NUMBER, text), ACCOUNT)


SEND = sms()
SEND_MMS = send_request(MmsMessage(NUMBER, "https://example.com/image.jpg"), ACCOUNT)
SEND_VOICE = send_request(VoiceMessage(NUMBER, TEXT), ACCOUNT)
TOKEN_REQUEST = Request(GET_TOKEN, "/token/user333")
GET = Request(GET_BALANCE, "/balance/user333")
LIST = Request(LIST_CAMPAIGNS, "/campaigns")
CREATE = Request(CREATE_CAMPAIGN, "/campaign", body={"username": "user333", "name": "Campaign"})
PUT = Request(UPDATE_CAMPAIGN, "/campaign/campaign-123", body={"name": "Updated Campaign"})
DELETE = Request(DELETE_CAMPAIGN, "/campaign/campaign-123")


def body(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def documented_401(path: str) -> str:
    return replies.DOCUMENTED_401_WORDS.format(path=path)


def frameworks_401(path: str) -> str:
    return replies.FRAMEWORKS_401_WORDS.format(path=path)


# --- the table ------------------------------------------------------------------------------------

OK = body(request_id=REQUEST_ID)
HTML = replies.BAD_GATEWAY_PAGE
ERROR = replies.ERROR


# What a reply can mean: the class of the verdict or of its error, and the outcome.
DONE = (Success, None)
STALE_TOKEN = (StaleToken, Outcome.REJECTED)
BAD_REQUEST = (BadRequestError, Outcome.REJECTED)
EXPECTATION_FAILED = (ExpectationFailedError, Outcome.REJECTED)
REFUSED = (RejectedError, Outcome.REJECTED)
TOO_FAST = (RateLimitError, Outcome.REJECTED)
TROUBLE = (ServerError, Outcome.IN_DOUBT)
STRANGE = (UnexpectedResponseError, Outcome.IN_DOUBT)
MISCONFIGURED = (ConfigurationError, Outcome.NOT_SENT)


def row(
    behaviour: str,
    request: Request,
    status: int,
    content: bytes,
    meaning: tuple[type, Outcome | None],
    *,
    request_id: str | None = None,
    retry_after: float | None = None,
    truncated: bool = False,
) -> Any:
    """Return the test case of one reply; the error must also hold *request_id* and *retry_after*."""
    return pytest.param(
        request,
        Reply(status, content, retry_after=retry_after, truncated=truncated),
        *meaning,
        request_id,
        id=behaviour,
    )


# Replies that the reference shows.
DOCUMENTED_REPLIES = [
    row("a text is accepted", SEND, 200, replies.ACCEPTED_SMS, DONE),
    row("an mms is accepted", SEND_MMS, 200, replies.MSG_INFO, DONE),
    row("a voice message is accepted", SEND_VOICE, 200, replies.MSG_INFO, DONE),
    row("a token is given", TOKEN_REQUEST, 200, replies.TOKEN, DONE),
    row("a campaign is created", CREATE, 200, replies.CREATED_CAMPAIGN, DONE),
    row("campaigns are listed", LIST, 200, replies.CAMPAIGNS, DONE),
    row("a balance is given", GET, 200, replies.BALANCE, DONE),
    row("an update is acknowledged", PUT, 200, replies.MSG_INFO, DONE),
    row("400 is a bad request", SEND, 400, ERROR, BAD_REQUEST, request_id=REQUEST_ID),
    row("400 to a token request", TOKEN_REQUEST, 400, ERROR, BAD_REQUEST, request_id=REQUEST_ID),
    row("400 to a GET", GET, 400, ERROR, BAD_REQUEST, request_id=REQUEST_ID),
    row("400 to a DELETE", DELETE, 400, ERROR, BAD_REQUEST, request_id=REQUEST_ID),
    row("417 is a failed expectation", SEND, 417, ERROR, EXPECTATION_FAILED, request_id=REQUEST_ID),
    row("401 is a stale token", SEND, 401, replies.UNAUTHORIZED, STALE_TOKEN),
    row("401 to a GET is a stale token", GET, 401, replies.UNAUTHORIZED, STALE_TOKEN),
    row("401 to a DELETE is a stale token", DELETE, 401, replies.UNAUTHORIZED, STALE_TOKEN),
]

# Authentication failure: HTTP 401, or HTTP 200 with `code` 401, an int or a string.
STALE_TOKEN_REPLIES = [
    row("200 with code 401 as a number", SEND, 200, framework(401, frameworks_401("/sms")), STALE_TOKEN),
    row("200 with code 401 as a string", SEND, 200, framework("401", documented_401("/sms")), STALE_TOKEN),
    row("200 with code 401 to a GET", GET, 200, framework(401, frameworks_401("/balance/u")), STALE_TOKEN),
    row("200 with code 401 to a DELETE", DELETE, 200, framework(401, documented_401("/c/1")), STALE_TOKEN),
    row("code 401 with a request_id", SEND, 200, body(code=401, request_id="r-1"), STALE_TOKEN, request_id="r-1"),
    row("code 401 under HTTP 500", SEND, 500, framework(401, documented_401("/sms")), STALE_TOKEN),
    row("401 with code 401 as a number", SEND, 401, framework(401, documented_401("/sms")), STALE_TOKEN),
    row("401 in the documented error body", SEND, 401, ERROR, STALE_TOKEN, request_id=REQUEST_ID),
    row("401 with an empty object", SEND, 401, b"{}", STALE_TOKEN),
    row("401 from a gateway", SEND, 401, HTML, STALE_TOKEN),
    row("401 without a body", SEND, 401, b"", STALE_TOKEN),
    row("a path that only begins as /error", SEND, 401, framework(401, documented_401("/errors")), STALE_TOKEN),
    row("a path that goes on after /error", SEND, 401, framework(401, documented_401("/error/x")), STALE_TOKEN),
    row("an error-page is not /error", SEND, 401, framework(401, documented_401("/error-page")), STALE_TOKEN),
]

# An internal failure, masked as a 401 whose body names a path that ends in /error: the request is in doubt.
MASKED_FAILURE_REPLIES = [
    row("401 on /error", SEND, 401, framework("401", documented_401("/error")), TROUBLE),
    row("401 on /error in the framework's words", SEND, 401, framework(401, frameworks_401("/error")), TROUBLE),
    row("200 with code 401 on /error", SEND, 200, framework(401, frameworks_401("/error")), TROUBLE),
    row("200 with code 401 as a string on /error", SEND, 200, framework("401", documented_401("/error")), TROUBLE),
    row("401 on a path that ends in /error", SEND, 401, framework(401, documented_401("/api/error")), TROUBLE),
    row("401 on /error with a query", SEND, 401, framework(401, documented_401("/error?x=1")), TROUBLE),
    row("401 on /error to a GET", GET, 401, framework(401, documented_401("/error")), TROUBLE),
    row("401 on /error to a DELETE", DELETE, 200, framework(401, documented_401("/error")), TROUBLE),
    row("401 whose words are only /error", SEND, 401, framework(401, "/error"), TROUBLE),
]

# Rate exceeded: Pico refused the request before any work, in the framework's words or as HTTP 429.
TOO_FAST_REPLIES = [
    row("too frequent", SEND, 200, framework(500, replies.TOO_FREQUENT), TOO_FAST),
    row(
        "too frequent in traditional characters", SEND, 200, framework(500, replies.TOO_FREQUENT_TRADITIONAL), TOO_FAST
    ),
    row("too frequent with code as a string", SEND, 200, framework("500", replies.TOO_FREQUENT), TOO_FAST),
    row("too frequent under HTTP 500", SEND, 500, framework(500, replies.TOO_FREQUENT), TOO_FAST),
    row("too frequent by another word", SEND, 200, framework(500, "接口限流"), TOO_FAST),
    row("too frequent in English", SEND, 200, framework(500, "Too many requests"), TOO_FAST),
    row("too frequent to a GET", GET, 200, framework(500, replies.TOO_FREQUENT), TOO_FAST),
    row("too frequent to a DELETE", DELETE, 200, framework(500, replies.TOO_FREQUENT), TOO_FAST),
    row("too frequent with Retry-After", SEND, 200, framework(500, replies.TOO_FREQUENT), TOO_FAST, retry_after=7.0),
    row("429 with the documented error body", SEND, 429, ERROR, TOO_FAST, request_id=REQUEST_ID, retry_after=2.0),
    row("429 with an empty object", SEND, 429, b"{}", TOO_FAST),
    row("429 with the framework's code", SEND, 429, framework(500, replies.OTHER_EXCEPTION), TOO_FAST),
    row("429 from a gateway", SEND, 429, HTML, TOO_FAST, retry_after=30.0),
    row("429 without a body", GET, 429, b"", TOO_FAST),
]

# Pico got the same body again within 5 s: the second request was not carried out.
REPEATED_REPLIES = [
    row("repeated submission", SEND, 200, framework(500, replies.REPEATED_SUBMISSION), REFUSED),
    row(
        "repeated submission in traditional characters",
        SEND,
        200,
        framework(500, replies.REPEATED_SUBMISSION_TRADITIONAL),
        REFUSED,
    ),
    row("repeated submission with code as a string", SEND, 200, framework("500", replies.REPEATED_SUBMISSION), REFUSED),
]

# Any other exception, and any other `code` except 200: the request is in doubt.
TROUBLE_REPLIES = [
    row("any other exception", SEND, 200, framework(500, replies.OTHER_EXCEPTION), TROUBLE),
    row("any other exception with code as a string", SEND, 200, framework("500", replies.OTHER_EXCEPTION), TROUBLE),
    row("any other exception to a GET", GET, 200, framework(500, replies.OTHER_EXCEPTION), TROUBLE),
    row("any other exception to a DELETE", DELETE, 200, framework(500, replies.OTHER_EXCEPTION), TROUBLE),
    row("an exception without words", SEND, 200, body(code=500), TROUBLE),
    row("an exception whose words are no text", SEND, 200, body(code=500, msg={"a": 1}), TROUBLE),
    row("an exception with a request_id", SEND, 200, body(code=500, request_id="r-1"), TROUBLE, request_id="r-1"),
    row("an exception under HTTP 400", SEND, 400, framework(500, replies.OTHER_EXCEPTION), TROUBLE),
    row("too frequent, code 429", SEND, 200, framework(429, "too many requests"), TOO_FAST),
    row("another code 429", SEND, 200, framework(429, "the queue is full"), TROUBLE),
    row("too frequent, as documented errors", SEND, 400, body(errors=["Too many requests"]), TOO_FAST),
    row("too frequent, as errors with a 5xx", SEND, 503, body(errors=["Too many requests"]), TROUBLE),
    *(
        row(f"too frequent: {words}", SEND, 200, framework(500, words), TOO_FAST)
        for words in (
            "请求超过最大数，请稍候再试",
            "請求超過最大數，請稍候再試",
            "服务器限流异常，请稍候再试",
            "触发流控，请稍后再试",
            "请求过多",
            "请求次数过多，请稍后再试",
            "访问过快，请稍后再试",
            "調用次數過多",
            "请求频率过高",
            "超过最大请求数",
            "超出调用频率",
            "接口调用频率超限",
            "QPS超过限制",
            "Rate limit exceeded",
            "API rate-limit reached, retry later",
            "You are being rate limited.",
            "Rate exceeded",
            "Exceeded the maximum number of requests",
            "You have exceeded your request rate",
            "Request limit exceeded",
            "Requests come too fast",
            "SlowDown: Please reduce your request rate.",
            "Request was throttled.",
            "Blocked by Sentinel (flow limiting)",
            "FlowException",
        )
    ),
    *(
        row(f"no rate: {words}", SEND, 200, framework(500, words), TROUBLE)
        for words in (
            "系统繁忙，请稍候再试",
            "请求超时，请稍候再试",
            "请求超过最大长度",
            "请求参数过多",
            "请求超过最大数据量",
            "余额超过最大数",
            "短信条数超过最大数",
            "上游速率未知",
            "Exchange rate not found",
            "The failure rate exceeded 50 %",
            "Rate limiter is not configured",
            "Request body exceeds the maximum size",
            "Quota exceeded",
            "Connection limit exceeded",
            "flow control window of the stream is broken",
            "This takes too long",
        )
    ),
    row("too many open files is no rate", SEND, 200, framework(500, "Too many open files"), TROUBLE),
    row("too many connections is no rate", SEND, 200, framework(500, "Too many connections"), TROUBLE),
    row("another code", SEND, 200, framework(403, "没有权限"), TROUBLE),
    row("another code as a string", SEND, 200, body(code="E1", request_id="r-1"), TROUBLE, request_id="r-1"),
    row("code 0", SEND, 200, body(code=0, request_id="r-1"), TROUBLE, request_id="r-1"),
    row("frequency with another code", SEND, 200, framework(601, replies.TOO_FREQUENT), TROUBLE),
]

# Replies that are not JSON, or larger than the cap: a gateway sent them.
GATEWAY_REPLIES = [
    *[
        row(f"a page with {status}{said}", request, status, HTML, TROUBLE)
        for status in (502, 503, 504)
        for said, request in (("", SEND), (" to a GET", GET), (" to a DELETE", DELETE))
    ],
    row("a page with 503 and Retry-After", SEND, 503, HTML, TROUBLE, retry_after=5.0),
    row("a page with 500", SEND, 500, HTML, TROUBLE),
    row("an empty 502", SEND, 502, b"", TROUBLE),
    row("a page with 400", SEND, 400, HTML, REFUSED),
    row("a page with 403", SEND, 403, HTML, REFUSED),
    row("a page with 404", DELETE, 404, HTML, REFUSED),
    row("a page with 413", SEND, 413, HTML, REFUSED),
    row("a page with 200", SEND, 200, HTML, STRANGE),
    row("a page with 200 to a GET", GET, 200, HTML, STRANGE),
    row("a page with 200 to a DELETE", DELETE, 200, HTML, STRANGE),
    row("a number beyond all bounds", SEND, 200, b'{"request_id": "r-1", "a": 1e99999999999999999999}', STRANGE),
    row("garbage with 200", SEND, 200, b'\xff{"request_id": ', STRANGE),
    row("an endless reply with 200", SEND, 200, OK, STRANGE, truncated=True),
    row("an endless reply with 400", SEND, 400, ERROR, REFUSED, truncated=True),
    row("an endless reply with 500", SEND, 500, ERROR, TROUBLE, truncated=True),
]

# The documented error body, and bodies without words and `code`; with a 5xx the request is in doubt.
REFUSAL_REPLIES = [
    row("errors with 403", SEND, 403, ERROR, REFUSED, request_id=REQUEST_ID),
    row("errors with 404", DELETE, 404, ERROR, REFUSED, request_id=REQUEST_ID),
    row("errors with 200", SEND, 200, ERROR, REFUSED, request_id=REQUEST_ID),
    row("errors as one string", SEND, 400, body(errors="bad `to`"), BAD_REQUEST),
    row("errors as objects", SEND, 400, body(errors=[{"field": "to"}]), BAD_REQUEST),
    *[row(f"errors with {status}", SEND, status, ERROR, TROUBLE, request_id=REQUEST_ID) for status in (500, 502, 503)],
    row("errors with 500 to a GET", GET, 500, ERROR, TROUBLE, request_id=REQUEST_ID),
    row("400 without words", SEND, 400, b"{}", BAD_REQUEST),
    row("400 with an empty list of errors", SEND, 400, body(errors=[]), BAD_REQUEST),
    row("417 without words", SEND, 417, b"{}", EXPECTATION_FAILED),
    row("404 without words", GET, 404, b"[]", REFUSED),
    row("500 without words", SEND, 500, b"{}", TROUBLE),
    row("599 without words", SEND, 599, b"{}", TROUBLE),
    row("500 with a request_id", SEND, 500, OK, TROUBLE, request_id=REQUEST_ID),
]

# 2xx: a send needs a usable `request_id`; other requests need none.
SUCCESS_REPLIES = [
    row("code 200 as a number", SEND, 200, body(code=200, request_id="r-1"), DONE),
    row("code 200 as a string", SEND, 200, body(code="200", request_id="r-1"), DONE),
    row("no errors after all", SEND, 200, body(errors=[], code=None, request_id="r-1"), DONE),
    row("201", SEND, 201, OK, DONE),
    row("299", SEND, 299, OK, DONE),
    row("a request_id that is a number", SEND, 200, body(request_id=7), DONE),
    row("a send with an empty object", SEND, 200, b"{}", STRANGE),
    row("a send with an empty request_id", SEND, 200, body(request_id=""), STRANGE),
    row("a send with a blank request_id", SEND, 200, body(request_id=" "), STRANGE),
    row("a send with a null request_id", SEND, 200, body(request_id=None), STRANGE),
    row("a send with an unprintable request_id", SEND, 200, body(request_id="\x00"), STRANGE),
    row("a send with an object for a request_id", SEND, 200, body(request_id={}), STRANGE),
    row("a send with code 200 alone", SEND, 200, framework(200, "操作成功"), STRANGE),
    row("a send with an array", SEND, 200, b'["request_id"]', STRANGE),
    row("a send with a string", SEND, 200, b'"request_id"', STRANGE),
    row("a send with null", SEND, 200, b"null", STRANGE),
    row("a send with nothing", SEND, 200, b"", STRANGE),
    row("a send with 204", SEND, 204, b"", STRANGE),
    row("an mms without a request_id", SEND_MMS, 200, b"{}", STRANGE),
    row("a voice message without a request_id", SEND_VOICE, 200, b"{}", STRANGE),
    row("a GET without a request_id", GET, 200, body(balance="1"), DONE),
    row("a GET with an array", LIST, 200, b"[]", DONE),
    row("a GET with nothing", GET, 200, b"", STRANGE),
    row("a DELETE with nothing", DELETE, 200, b"", DONE),
    row("a DELETE with a line break", DELETE, 200, b"\r\n", DONE),
    row("a PUT with 204", PUT, 204, b"", DONE),
    row("a DELETE with an empty object", DELETE, 200, b"{}", DONE),
]

# 3xx: a redirect is never followed, because the API key would go to another host. Most 3xx may come after the request
# was carried out; only 307 and 308 say that it must be sent again elsewhere (RFC 9110, 15.4.8 and 15.4.9).
REDIRECT_REPLIES = [
    *[row(f"a redirect with {status}", SEND, status, b"", STRANGE) for status in (300, 301, 302, 303, 304, 305, 399)],
    *[row(f"{status} in HTML", SEND, status, HTML, STRANGE) for status in (301, 302, 303)],
    *[
        row(f"{status} with a request_id", SEND, status, OK, STRANGE, request_id=REQUEST_ID)
        for status in (300, 301, 302, 303, 304, 305, 307, 308, 399)
    ],
    *[
        row(f"{status} with errors", SEND, status, ERROR, STRANGE, request_id=REQUEST_ID)
        for status in (302, 303, 307, 308)
    ],
    *[row(f"{status} says to send it elsewhere", SEND, status, HTML, MISCONFIGURED) for status in (307, 308)],
    *[row(f"an mms with {status}", SEND_MMS, status, b"", STRANGE) for status in (302, 303)],
    *[row(f"a voice message with {status}", SEND_VOICE, status, b"", STRANGE) for status in (302, 303)],
    row("a creation with 303", CREATE, 303, b"", STRANGE),
    row("a DELETE with 302", DELETE, 302, b"", STRANGE),
    row("a redirect of a DELETE", DELETE, 307, b"", MISCONFIGURED),
    *[row(f"a GET with {status}", GET, status, HTML, MISCONFIGURED) for status in (300, 301, 302, 303, 307, 308)],
    row("a redirect of a GET with a request_id", GET, 302, OK, MISCONFIGURED, request_id=REQUEST_ID),
    row("a redirect with an endless body", SEND, 302, OK, STRANGE, truncated=True),
    row("code 401 with 302", SEND, 302, framework(401, frameworks_401("/sms")), STALE_TOKEN),
]

# 4xx that do not say that the request was refused: 408 is a wait that ended, a framework may find 406 after its work,
# and what is registered nowhere means what its sender likes. The documented error body makes a refusal of the latter.
UNCLEAR_REPLIES = [
    *[
        row(f"{status}{said}", SEND, status, content, STRANGE)
        for status in (406, 408, 416, 418, 419, 444, 460, 494, 498, 499)
        for said, content in (("", b""), (" in HTML", HTML), (" without words", b"{}"))
    ],
    *[row(f"{status} with errors", SEND, status, ERROR, STRANGE, request_id=REQUEST_ID) for status in (406, 408, 499)],
    row("408 to a creation", CREATE, 408, b"", STRANGE),
    row("408 to a GET", GET, 408, b"", STRANGE),
    row("460 with errors", SEND, 460, ERROR, REFUSED, request_id=REQUEST_ID),
    *[
        row(f"{status} says that it was not carried out", SEND, status, b"", REFUSED)
        for status in (
            402,
            403,
            404,
            405,
            407,
            409,
            410,
            411,
            412,
            413,
            414,
            415,
            421,
            422,
            423,
            424,
            425,
            426,
            428,
            431,
            451,
        )
    ],
]

# What is no final status, or no status of HTTP.
ODD_STATUS_REPLIES = [
    *[
        row(f"{status}{said}", SEND, status, content, STRANGE, request_id=id_)
        for status in (100, 101, 103, 199)
        for said, content, id_ in (("", b"", None), (" with errors", ERROR, REQUEST_ID), (" in JSON", OK, REQUEST_ID))
    ],
    *[
        row(f"{status}{said}", SEND, status, content, TROUBLE, request_id=id_)
        for status in (600, 999)
        for said, content, id_ in (("", b"", None), (" with errors", ERROR, REQUEST_ID), (" in JSON", OK, REQUEST_ID))
    ],
]

TABLE = [
    *DOCUMENTED_REPLIES,
    *STALE_TOKEN_REPLIES,
    *MASKED_FAILURE_REPLIES,
    *TOO_FAST_REPLIES,
    *REPEATED_REPLIES,
    *TROUBLE_REPLIES,
    *GATEWAY_REPLIES,
    *REFUSAL_REPLIES,
    *SUCCESS_REPLIES,
    *REDIRECT_REPLIES,
    *UNCLEAR_REPLIES,
    *ODD_STATUS_REPLIES,
]


@pytest.mark.parametrize(("request_", "reply", "kind", "outcome", "request_id"), TABLE)
def test_a_reply_means(
    request_: Request, reply: Reply, kind: type, outcome: Outcome | None, request_id: str | None
) -> None:
    """
    A reply is judged to the verdict class and the outcome of its row.

    The error holds the HTTP status, Pico's `request_id` if there is one, and the wait that Pico asked for.
    """
    verdict = judge(request_, reply)

    assert type(verdict) is kind
    if isinstance(verdict, Success):
        assert verdict.payload == (json.loads(reply.content) if reply.content.strip() else {})
        return
    error = error_in(verdict)
    assert error.outcome is outcome
    assert error.status_code == reply.status
    assert error.request_id == request_id
    assert error.retry_after == reply.retry_after
    assert str(error).startswith(f"{request_}: ")


# --- error messages -------------------------------------------------------------------------------


def error_in(verdict: object) -> PicoError:
    """Return the error of a verdict that is no success."""
    error = verdict.error if isinstance(verdict, StaleToken) else verdict
    assert isinstance(error, PicoError)
    return error


REFUSALS = [
    (400, ERROR),
    (417, ERROR),
    (403, HTML),
    (404, b"{}"),
    (429, b""),
    (401, replies.UNAUTHORIZED),
    (200, framework(500, replies.TOO_FREQUENT)),
    (200, framework(500, replies.REPEATED_SUBMISSION)),
]
DOUBTS = [
    (500, ERROR),
    (502, HTML),
    (200, HTML),
    (503, b"{}"),
    (200, framework(500, replies.OTHER_EXCEPTION)),
    (401, framework(401, documented_401("/error"))),
]


@pytest.mark.parametrize(("status", "content"), REFUSALS)
@pytest.mark.parametrize("request_", [SEND, GET, CREATE, PUT, DELETE], ids=str)
def test_a_refusal_says_that_nothing_was_carried_out(request_: Request, status: int, content: bytes) -> None:
    """The error of a refusal says that the request was not carried out, and never that it may have been."""
    said = str(error_in(judge(request_, Reply(status, content))))

    assert "not carried out" in said
    assert "may have been" not in said


@pytest.mark.parametrize(("status", "content"), DOUBTS)
@pytest.mark.parametrize(
    ("request_", "advice"),
    [
        (SEND, "The message may have been sent, so it was not repeated. Check the delivery receipt"),
        (SEND_MMS, "The message may have been sent, so it was not repeated. Check the delivery receipt"),
        (SEND_VOICE, "The message may have been sent, so it was not repeated. Check the delivery receipt"),
        (GET, "A GET changes nothing, so it is safe to repeat."),
        (CREATE, "It may have been carried out: look before you repeat it."),
        (PUT, "It may have been carried out: look before you repeat it."),
        (DELETE, "It may have been carried out: look before you repeat it."),
    ],
    ids=lambda value: str(value) if isinstance(value, Request) else "",
)
def test_a_doubt_says_what_may_have_happened_and_what_to_do(
    request_: Request, advice: str, status: int, content: bytes
) -> None:
    """An error in doubt states what may have happened and what to do; this text depends only on the request."""
    said = str(error_in(judge(request_, Reply(status, content))))

    assert f". {advice}" in said
    assert "not carried out" not in said


@pytest.mark.parametrize("reply", [Reply(429, b""), Reply(200, framework(500, replies.TOO_FREQUENT))])
def test_a_refused_token_says_how_processes_share_one(reply: Reply) -> None:
    """The rate refusal of a token names what helps: one session that is kept, and RedisCoordinator."""
    said = str(error_in(judge(TOKEN_REQUEST, reply)))

    assert "open one session and keep it; several processes share a token with RedisCoordinator." in said


REFUSED_SO = "It was not carried out."
SENT_PERHAPS = (
    "The message may have been sent, so it was not repeated. Check the delivery receipt, "
    "or pass retry_in_doubt=True where a double is harmless."
)
SLOWER = "It was not carried out. Is another process using this API key, or is a rate of `rates=` too high?"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(400, ERROR), f"Pico refused (HTTP 400): Error description message. {REFUSED_SO}"),
        (Reply(417, b"{}"), f"Pico refused (HTTP 417). {REFUSED_SO}"),
        (Reply(400, body(errors=["one.", "two"])), f"Pico refused (HTTP 400): one; two. {REFUSED_SO}"),
        (Reply(403, HTML), f"a gateway refused it (HTTP 403). {REFUSED_SO}"),
        (Reply(401, replies.UNAUTHORIZED), f"Pico did not take the token. {REFUSED_SO}"),
        (
            Reply(401, framework(401, documented_401("/error"))),
            f"Pico failed inside and masked it as a 401. {SENT_PERHAPS}",
        ),
        (Reply(429, b""), f"Pico refused, requests come too fast (HTTP 429). {SLOWER}"),
        (
            Reply(200, framework(500, replies.TOO_FREQUENT)),
            f"Pico refused, requests come too fast: {replies.TOO_FREQUENT}. {SLOWER}",
        ),
        (
            Reply(200, framework(500, replies.REPEATED_SUBMISSION)),
            "Pico refused it as a repeat of the same request within 5 s. The earlier one reached Pico; "
            "this one was not carried out.",
        ),
        (
            Reply(200, framework(500, replies.OTHER_EXCEPTION)),
            f"Pico had trouble (code 500): {replies.OTHER_EXCEPTION}. {SENT_PERHAPS}",
        ),
        (Reply(500, ERROR), f"Pico failed (HTTP 500): Error description message. {SENT_PERHAPS}"),
        (Reply(503, b"{}"), f"Pico failed (HTTP 503). {SENT_PERHAPS}"),
        (Reply(502, HTML), f"a gateway failed (HTTP 502). {SENT_PERHAPS}"),
        (Reply(200, HTML), f"the reply (HTTP 200) is not JSON. {SENT_PERHAPS}"),
        (Reply(200, OK, truncated=True), f"the reply (HTTP 200) is larger than 1 MiB. {SENT_PERHAPS}"),
        (Reply(200, b"{}"), f"the reply has no `request_id`. {SENT_PERHAPS}"),
        (
            Reply(302, b""),
            "the host redirects (HTTP 302), and redirects are never followed: they would hand the API key to another "
            "host. Check `base_url`. "
            f"{SENT_PERHAPS}",
        ),
        (Reply(408, b""), f"the reply (HTTP 408) does not say that it was refused. {SENT_PERHAPS}"),
    ],
)
def test_an_error_reads_as_in_the_style(reply: Reply, said: str) -> None:
    """Each error message states the request, the failure, its meaning and what to do."""
    assert str(error_in(judge(SEND, reply))) == f"POST /sms: {said}"


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        (ERROR, ("Error description message",)),
        (body(errors=["first.", "second。"]), ("first", "second")),
        (body(errors="only one"), ("only one",)),
        (body(errors=["words", 7, None, {"field": "to"}]), ("words",)),
        (body(msg="模板不存在"), ("模板不存在",)),
        (body(errors=[], msg="said elsewhere"), ("said elsewhere",)),
        (body(errors=["line\r\nbreak \x1b[31mred\u202e\u200b"]), ("line break [31mred",)),
        (body(errors=["no route to 8612345678901"]), ("no route to 86…01",)),
        (body(errors=["x" * 200]), ("x" * 200,)),
        (body(errors=["x" * 201]), ("x" * 200 + "…",)),
        (body(errors=["x" * 1000]), ("x" * 200 + "…",)),
        (b"{}", ()),
        (HTML, ()),
    ],
)
def test_picos_own_words_are_kept(content: bytes, errors: tuple[str, ...]) -> None:
    """Pico's error texts are kept on one line, with numbers masked, and cut after 200 characters."""
    error = error_in(judge(CREATE, Reply(400, content)))

    assert error.errors == errors
    assert "; ".join(errors) in str(error)


def test_an_error_stays_short() -> None:
    """Of a reply with 1,000 error texts, the error keeps the first 20 and shows the first five."""
    error = error_in(judge(SEND, Reply(400, body(errors=["Error description message"] * 1000))))

    assert error.errors == ("Error description message",) * 20
    assert str(error).count("Error description message") == 5
    assert len(str(error)) < 300


def test_a_success_holds_what_pico_said() -> None:
    """A success holds the payload of the reply unchanged, so that a decoder can read it."""
    verdict = judge(GET, Reply(200, replies.BALANCE))

    assert isinstance(verdict, Success)
    assert verdict.payload == {"balance": "1234.56", "request_id": REQUEST_ID, "username": "user333"}


@pytest.mark.parametrize("request_", [SEND, GET, DELETE], ids=str)
def test_where_nothing_was_written_nothing_was_sent(request_: Request) -> None:
    """A failure that sent nothing becomes NotSentError, which says that the request is safe to send again."""
    error = judge_failure(request_, Failure("no connection within 10 s", sent_nothing=True))

    assert type(error) is NotSentError
    assert error.outcome is Outcome.NOT_SENT
    assert str(error) == f"{request_}: no connection within 10 s. Nothing was sent; it is safe to send it again."


@pytest.mark.parametrize("request_", [SEND, GET, DELETE], ids=str)
def test_where_something_may_have_been_written_it_is_in_doubt(request_: Request) -> None:
    """A failure after a possible write becomes NoResponseError: the request is in doubt, and there is no status."""
    error = judge_failure(request_, Failure("no reply within 10 s", sent_nothing=False))

    assert type(error) is NoResponseError
    assert error.outcome is Outcome.IN_DOUBT
    assert str(error).startswith(f"{request_}: no reply within 10 s. ")
    assert (error.status_code, error.request_id, error.retry_after, error.errors) == (None, None, None, ())


def test_a_doubtful_send_without_a_reply_reads_as_in_the_style() -> None:
    """The error of a send without a reply states the request, the failure, its meaning and what to do."""
    error = judge_failure(SEND, Failure("no reply within 10 s", sent_nothing=False))

    assert str(error) == (
        "POST /sms: no reply within 10 s. The message may have been sent, so it was not repeated. "
        "Check the delivery receipt, or pass retry_in_doubt=True where a double is harmless."
    )


def test_a_strange_reply_is_in_doubt_with_all_that_is_known() -> None:
    """A reply that cannot be decoded is in doubt, and the error keeps its status and `request_id`."""
    error = unexpected(GET, "the reply has no `balance`", status_code=200, request_id="r-1")

    assert type(error) is UnexpectedResponseError
    assert error.outcome is Outcome.IN_DOUBT
    assert (error.status_code, error.request_id) == (200, "r-1")
    assert str(error).startswith("GET /balance/{username}: the reply has no `balance`. ")


def refusal(kind: type[PicoError] = RejectedError, status: int | None = 400, *errors: str) -> PicoError:
    return kind("refused", status_code=status, errors=errors)


@pytest.mark.parametrize(
    ("request_", "error", "found"),
    [
        pytest.param(DELETE, refusal(RejectedError, 404), True, id="404"),
        pytest.param(DELETE, refusal(BadRequestError, 400, "Campaign not found"), True, id="not found"),
        pytest.param(DELETE, refusal(BadRequestError, 400, "x", "It DOES NOT EXIST"), True, id="does not exist"),
        pytest.param(DELETE, refusal(BadRequestError, 400, "No such campaign"), True, id="no such"),
        pytest.param(DELETE, refusal(BadRequestError, 400, "模板不存在"), True, id="in Chinese"),
        pytest.param(DELETE, refusal(BadRequestError, 400), False, id="400 without words"),
        pytest.param(DELETE, refusal(BadRequestError, 400, "Campaign has templates"), False, id="another reason"),
        pytest.param(DELETE, refusal(RateLimitError, 429), False, id="too fast"),
        pytest.param(DELETE, refusal(AuthenticationError, 401), False, id="not authenticated"),
        pytest.param(DELETE, refusal(ServerError, 404, "not found"), False, id="in doubt"),
        pytest.param(DELETE, refusal(ServerError, 200, "模板不存在"), True, id="in the framework's dialect"),
        pytest.param(DELETE, refusal(BadRequestError, 400, "username does not exist"), False, id="another thing"),
        pytest.param(DELETE, refusal(NotSentError, None), False, id="not sent"),
        pytest.param(PUT, refusal(RejectedError, 404, "not found"), False, id="PUT"),
        pytest.param(GET, refusal(RejectedError, 404, "not found"), False, id="GET"),
        pytest.param(SEND, refusal(RejectedError, 404, "not found"), False, id="send"),
    ],
)
def test_only_a_refused_delete_can_have_found_nothing(request_: Request, error: PicoError, found: bool) -> None:
    """
    Only a failed DELETE can have found nothing.

    The status or the words of the reply decide, because the reference does not document this case.
    """
    assert found_nothing(request_, error) is found


# --- secrets in errors ----------------------------------------------------------------------------


def told_by(error: PicoError) -> str:
    """Return everything that an error shows: its string, its repr and its attributes."""
    return f"{error} {error!r} {vars(error)!r}"


def runs_of(secret: str) -> set[str]:
    """
    Return each run of ten characters in the secret, or the whole secret if it is shorter.

    Runs with a blank at an end are left out, because that blank may belong to the error itself.
    """
    runs = {secret[start : start + 10] for start in range(max(1, len(secret) - 9))}
    return {run for run in runs if run == run.strip()}


def shown(secret: str, error: PicoError) -> set[str]:
    """Return the runs of the secret that the error shows."""
    return {run for run in runs_of(secret) if run in told_by(error)}


# Replies in which Pico echoes some words, one for each field that can hold them.
ECHOES: dict[str, Any] = {
    "errors with 400": lambda words: (400, body(errors=[words])),
    "errors with 417": lambda words: (417, body(errors=["first", words])),
    "errors with 500": lambda words: (500, body(errors=words)),
    "msg with 400": lambda words: (400, body(msg=words)),
    "msg with 429": lambda words: (429, body(msg=words)),
    "msg with 401": lambda words: (401, body(code=401, msg=words)),
    "msg with 401 and /error": lambda words: (401, body(code=401, msg=f"{words} /error")),
    "msg with code 500": lambda words: (200, body(code=500, msg=words)),
    "too frequent": lambda words: (200, body(code=500, msg=f"频繁 {words}")),
    "repeated": lambda words: (200, body(code=500, msg=f"重复提交 {words}")),
    "a page": lambda words: (502, words.encode()),
    "a page with 200": lambda words: (200, words.encode()),
    "code": lambda words: (200, body(code=words)),
    "request_id with 400": lambda words: (400, body(request_id=words, errors=["x"])),
    "request_id with 500": lambda words: (500, body(request_id=words)),
}
SECRETS = {"the text": TEXT, "the code": "1234", "the API key": API_KEY, "the token": TOKEN, "the number": NUMBER}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
def test_an_error_does_not_repeat_what_pico_echoes(echo: Any, secret: str) -> None:
    """No error shows an API key, a token, a text or a number, whichever field of the reply Pico echoes it in."""
    error = error_in(judge(SEND, Reply(*echo(f"not allowed: {secret}!")), secrets=[API_KEY, TOKEN]))

    assert not shown(secret, error)


@pytest.mark.parametrize(
    "echo",
    [pytest.param(ECHOES[name], id=name) for name in ("errors with 400", "msg with code 500", "msg with 429")],
)
@pytest.mark.parametrize("name", ["text", "content"])
def test_a_templates_content_is_a_text_too(name: str, echo: Any) -> None:
    """An error does not show the content of a template, because this content will be sent to people."""
    request = Request(CREATE_SMS_TEMPLATE, "/template/sms", body={"username": "user333", name: TEXT})

    error = error_in(judge(request, Reply(*echo(f"bad words: {TEXT}"))))

    assert not shown(TEXT, error)


@pytest.mark.parametrize(
    ("text", "echo"),
    [
        pytest.param("Code:\nalpha\nbravo\ncharlie", "Code:\nalpha\nbravo\ncharlie", id="lines"),
        pytest.param("Hi  Bob,  buy  our  soap", "Hi  Bob,  buy  our  soap", id="double spaces"),
        pytest.param("您好\u3000張先生\u3000您的貨到了", "您好\u3000張先生\u3000您的貨到了", id="ideographic spaces"),
        pytest.param("Hi \u200bBob, \u200bbuy \u200bour \u200bsoap", "Hi Bob, buy our soap", id="invisible characters"),
    ],
)
def test_blanks_do_not_hide_a_text(text: str, echo: str) -> None:
    """An error does not show an echoed text that contains line breaks, repeated blanks or invisible characters."""
    error = error_in(judge(sms(text), Reply(400, body(errors=[f"not allowed: {echo}"]))))

    assert not shown(" ".join("".join(c if c.isprintable() else " " for c in text).split()), error)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Your code is 1234", "1234"),
        ("Your code is 123456", "123456"),
        ("G-654321 is your code", "654321"),
        ("Your code is 12345678", "12345678"),
        ("验证码98765", "98765"),
        ("1234", "1234"),
        ("Your code is 123-456", "123-456"),
        ("Your code is 123 456", "123 456"),
        ("Your code is A7K9Q2", "A7K9Q2"),
    ],
)
def test_a_one_time_code_is_not_repeated(text: str, code: str) -> None:
    """An error does not show a one-time code, although a code is shorter than other secrets."""
    error = error_in(judge(sms(text), Reply(400, body(errors=[f"forbidden word ({code})", f"x{code}x", code]))))

    assert code not in told_by(error)


@pytest.mark.parametrize(
    ("text", "said", "left"),
    [
        pytest.param(TEXT, f"not allowed: {TEXT}!", "not allowed: …!", id="the whole text"),
        pytest.param(TEXT, f"not allowed: {TEXT}", "not allowed: …", id="the whole text at the end"),
        pytest.param(TEXT, f"not allowed:{TEXT[5:15]}", "not allowed:…", id="ten characters at the end"),
        pytest.param(TEXT, f"{TEXT[:10]} is not allowed", "… is not allowed", id="ten characters at the beginning"),
        pytest.param(TEXT, f"not allowed ({TEXT[5:18]})!", "not allowed (…)!", id="thirteen characters in brackets"),
        pytest.param(TEXT, f"{TEXT[:12]}{TEXT[5:20]}", "……", id="two parts side by side"),
        pytest.param(TEXT, f"{TEXT[:12]}<br>{TEXT[5:20]}", "…<br>…", id="two parts"),
        pytest.param(TEXT, f"not allowed:{TEXT[5:14]}", f"not allowed:{TEXT[5:14]}", id="nine characters are words"),
        pytest.param("soap", "no soap, please", "no …, please", id="a short text"),
        pytest.param("abc", "no abc, please", "no abc, please", id="three characters are no secret"),
    ],
)
def test_what_also_stands_in_the_text_is_blanked_and_the_rest_stays(text: str, said: str, left: str) -> None:
    """Only the echoed parts of the text are replaced by an ellipsis, because Pico's own words help the reader."""
    error = error_in(judge(sms(text), Reply(400, body(errors=[said]))))

    assert error.errors == (left,)


def test_a_code_inside_a_number_does_not_unmask_it() -> None:
    """A number in the error stays masked, even if the code of the text is a part of the number."""
    error = error_in(judge(sms("Your code is 4567"), Reply(400, body(errors=["no route to 8612345678901"]))))

    assert "86…01" in str(error)
    assert not re.search(r"[0-9]{4}", str(error))


def test_a_code_inside_a_key_does_not_cut_it() -> None:
    """
    An API key is replaced as a whole, even if the code of the text is a part of the key.

    Replacing only the code would leave two halves that are too short to be recognised.
    """
    key = "abcdefg4567hijklmn"

    error = error_in(judge(sms("Your code is 4567"), Reply(400, body(errors=[f"no such key: {key}"])), secrets=[key]))

    assert error.errors == ("no such key: …",)


@pytest.mark.parametrize("number", ["8612345678901", "8612345678888"], ids=["destination", "sender"])
def test_a_number_of_the_request_is_no_request_id(number: str) -> None:
    """The error does not show a `request_id` that contains the destination or the sender of the request."""
    error = error_in(judge(sms("Hello"), Reply(400, body(request_id=f"for {number}", errors=["x"]))))

    assert number not in told_by(error)


WORDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ短信验证码", min_size=1, max_size=12)
CODES = st.text("0123456789", min_size=4, max_size=8)
KEYS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=40)
NUMBERS = st.from_regex(r"86139[0-9]{8}", fullmatch=True)
ECHOED_WORDS = [ECHOES[name] for name in ECHOES if not name.startswith(("code", "request_id"))]


@settings(deadline=None)
@given(st.data())
def test_no_error_repeats_any_part_of_a_secret(data: st.DataObject) -> None:
    """
    No error shows a secret, however Pico cuts and mixes the values that it received.

    The error shows no run of ten characters of the text, the API key or the token, and never the whole code or number.
    """
    code, number, key, token = (data.draw(values) for values in (CODES, NUMBERS, KEYS, KEYS))
    text = " ".join([data.draw(WORDS), code, *data.draw(st.lists(WORDS, max_size=6))])
    pieces = st.one_of(
        st.sampled_from([text, key, token, code, number, f"+{number}", f"{number[:3]}-{number[3:]}"]),
        st.builds(
            lambda secret, start, length: secret[start : start + length],
            st.sampled_from([text, key, token]),
            st.integers(0, 40),
            st.integers(1, 40),
        ),
        st.sampled_from(["not allowed", ": ", "'", "(", ")", "频繁", "重复提交", ", ", "\n"]),
    )
    words = "".join(data.draw(st.lists(pieces, min_size=1, max_size=8)))
    echo = data.draw(st.sampled_from(ECHOED_WORDS))
    request = send_request(SmsMessage(number, text), ACCOUNT)

    error = error_in(judge(request, Reply(*echo(words)), secrets=[key, token]))

    assert not {secret for secret in (text, key, token) if shown(secret, error)}
    assert code not in told_by(error)
    assert number not in re.sub(r"[ +-]", "", told_by(error))


@given(st.text(max_size=30).filter(str.strip), st.binary(max_size=60), st.integers(200, 599))
def test_any_reply_gives_a_verdict(text: str, content: bytes, status: int) -> None:
    """`judge` returns a verdict for any bytes with any status from 200 to 599, and never raises."""
    verdict = judge(TOKEN_REQUEST, Reply(status, content), secrets=[text])

    assert isinstance(verdict, Success | StaleToken | PicoError)


FIELDS = st.sampled_from(["code", "msg", "errors", "request_id", "token"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([401, 500, "频繁"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(FIELDS, values, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(FIELDS, VALUES), st.integers(200, 599), st.sampled_from([SEND, GET, CREATE, DELETE]))
def test_any_fields_give_a_verdict(fields: dict[str, object], status: int, request_: Request) -> None:
    """
    `judge` returns a verdict for any values of the fields that it reads.

    A send without a `request_id` is never a success.
    """
    verdict = judge(request_, Reply(status, json.dumps(fields).encode()), secrets=[API_KEY])

    assert isinstance(verdict, Success | StaleToken | PicoError)
    if isinstance(verdict, Success) and request_ is SEND:
        assert type(fields["request_id"]) in (str, int)
        assert str(fields["request_id"]).strip()
