"""What can be changed in a running sandbox: how slow, how strict, in which dialect, and how often it fails."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from attrs import asdict, evolve, fields_dict

from pico_async.sandbox.app import Pace
from pico_async.sandbox.faults import Fault, Faults
from pico_async.sandbox.operations import RATES
from pico_async.sandbox.rates import RateRule, limiter
from pico_async.sandbox.receipts.delivery import Postman
from pico_async.sandbox.receipts.receipt import Receipts
from pico_async.sandbox.replies import Dialect
from pico_async.sandbox.state import Cloud

LONGEST_WAIT_S = 3600.0

# The hosts and the transport are chosen by who starts the sandbox, not by who reaches its page.
_RECEIPTS = frozenset(fields_dict(Receipts)) - {"allow_hosts", "transport"}


class Dials:
    """The running sandbox's settings: read as one object, changed in part."""

    def __init__(
        self,
        *,
        pace: Pace,
        cloud: Cloud,
        faults: Faults,
        postman: Postman,
        rate_rule: RateRule | None,
        rates: Mapping[str, float | None],
    ) -> None:
        self._pace = pace
        self._cloud = cloud
        self._faults = faults
        self._postman = postman
        self._rate_rule = rate_rule
        self._rates: dict[str, float | None] = {name: rates.get(name) for name in sorted(RATES)}
        # What "on" means where nobody said more.
        self._receipts = postman.receipts or Receipts()
        self.changes = 0

    @property
    def sms_rate(self) -> float | None:
        """How many messages a second are let through; None for no limit."""
        return None if self._rate_rule is None else self._rates["sms"]

    def read(self) -> dict[str, Any]:
        """Give the settings, as JSON takes them."""
        receipts = asdict(
            self._receipts, filter=lambda attribute, _: attribute.name not in ("transport", "allow_hosts")
        )
        return {
            "latency_s": self._pace.latency_s,
            "jitter_s": self._pace.jitter_s,
            "rate_rule": self._rate_rule,
            "rates": self._rates,
            "dialect": self._cloud.dialect,
            "fault_rate": self._faults.rate,
            "fault_kinds": self._faults.kinds,
            "faults": self._faults.standing(),
            "receipts": {**receipts, "on": self._postman.receipts is not None},
        }

    def change(self, wanted: object) -> None:
        """
        Change what *wanted* names, all of it or, with ValueError or TypeError, nothing.

        A rate rule or a rate that changes begins to count anew.
        """
        if not isinstance(wanted, dict):
            raise TypeError("settings: an object with what is to change.")
        known = {*self.read()} - {"faults"}
        if unknown := set(wanted) - known:
            raise ValueError(
                f"no such setting: {', '.join(sorted(map(repr, unknown)))}. Known: {', '.join(sorted(known))}."
            )
        latency_s = _seconds(wanted, "latency_s", self._pace.latency_s)
        jitter_s = _seconds(wanted, "jitter_s", self._pace.jitter_s)
        rate_rule = self._wanted_rule(wanted)
        rates = {**self._rates, **_rates(wanted.get("rates", {}))}
        dialect = Dialect(wanted.get("dialect", self._cloud.dialect))
        share = wanted.get("fault_rate", self._faults.rate)
        if not _is_number(share) or not 0 <= share <= 1:
            raise ValueError(f"fault_rate={share!r}: a share lies between 0 and 1.")
        kinds = _kinds(wanted.get("fault_kinds", self._faults.kinds))
        if share and not kinds:
            raise ValueError("fault_rate without fault_kinds: name at least one fault to draw from.")
        receipts, is_on = self._wanted_receipts(wanted.get("receipts", {}))

        self._pace.latency_s, self._pace.jitter_s = latency_s, jitter_s
        for name, rate in rates.items():
            if (rate_rule, rate) != (self._rate_rule, self._rates[name]):
                self._cloud.enforce(name, None if rate_rule is None or rate is None else limiter(rate_rule, rate))
        self._rate_rule, self._rates = rate_rule, rates
        self._cloud.dialect = dialect
        self._faults.draw_from(share, kinds)
        self._receipts = receipts
        if is_on != (self._postman.receipts is not None) or (is_on and receipts != self._postman.receipts):
            self._postman.switch(receipts if is_on else None)
        self.changes += 1

    def _wanted_rule(self, wanted: Mapping[str, Any]) -> RateRule | None:
        rule = wanted.get("rate_rule", self._rate_rule)
        return None if rule is None else RateRule(rule)

    def _wanted_receipts(self, wanted: object) -> tuple[Receipts, bool]:
        is_on = self._postman.receipts is not None
        if not isinstance(wanted, dict):
            raise TypeError("receipts: an object with what is to change.")
        changes = {**wanted}
        is_on = changes.pop("on", is_on)
        if not isinstance(is_on, bool):
            raise TypeError("receipts.on: true or false.")
        if unknown := set(changes) - _RECEIPTS:
            raise ValueError(f"receipts: no such setting: {', '.join(sorted(map(repr, unknown)))}.")
        return evolve(self._receipts, **changes), is_on


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _seconds(wanted: Mapping[str, Any], name: str, default: float) -> float:
    value = wanted.get(name, default)
    if not _is_number(value) or not 0 <= value <= LONGEST_WAIT_S:
        raise ValueError(f"{name}={value!r}: seconds, from 0 to {LONGEST_WAIT_S:g}.")
    return float(value)


def _rates(wanted: object) -> dict[str, float | None]:
    if not isinstance(wanted, dict):
        raise TypeError("rates: an object of names and requests a second.")
    if unknown := set(wanted) - RATES:
        raise ValueError(f"rates: no such rate: {', '.join(sorted(map(repr, unknown)))}.")
    for name, rate in wanted.items():
        if rate is not None and not (_is_number(rate) and 0 < rate <= 1e6):
            raise ValueError(f"rates.{name}={rate!r}: requests a second, more than 0; null lifts it.")
    return wanted


def _kinds(wanted: object) -> list[Fault]:
    if not isinstance(wanted, (list, tuple)):
        raise TypeError("fault_kinds: a list of faults.")
    return [Fault(kind) for kind in wanted]
