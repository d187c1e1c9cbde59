"""
The state of the imitated Pico Cloud: one account, and how it answers requests. No HTTP and no waiting here.

`Cloud.answer` is synchronous, so that requests are decided in the order in which they arrive.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

from attrs import define, field, frozen

from pico_async.sandbox.catalogue import Catalogue, RefusedError
from pico_async.sandbox.faults import Fault, Faults
from pico_async.sandbox.ledger import Arrival, Ledger, Message, Verdict
from pico_async.sandbox.operations import SENDS, Operation, field_errors, unlisted_fields
from pico_async.sandbox.rates import Limiter
from pico_async.sandbox.replies import (
    Dialect,
    Reply,
    faulty_reply,
    rate_refusal,
    refusal,
    repeated_submission,
    success,
    unauthorised,
)
from pico_async.sandbox.tokens import Tokens

# Verdicts of faults that prevent a request; the verdict of all others is "dropped".
_VERDICTS = {
    Fault.RATE_LIMITED: Verdict.REFUSED_RATE,
    Fault.STALE_TOKEN: Verdict.UNAUTHORISED,
    Fault.BAD_REQUEST: Verdict.REJECTED,
    Fault.EXPECTATION_FAILED: Verdict.REJECTED,
    Fault.DUPLICATE_SUPPRESSED: Verdict.DUPLICATE,
}


@frozen
class Call:
    """One request, not yet checked. `ids` has the parameters of its path and its query."""

    operation: Operation
    path: str
    body: bytes = field(default=b"", repr=False)
    api_key: str | None = field(default=None, repr=False)
    authorization: str | None = field(default=None, repr=False)
    content_type: str = ""
    ids: Mapping[str, str] = field(factory=dict)


@define(kw_only=True, eq=False, repr=False)
class Cloud:
    """
    One account: its tokens, balance, rates, and the catalogue of its campaigns and templates.

    Own inventions, since v0.4 does not document them:

    - The bodies of mms and voice replies: a `request_id`, as "MsgInfo" suggests.
    - A wrong X-API-Key is a 401 on every path but /token.
    - A send costs `price`, and is a 400 if the balance is too small.
    - The order of the checks.
    """

    username: str
    balance: Decimal
    catalogue: Catalogue
    dialect: Dialect
    tokens: Tokens = field(factory=Tokens, init=False)
    _api_key: str
    _limiters: dict[str, Limiter]
    _faults: Faults
    _ledger: Ledger
    _clock: Callable[[], float]
    _duplicate_window_s: float | None
    _price: Decimal
    _recent_bodies: OrderedDict[tuple[str, bytes], float] = field(factory=OrderedDict, init=False)

    def answer(self, call: Call) -> Reply:
        """Check one request, carry it out if it passes, record its arrival, and return the reply."""
        now = self._clock()
        body = _parse_object(call.body) if call.operation.fields is not None else {}
        to = _destination(call.operation, body)
        name = call.operation.name
        drawn = self._faults.draw(name)
        rule = self._faults.choose(name, to, drawn, carried_out=False)
        message: Message | None = None
        if rule is not None:
            verdict = _VERDICTS.get(rule.fault, Verdict.DROPPED)
            if rule.fault is Fault.STALE_TOKEN and call.authorization is not None:
                self.tokens.expire(call.authorization.removeprefix("Bearer "))
            reply = faulty_reply(rule, None, path=call.path, dialect=self.dialect)
        else:
            verdict, reply, message = self._check(call, body, now)
            if verdict is Verdict.ACCEPTED:
                rule = self._faults.choose(name, to, drawn, carried_out=True)
        arrival = Arrival(
            at=now,
            operation=name,
            to=to,
            verdict=verdict,
            request_id=reply.request_id,
            kind=_kind(call.operation),
            fault=None if rule is None else rule.fault.value,
        )
        self._ledger.record(arrival, message)
        if rule is not None and rule.fault.carried_out:
            return faulty_reply(rule, reply, path=call.path, dialect=self.dialect)
        return reply

    def enforce(self, rate: str, limiter: Limiter | None) -> None:
        """Replace the limiter of *rate*; None removes the limit."""
        if limiter is None:
            self._limiters.pop(rate, None)
        else:
            self._limiters[rate] = limiter

    def no_such_operation(self, path: str, status: int) -> Reply:
        """
        Refuse a path or a method that is not in the reference, and record its arrival.

        Not documented in v0.4; the invention is the documented error body with HTTP's usual status.
        """
        reply = refusal(f"{path}: the reference has no such operation.", status=status)
        self._ledger.record(Arrival(self._clock(), "unknown", None, Verdict.REJECTED, reply.request_id))
        return reply

    def _check(self, call: Call, body: Mapping[str, Any] | None, now: float) -> tuple[Verdict, Reply, Message | None]:
        """Run the checks in order. The first that fails decides the reply; a request that passes all is carried out."""
        operation = call.operation
        refused = self._check_credentials(call, now)
        if refused is not None:
            return (*refused, None)
        limiter = self._limiters.get(operation.rate)
        if limiter is not None and not limiter.admit(now):
            return Verdict.REFUSED_RATE, rate_refusal(self.dialect, limiter.retry_after(now)), None
        if operation.fields is not None and not call.content_type.startswith("application/json"):
            return Verdict.REJECTED, refusal("Content-Type must be application/json."), None
        if body is None:
            return Verdict.REJECTED, refusal("The body must be a JSON object."), None
        if self._is_repeated(call, now):
            return Verdict.DUPLICATE, repeated_submission(), None
        if errors := field_errors(operation, body, account=self.username):
            return Verdict.REJECTED, refusal(*errors), None
        try:
            if operation.name in SENDS:
                message = self._send(operation, body, now)
                if self._duplicate_window_s is not None:
                    self._recent_bodies[call.path, call.body] = now
                return Verdict.ACCEPTED, success(message.request_id), message
            return Verdict.ACCEPTED, self._handler(operation.name)(call.ids, body), None
        except RefusedError as error:
            return Verdict.REJECTED, refusal(str(error)), None

    def _check_credentials(self, call: Call, now: float) -> tuple[Verdict, Reply] | None:
        """Return a refusal if API key or token is wrong, else None."""
        if not call.operation.needs_token:
            # /token documents 200 and 400 only.
            if call.api_key != self._api_key:
                return Verdict.REJECTED, refusal("X-API-Key: missing or invalid.")
            return None
        scheme, _, token = (call.authorization or "").partition(" ")
        if call.api_key != self._api_key or scheme != "Bearer" or not self.tokens.use(token, now):
            return Verdict.UNAUTHORISED, unauthorised(call.path, self.dialect)
        return None

    def _is_repeated(self, call: Call, now: float) -> bool:
        """Return whether RuoYi's repeated-submission rule refuses a request. Off by default; not documented in v0.4."""
        if self._duplicate_window_s is None:
            return False
        while self._recent_bodies and now - next(iter(self._recent_bodies.values())) >= self._duplicate_window_s:
            self._recent_bodies.popitem(last=False)
        return (call.path, call.body) in self._recent_bodies

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
            extra=unlisted_fields(operation, body),
        )

    def _handler(self, operation: str) -> Callable[[Mapping[str, str], Mapping[str, Any]], Reply]:
        return {
            "token.get": self._token,
            "balance.get": self._balance,
            "campaigns.create": self.catalogue.create_campaign,
            "campaigns.list": self.catalogue.list_campaigns,
            "campaigns.update": self.catalogue.update_campaign,
            "campaigns.delete": self.catalogue.delete_campaign,
            "templates.create_sms": self.catalogue.create_sms,
            "templates.create_mms": self.catalogue.create_mms,
            "templates.list": self.catalogue.list_templates,
            "templates.delete": self.catalogue.delete_template,
        }[operation]

    def _token(self, ids: Mapping[str, str], body: Mapping[str, Any]) -> Reply:
        self._check_username(ids["username"])
        return success(token=self.tokens.issue(self._clock()))

    def _balance(self, ids: Mapping[str, str], body: Mapping[str, Any]) -> Reply:
        self._check_username(ids["username"])
        return success(balance=str(self.balance), username=self.username)

    def _check_username(self, username: str) -> None:
        if username != self.username:
            raise RefusedError("username: does not belong to this API key.")


def _parse_object(raw: bytes) -> dict[str, Any] | None:
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
