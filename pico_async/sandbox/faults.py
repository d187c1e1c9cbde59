"""
Faults on request, and the choice of the requests that they strike.

A fault is chosen by an injected rule, by a magic destination, or by a seeded draw, in this order. The magic
destinations are `999000000NN`, and always work:

| to | fault | carried out | what the client sees |
|---|---|---|---|
| 99900000001 | accept-then-drop | yes | connection closed, no reply |
| 99900000002 | drop-before-accept | no | connection closed, no reply |
| 99900000003 | accept-then-hang | yes | the reply comes after `delay_s` (30 s) |
| 99900000004 | hang-before-accept | no | nothing for `delay_s` (30 s), then closed |
| 99900000005 | bad-gateway-before | no | 502, HTML |
| 99900000006 | bad-gateway-after | yes | 502, HTML |
| 99900000007 | unavailable | no | 503, HTML, Retry-After if the rule has one |
| 99900000008 | rate-limited | no | the dialect's rate refusal |
| 99900000009 | server-trouble-before | no | 200 with code 500 |
| 99900000010 | server-trouble-after | yes | 200 with code 500 |
| 99900000011 | masked-error | yes | 401 body whose path ends in /error |
| 99900000012 | stale-token | no | 401 once, and the token is stale; the next try goes through |
| 99900000013 | no-request-id | yes | 200 `{}` |
| 99900000014 | truncated-reply | yes | half of the body, then connection reset |
| 99900000015 | garbage-reply | yes | 200, not JSON |
| 99900000016 | oversized-reply | yes | 200, JSON of more than 1 MiB |
| 99900000017 | redirect | no | 302 to elsewhere |
| 99900000018 | bad-request | no | the documented 400 |
| 99900000019 | expectation-failed | no | the documented 417 |
| 99900000020 | duplicate-suppressed | no | 200 with code 500, "repeated submission" |
| 99900000021 | refused-connection | no | in-process: ConnectError; over a socket: closed, no reply |
| 99900000022 | accept-then-reset | yes | connection reset, no reply |

Own invention throughout: none of this is documented in v0.4, and Pico has no magic numbers.
"""

from collections.abc import Iterable
from random import Random
from typing import Any

from attrs import Attribute, define, field, frozen
from attrs.validators import optional

from pico_async.sandbox.checks import SHARE, Check, Choice
from pico_async.sandbox.operations import NAMES, SENDS


class Fault(Choice):
    """A fault. The table of this module's docstring describes each."""

    ACCEPT_THEN_DROP = "accept-then-drop"
    DROP_BEFORE_ACCEPT = "drop-before-accept"
    ACCEPT_THEN_HANG = "accept-then-hang"
    HANG_BEFORE_ACCEPT = "hang-before-accept"
    BAD_GATEWAY_BEFORE = "bad-gateway-before"
    BAD_GATEWAY_AFTER = "bad-gateway-after"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate-limited"
    SERVER_TROUBLE_BEFORE = "server-trouble-before"
    SERVER_TROUBLE_AFTER = "server-trouble-after"
    MASKED_ERROR = "masked-error"
    STALE_TOKEN = "stale-token"  # noqa: S105  # the name of a fault
    NO_REQUEST_ID = "no-request-id"
    TRUNCATED_REPLY = "truncated-reply"
    GARBAGE_REPLY = "garbage-reply"
    OVERSIZED_REPLY = "oversized-reply"
    REDIRECT = "redirect"
    BAD_REQUEST = "bad-request"
    EXPECTATION_FAILED = "expectation-failed"
    DUPLICATE_SUPPRESSED = "duplicate-suppressed"
    REFUSED_CONNECTION = "refused-connection"
    ACCEPT_THEN_RESET = "accept-then-reset"

    @property
    def carried_out(self) -> bool:
        """Whether the request is carried out (a message sent and charged) although the client sees a failure."""
        return self in _CARRIED_OUT

    @property
    def magic_number(self) -> str:
        """The destination whose sends always meet this fault."""
        return f"999000000{_NUMBERS[self]:02d}"


