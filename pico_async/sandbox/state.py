"""
The account behind the sandbox: what it holds, and what it answers. No HTTP and no waiting here.

`Cloud.answer` takes one request and returns one reply, without a pause in between, so the order in which requests
are judged is the order in which they arrived.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

from attrs import field, frozen

from pico_async.sandbox.catalogue import Catalogue, RefusedError
from pico_async.sandbox.faults import Fault, FaultRule, Faults
from pico_async.sandbox.ledger import Arrival, Ledger, Message, Verdict
from pico_async.sandbox.operations import SENDS, Operation, faulty_fields, unlisted
from pico_async.sandbox.rates import Limiter
from pico_async.sandbox.replies import (
    Dialect,
    Reply,
    disguise,
    rate_refusal,
    refusal,
    repeated_submission,
    success,
    unauthorised,
)
from pico_async.sandbox.tokens import Tokens

# A fault at the door leaves one of these verdicts; any other fault of that sort is "dropped".
_VERDICTS_AT_THE_DOOR = {
    Fault.RATE_LIMITED: Verdict.REFUSED_RATE,
    Fault.STALE_TOKEN: Verdict.UNAUTHORISED,
    Fault.BAD_REQUEST: Verdict.REJECTED,
    Fault.EXPECTATION_FAILED: Verdict.REJECTED,
    Fault.DUPLICATE_SUPPRESSED: Verdict.DUPLICATE,
}


@frozen
class Call:
    """One request, as the wire gave it. `ids` are the parameters of its path and of its query."""

    operation: Operation
    path: str
    body: bytes = field(default=b"", repr=False)
    api_key: str | None = field(default=None, repr=False)
    authorization: str | None = field(default=None, repr=False)
    content_type: str = ""
    ids: Mapping[str, str] = field(factory=dict)


class Cloud:
    """
    One account: its tokens, balance, rates, and the catalogue of its campaigns and templates.

    Own inventions, since v0.4 does not document them: the bodies of mms and voice replies (a `request_id`, as
    "MsgInfo" suggests); that a wrong X-API-Key is a 401 everywhere but on /token; that a send costs `price` and is a
    400 when the balance is too small; the order of the checks.
    """

    def __init__(
        self,
        *,
        username: str,
        api_key: str,
        limiters: Mapping[str, Limiter],
        dialect: Dialect,
        faults: Faults,
        ledger: Ledger,
        clock: Callable[[], float],
        duplicate_window_s: float | None,
        balance: Decimal,
        price: Decimal,
        catalogue: Catalogue,
    ) -> None:
        self.username = username
        self.balance = balance
        self.tokens = Tokens()
        self.catalogue = catalogue
        self._api_key = api_key
        self._limiters = dict(limiters)
        self.dialect = dialect
        self._faults = faults
        self._ledger = ledger
        self._clock = clock
        self._duplicate_window_s = duplicate_window_s
        self._price = price
        self._bodies: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        self._work: dict[str, Callable[[Mapping[str, str], Mapping[str, Any]], Reply]] = {
            "token.get": self._token,
            "balance.get": self._balance,
            "campaigns.create": catalogue.create_campaign,
            "campaigns.list": catalogue.list_campaigns,
            "campaigns.update": catalogue.update_campaign,
            "campaigns.delete": catalogue.delete_campaign,
            "templates.create_sms": catalogue.create_sms,
            "templates.create_mms": catalogue.create_mms,
            "templates.list": catalogue.list_templates,
            "templates.delete": catalogue.delete_template,
        }

    def answer(self, call: Call) -> Reply:
        """Stamp one request with its arrival, judge it, carry it out if it passes, and write it down."""
        now = self._clock()
        body = _object(call.body) if call.operation.fields is not None else {}
        to = _destination(call.operation, body)
        name = call.operation.name
        drawn = self._faults.draw(name)
        struck = self._faults.strike(name, to, drawn, carried_out=False)
        message: Message | None = None
        if struck is not None:
            verdict = _VERDICTS_AT_THE_DOOR.get(struck.fault, Verdict.DROPPED)
            if struck.fault is Fault.STALE_TOKEN and call.authorization is not None:
                self.tokens.expire(call.authorization.removeprefix("Bearer "))
            reply = self._disguised(struck, None, call)
        else:
            verdict, reply, message = self._judge(call, body, now)
            if verdict is Verdict.ACCEPTED:
                struck = self._faults.strike(name, to, drawn, carried_out=True)
        arrival = Arrival(
            at=now,
            operation=name,
            to=to,
            verdict=verdict,
            request_id=reply.request_id,
            kind=_kind(call.operation),
            fault=None if struck is None else struck.fault.value,
        )
        self._ledger.record(arrival, message)
        if struck is not None and struck.fault.carried_out:
            return self._disguised(struck, reply, call)
        return reply

    def enforce(self, rate: str, limiter: Limiter | None) -> None:
        """Judge what is counted under *rate* by *limiter* from now on; None lifts it."""
        if limiter is None:
            self._limiters.pop(rate, None)
        else:
            self._limiters[rate] = limiter

    def no_such_operation(self, path: str, status: int) -> Reply:
        """
        Refuse a path or a method that the reference does not have, and write it down.

        Not documented in v0.4: the documented error body with the status that HTTP has for it.
        """
        reply = refusal(f"{path}: the reference has no such operation.", status=status)
        self._ledger.record(Arrival(self._clock(), "unknown", None, Verdict.REJECTED, reply.request_id))
        return reply

    def _disguised(self, rule: FaultRule, honest: Reply | None, call: Call) -> Reply:
        return disguise(rule, honest, path=call.path, dialect=self.dialect)

    def _judge(self, call: Call, body: Mapping[str, Any] | None, now: float) -> tuple[Verdict, Reply, Message | None]:
        """Go through the checks in the order in which a request meets them; the first that fails answers."""
        operation = call.operation
        stranger = self._stranger(call, now)
        if stranger is not None:
            return (*stranger, None)
        limiter = self._limiters.get(operation.rate)
        if limiter is not None and not limiter.admit(now):
            return Verdict.REFUSED_RATE, rate_refusal(self.dialect, limiter.retry_after(now)), None
        if operation.fields is not None and not call.content_type.startswith("application/json"):
            return Verdict.REJECTED, refusal("Content-Type must be application/json."), None
        if body is None:
            return Verdict.REJECTED, refusal("The body must be a JSON object."), None
        if self._is_repeated(call, now):
            return Verdict.DUPLICATE, repeated_submission(), None
        if errors := faulty_fields(operation, body, account=self.username):
            return Verdict.REJECTED, refusal(*errors), None
        try:
            if operation.name in SENDS:
                message = self._send(operation, body, now)
                self._remember(call, now)
                return Verdict.ACCEPTED, success(message.request_id), message
            return Verdict.ACCEPTED, self._work[operation.name](call.ids, body), None
        except RefusedError as error:
            return Verdict.REJECTED, refusal(str(error)), None

    def _stranger(self, call: Call, now: float) -> tuple[Verdict, Reply] | None:
        """Check API key and token; None for a request that may come in."""
        if not call.operation.authorised:
            # /token documents 200 and 400 only.
            if call.api_key != self._api_key:
                return Verdict.REJECTED, refusal("X-API-Key: missing or invalid.")
            return None
        scheme, _, token = (call.authorization or "").partition(" ")
        if call.api_key != self._api_key or scheme != "Bearer" or not self.tokens.use(token, now):
            return Verdict.UNAUTHORISED, unauthorised(call.path, self.dialect)
        return None

    def _is_repeated(self, call: Call, now: float) -> bool:
        """RuoYi's repeated-submission rule, off by default; not documented in v0.4."""
        if self._duplicate_window_s is None:
            return False
        while self._bodies and now - next(iter(self._bodies.values())) >= self._duplicate_window_s:
            self._bodies.popitem(last=False)
        return (call.path, call.body) in self._bodies

    def _remember(self, call: Call, now: float) -> None:
        if self._duplicate_window_s is not None:
            self._bodies[call.path, call.body] = now

    def _send(self, operation: Operation, body: Mapping[str, Any], now: float) -> Message:
        if self.balance < self._price:
            raise RefusedError("The balance is too small.")
        template_id = body.get("templateId") if operation.name == "sms.send" else None
        if template_id:
            self.catalogue.check_approved(template_id)
        kind = _kind(operation) or ""
        is_voice = kind == "voice"
        self.balance -= self._price
        return Message(
            at=now,
            kind=kind,
            to=body["to"],
            request_id=str(uuid4()),
            sender=None if is_voice else body["from"],
            text=body.get("text") or None,
            template_id=template_id or None,
            media_url=body.get("mediaUrl") if kind == "mms" else None,
            callback=(body.get("callback") or None) if kind == "sms" else None,
            lang=(body.get("lang") or "en-US") if is_voice else None,
            extra=unlisted(operation, body),
        )

    def _token(self, ids: Mapping[str, str], body: Mapping[str, Any]) -> Reply:
        self._own(ids["username"])
        return success(token=self.tokens.issue(self._clock()))

    def _balance(self, ids: Mapping[str, str], body: Mapping[str, Any]) -> Reply:
        self._own(ids["username"])
        return success(balance=str(self.balance), username=self.username)

    def _own(self, username: str) -> None:
        if username != self.username:
            raise RefusedError("username: does not belong to this API key.")


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _kind(operation: Operation) -> str | None:
    return operation.name.removesuffix(".send") if operation.name in SENDS else None


def _destination(operation: Operation, body: Mapping[str, Any] | None) -> str | None:
    to = body.get("to") if body is not None and operation.name in SENDS else None
    return to if isinstance(to, str) else None
