"""
What can go wrong on request, and which request it befalls.

A fault is chosen by a rule that a test injects, by a magic destination, or by a seeded draw; in that order. The magic
destinations are `999000000NN` (with or without "+" in front of what a person types; digits on the wire), always on:

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
| 99900000014 | truncated-reply | yes | half of the body, then a reset |
| 99900000015 | garbage-reply | yes | 200, not JSON |
| 99900000016 | oversized-reply | yes | 200, JSON of more than 1 MiB |
| 99900000017 | redirect | no | 302 to elsewhere |
| 99900000018 | bad-request | no | the documented 400 |
| 99900000019 | expectation-failed | no | the documented 417 |
| 99900000020 | duplicate-suppressed | no | 200 with code 500, "repeated submission" |
| 99900000021 | refused-connection | no | in-process: ConnectError; over a socket: closed, no reply |
| 99900000022 | accept-then-reset | yes | connection reset, no reply |

Own invention throughout: none of this is documented in v0.4, nor does Pico have magic numbers.
"""

from collections.abc import Iterable
from enum import StrEnum
from random import Random
from typing import Any

from attrs import Attribute, field, frozen

from pico_async.sandbox.operations import NAMES, SENDS


class Fault(StrEnum):
    """One thing that can go wrong; the table above says what each does."""

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
        """Whether the request is carried out (a message sent and charged) although the client is not told so."""
        return self in _CARRIED_OUT

    @property
    def magic_number(self) -> str:
        """The destination that always meets this fault."""
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

# What `fault_rate` draws from: no hang (it would stall a whole blast) and no error of configuration.
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


def _seconds(rule: "FaultRule", attribute: "Attribute[Any]", value: Any) -> None:
    if value is None and attribute.default is None:
        return
    if not (isinstance(value, (int, float)) and value >= 0):
        raise ValueError(f"{attribute.name}={value!r}: seconds, 0 or more.")


def _count(rule: "FaultRule", attribute: "Attribute[Any]", value: Any) -> None:
    if value is None and attribute.default is None:
        return
    if not (isinstance(value, int) and value >= 0):
        raise ValueError(f"{attribute.name}={value!r}: a whole number, 0 or more.")


def _share(rule: "FaultRule", attribute: "Attribute[Any]", value: Any) -> None:
    if not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"{attribute.name}={value!r}: a share lies between 0 and 1.")


def _operation(rule: "FaultRule", attribute: "Attribute[Any]", value: Any) -> None:
    if value != "*" and value not in NAMES:
        raise ValueError(f"operation={value!r}: no such operation. Known: *, {', '.join(sorted(NAMES))}.")


@frozen
class FaultRule:
    """
    Which fault befalls which requests.

    A fault that is carried out waits for a request that Pico would carry out; any other befalls the request at the
    door, before token, rate and fields are looked at.

    Attributes:
        fault: What goes wrong.
        operation: As "sms.send" or "token.get"; "*" is any of the thirteen.
        to: Only requests for this destination (digits; a "+" is dropped); None is any.
        times: How often; None is without end. `STALE_TOKEN` without *times* lets every second try to one
            destination through, so that a client which fetches a new token gets its message out.
        after: So many matching requests are left alone first.
        probability: Share of the matching requests that it befalls, drawn by the sandbox's seed.
        delay_s: How long a hang lasts.
        retry_after_s: Retry-After header of an `UNAVAILABLE` or (documented dialect) `RATE_LIMITED` reply.
    """

    fault: Fault = field(converter=Fault)
    operation: str = field(default="sms.send", validator=_operation)
    to: str | None = field(default=None, kw_only=True, converter=_digits)
    times: int | None = field(default=None, kw_only=True, validator=_count)
    after: int = field(default=0, kw_only=True, validator=_count)
    probability: float = field(default=1.0, kw_only=True, validator=_share)
    delay_s: float = field(default=30.0, kw_only=True, validator=_seconds)
    retry_after_s: float | None = field(default=None, kw_only=True, validator=_seconds)

    def concerns(self, operation: str, to: str | None) -> bool:
        """Say whether a request for *operation* and *to* matches."""
        return self.operation in ("*", operation) and self.to in (None, to)