_CARRIED_OUT = frozenset(
    {
        Fault.ACCEPT_THEN_DROP,
        Fault.ACCEPT_THEN_HANG,
        Fault.ACCEPT_THEN_RESET,
        Fault.BAD_GATEWAY_AFTER,
        Fault.SERVER_TROUBLE_AFTER,
        Fault.MASKED_ERROR,
        Fault.NO_REQUEST_ID,
        Fault.TRUNCATED_REPLY,
        Fault.GARBAGE_REPLY,
        Fault.OVERSIZED_REPLY,
    }
)
_NUMBERS = {fault: number for number, fault in enumerate(Fault, start=1)}
_MAGIC = {fault.magic_number: fault for fault in Fault}

# Default faults of `fault_rate`: no hang, which would stall a bulk send, and no error of configuration.
DRAWN_FAULTS = (
    Fault.ACCEPT_THEN_DROP,
    Fault.ACCEPT_THEN_RESET,
    Fault.DROP_BEFORE_ACCEPT,
    Fault.BAD_GATEWAY_BEFORE,
    Fault.BAD_GATEWAY_AFTER,
    Fault.UNAVAILABLE,
    Fault.SERVER_TROUBLE_BEFORE,
    Fault.SERVER_TROUBLE_AFTER,
    Fault.MASKED_ERROR,
    Fault.STALE_TOKEN,
    Fault.NO_REQUEST_ID,
    Fault.TRUNCATED_REPLY,
)


def _digits(to: str | None) -> str | None:
    return None if to is None else to.removeprefix("+")


_SECONDS = Check("0 seconds or more", lambda value: isinstance(value, (int, float)) and value >= 0)
_COUNT = Check("a whole number, 0 or more", lambda value: isinstance(value, int) and value >= 0)


def _check_operation(rule: "FaultRule", attribute: "Attribute[Any]", value: Any) -> None:
    if value != "*" and value not in NAMES:
        raise ValueError(f"operation={value!r}: no such operation. Known: *, {', '.join(sorted(NAMES))}.")


@frozen
class FaultRule:
    """
    A rule: which fault strikes which requests.

    A fault before acceptance strikes before token, rate and fields are checked. A fault that is carried out strikes
    only a request that Pico would carry out.

    Attributes:
        fault: The fault.
        operation: As "sms.send" or "token.get"; "*" is any of the thirteen.
        to: Only requests for this destination (digits; a "+" is dropped); None is any.
        times: How many requests fail; None is all. `STALE_TOKEN` without *times* strikes only every second request for
            one destination, so that a client which fetches a new token succeeds.
        after: Number of matching requests that succeed first.
        probability: Share of the matching requests that fail, drawn with the sandbox's seed.
        delay_s: Duration of a hang.
        retry_after_s: Retry-After header of an `UNAVAILABLE` or (documented dialect) `RATE_LIMITED` reply.
    """

    fault: Fault = field(converter=Fault)
    operation: str = field(default="sms.send", validator=_check_operation)
    to: str | None = field(default=None, kw_only=True, converter=_digits)
    times: int | None = field(default=None, kw_only=True, validator=optional(_COUNT))
    after: int = field(default=0, kw_only=True, validator=_COUNT)
    probability: float = field(default=1.0, kw_only=True, validator=SHARE)
    delay_s: float = field(default=30.0, kw_only=True, validator=_SECONDS)
    retry_after_s: float | None = field(default=None, kw_only=True, validator=optional(_SECONDS))

    def matches(self, operation: str, to: str | None) -> bool:
        """Return whether a request for *operation* and *to* matches."""
        return self.operation in ("*", operation) and self.to in (None, to)


@define(eq=False)
class _ActiveRule:
    """A rule in force, and how many requests it has matched and struck."""

    rule: FaultRule
    matched: int = 0
    struck: int = 0
    failed_last: set[str | None] = field(factory=set)  # destinations whose last request a stale-token rule struck

    def strikes(self, to: str | None, random: Random) -> bool:
        rule = self.rule
        if rule.times is not None and self.struck >= rule.times:
            return False
        if rule.fault is Fault.STALE_TOKEN and rule.times is None and to in self.failed_last:
            self.failed_last.remove(to)
            return False
        self.matched += 1
        if self.matched <= rule.after:
            return False
        if rule.probability < 1.0 and random.random() >= rule.probability:
            return False
        self.struck += 1
        if rule.fault is Fault.STALE_TOKEN and rule.times is None:
            self.failed_last.add(to)
        return True


class Faults:
    """
    The rules in force. One *seed* and one order of requests always give the same outcome.

    Attributes:
        rate: The share of the sends that fail by chance.
    """

    def __init__(
        self,
        rules: Iterable[FaultRule] = (),
        *,
        rate: float = 0.0,
        kinds: Iterable[Fault | str] = DRAWN_FAULTS,
        seed: int | None = None,
    ) -> None:
        SHARE.require("fault_rate", rate)
        self.draw_from(rate, kinds)
        self._random = Random(seed)  # noqa: S311  # draws are repeatable, not secret
        self._rules = [_ActiveRule(rule) for rule in rules]
        self._magic = self._new_magic_rules()

    @staticmethod
    def _new_magic_rules() -> dict[str, _ActiveRule]:
        return {number: _ActiveRule(FaultRule(fault, "*", to=number)) for number, fault in _MAGIC.items()}

    @property
    def kinds(self) -> list[Fault]:
        """The faults to draw from."""
        return [rule.fault for rule in self._drawn]

    def draw_from(self, rate: float, kinds: Iterable[Fault | str]) -> None:
        """Set the share of the sends that fail by chance, and the faults to draw from. The seeded draw continues."""
        drawn = tuple(FaultRule(Fault(kind), "*") for kind in kinds)
        if rate and not drawn:
            raise ValueError("fault_rate without fault_kinds: name at least one fault to draw from.")
        self.rate: float = rate
        self._drawn = drawn

    def active_rules(self) -> list[dict[str, Any]]:
        """Return the injected rules as JSON objects, each with the number of requests that it struck."""
        names = ("fault", "operation", "to", "times", "after", "probability")
        return [
            {**{name: getattr(active.rule, name) for name in names}, "struck": active.struck} for active in self._rules
        ]

    def inject(self, rule: FaultRule) -> None:
        self._rules.append(_ActiveRule(rule))

    def clear(self) -> None:
        """Remove the injected rules and stop the seeded draw. Magic destinations stay, and count from zero again."""
        self.rate = 0.0
        self._rules.clear()
        self._magic = self._new_magic_rules()

    def draw(self, operation: str) -> FaultRule | None:
        """Return the rule of a fault that is drawn for one arrival; None if it is spared. Only sends are struck."""
        if self.rate == 0.0 or operation not in SENDS or self._random.random() >= self.rate:
            return None
        return self._random.choice(self._drawn)

    def choose(self, operation: str, to: str | None, drawn: FaultRule | None, *, carried_out: bool) -> FaultRule | None:
        """
        Return the rule that strikes a request; None if no rule does.

        Called before the checks of a request, for faults that prevent it, and again after it was carried out, for
        faults that are *carried_out*. *drawn* is the result of `draw` for this request.
        """
        for active in self._rules:
            rule = active.rule
            if (
                rule.fault.carried_out is carried_out
                and rule.matches(operation, to)
                and active.strikes(to, self._random)
            ):
                return rule
        if to is not None and operation in SENDS:
            magic = self._magic.get(to)
            if magic is not None and magic.rule.fault.carried_out is carried_out and magic.strikes(to, self._random):
                return magic.rule
        if drawn is not None and drawn.fault.carried_out is carried_out:
            return drawn
        return None