class _Standing:
    """A rule and how often it has been met and has fired."""

    __slots__ = ("fired", "met", "rule", "turned_away")

    def __init__(self, rule: FaultRule) -> None:
        self.rule = rule
        self.met = 0
        self.fired = 0
        self.turned_away: set[str | None] = set()

    def fires(self, to: str | None, random: Random) -> bool:
        rule = self.rule
        if rule.times is not None and self.fired >= rule.times:
            return False
        if rule.fault is Fault.STALE_TOKEN and rule.times is None and to in self.turned_away:
            self.turned_away.remove(to)
            return False
        self.met += 1
        if self.met <= rule.after:
            return False
        if rule.probability < 1.0 and random.random() >= rule.probability:
            return False
        self.fired += 1
        if rule.fault is Fault.STALE_TOKEN and rule.times is None:
            self.turned_away.add(to)
        return True


class Faults:
    """The rules in force. All chance comes from *seed*: one seed and one order of requests give one outcome."""

    def __init__(
        self,
        rules: Iterable[FaultRule] = (),
        *,
        rate: float = 0.0,
        kinds: Iterable[Fault | str] = DRAWN_FAULTS,
        seed: int | None = None,
    ) -> None:
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"fault_rate={rate!r}: a share lies between 0 and 1.")
        self.draw_from(rate, kinds)
        self._random = Random(seed)  # noqa: S311  # it must repeat, not surprise
        self._standing = [_Standing(rule) for rule in rules]
        self._magic = self._fresh_magic()

    @staticmethod
    def _fresh_magic() -> dict[str, _Standing]:
        return {number: _Standing(FaultRule(fault, "*", to=number)) for number, fault in _MAGIC.items()}

    @property
    def rate(self) -> float:
        """The share of the sends that chance strikes."""
        return self._rate

    @property
    def kinds(self) -> list[Fault]:
        """The faults that chance draws from."""
        return [rule.fault for rule in self._drawn]

    def draw_from(self, rate: float, kinds: Iterable[Fault | str]) -> None:
        """Let chance strike a share of *rate*, with one of *kinds*; the seeded draw goes on where it was."""
        drawn = tuple(FaultRule(Fault(kind), "*") for kind in kinds)
        if rate and not drawn:
            raise ValueError("fault_rate without fault_kinds: name at least one fault to draw from.")
        self._rate, self._drawn = rate, drawn

    def standing(self) -> list[dict[str, Any]]:
        """List the injected rules, and how often each has struck."""
        return [
            {
                "fault": standing.rule.fault,
                "operation": standing.rule.operation,
                "to": standing.rule.to,
                "times": standing.rule.times,
                "after": standing.rule.after,
                "probability": standing.rule.probability,
                "struck": standing.fired,
            }
            for standing in self._standing
        ]

    def inject(self, rule: FaultRule) -> None:
        """Put one more rule in force, behind those that are."""
        self._standing.append(_Standing(rule))

    def clear(self) -> None:
        """Drop the injected rules and stop the seeded draw; magic destinations stay, as new."""
        self._rate = 0.0
        self._standing.clear()
        self._magic = self._fresh_magic()

    def draw(self, operation: str) -> FaultRule | None:
        """Draw for one arrival whether chance strikes it; only sends are struck."""
        if self._rate == 0.0 or operation not in SENDS or self._random.random() >= self._rate:
            return None
        return self._random.choice(self._drawn)

    def strike(self, operation: str, to: str | None, drawn: FaultRule | None, *, carried_out: bool) -> FaultRule | None:
        """
        Choose what befalls a request, or None.

        Called at the door for the faults that keep a request from being carried out, and again after it was carried
        out for the others, with what `draw` said for it.
        """
        for standing in self._standing:
            rule = standing.rule
            if (
                rule.fault.carried_out is carried_out
                and rule.concerns(operation, to)
                and standing.fires(to, self._random)
            ):
                return rule
        if to is not None and operation in SENDS:
            magic = self._magic.get(to)
            if magic is not None and magic.rule.fault.carried_out is carried_out and magic.fires(to, self._random):
                return magic.rule
        if drawn is not None and drawn.fault.carried_out is carried_out:
            return drawn
        return None
