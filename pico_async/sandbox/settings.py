"""Settings of a running sandbox: its delays, rates, dialect, chance of faults, and receipts."""

from collections.abc import Mapping
from typing import Any

from attrs import asdict, define, evolve, field, fields_dict

from pico_async.sandbox.app import Delays
from pico_async.sandbox.checks import SHARE, WAIT, is_number
from pico_async.sandbox.faults import Faults
from pico_async.sandbox.operations import RATES
from pico_async.sandbox.rates import RateRule, make_limiter
from pico_async.sandbox.receipts.delivery import ReceiptDelivery
from pico_async.sandbox.receipts.receipt import Receipts
from pico_async.sandbox.replies import Dialect
from pico_async.sandbox.state import Cloud

# Only the code that starts the sandbox chooses hosts and transport: its page could aim receipts at any service.
_RECEIPT_SETTINGS = frozenset(fields_dict(Receipts)) - {"allow_hosts", "transport"}


@define(kw_only=True, eq=False, repr=False)
class Settings:
    """The settings of a running sandbox: read as one JSON object, changed in part. Each change raises *version*."""

    _delays: Delays
    _cloud: Cloud
    _faults: Faults
    _delivery: ReceiptDelivery
    _rate_rule: RateRule | None
    _rates: Mapping[str, float | None]
    _receipts: Receipts = field(init=False)
    version: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._rates = {name: self._rates.get(name) for name in sorted(RATES)}
        # Kept while receipts are off, to turn them on again as they were.
        self._receipts = self._delivery.receipts or Receipts()

    @property
    def sms_rate(self) -> float | None:
        """Messages per second that are admitted; None for no limit."""
        return None if self._rate_rule is None else self._rates["sms"]

    def read(self) -> dict[str, Any]:
        """Return all settings as a JSON object."""
        receipts = asdict(self._receipts, filter=lambda attribute, _: attribute.name in _RECEIPT_SETTINGS)
        return {
            "latency_s": self._delays.latency_s,
            "jitter_s": self._delays.jitter_s,
            "rate_rule": self._rate_rule,
            "rates": self._rates,
            "dialect": self._cloud.dialect,
            "fault_rate": self._faults.rate,
            "fault_kinds": self._faults.kinds,
            "faults": self._faults.active_rules(),
            "receipts": {**receipts, "on": self._delivery.receipts is not None},
        }

    def change(self, wanted: object) -> None:
        """
        Change the settings that *wanted* names; if one is unknown or wrong, raise and change none.

        A rate that changes, or whose rule changes, counts from zero again.
        """
        if not isinstance(wanted, dict):
            raise TypeError("settings: pass an object with the settings to change.")
        known = {*self.read()} - {"faults"}
        if unknown := set(wanted) - known:
            raise ValueError(
                f"no such setting: {', '.join(sorted(map(repr, unknown)))}. Known: {', '.join(sorted(known))}."
            )
        latency_s = _seconds(wanted, "latency_s", self._delays.latency_s)
        jitter_s = _seconds(wanted, "jitter_s", self._delays.jitter_s)
        rate_rule = wanted.get("rate_rule", self._rate_rule)
        rate_rule = None if rate_rule is None else RateRule(rate_rule)
        rates = {**self._rates, **_rates(wanted.get("rates", {}))}
        dialect = Dialect(wanted.get("dialect", self._cloud.dialect))
        share = wanted.get("fault_rate", self._faults.rate)
        SHARE.require("fault_rate", share)
        kinds = wanted.get("fault_kinds", self._faults.kinds)
        if not isinstance(kinds, (list, tuple)):
            raise TypeError("fault_kinds: pass a list of faults.")
        receipts, is_on = self._changed_receipts(wanted.get("receipts", {}))

        # First, because it is the last check: it needs at least one fault for a share.
        self._faults.draw_from(share, kinds)
        self._delays.latency_s, self._delays.jitter_s = latency_s, jitter_s
        for name, rate in rates.items():
            if (rate_rule, rate) != (self._rate_rule, self._rates[name]):
                self._cloud.enforce(name, None if rate_rule is None or rate is None else make_limiter(rate_rule, rate))
        self._rate_rule, self._rates = rate_rule, rates
        self._cloud.dialect = dialect
        self._receipts = receipts
        if is_on != (self._delivery.receipts is not None) or (is_on and receipts != self._delivery.receipts):
            self._delivery.configure(receipts if is_on else None)
        self.version += 1

    def _changed_receipts(self, wanted: object) -> tuple[Receipts, bool]:
        if not isinstance(wanted, dict):
            raise TypeError("receipts: pass an object with the settings to change.")
        changes = {**wanted}
        is_on = changes.pop("on", self._delivery.receipts is not None)
        if not isinstance(is_on, bool):
            raise TypeError("receipts.on: pass true or false.")
        if unknown := set(changes) - _RECEIPT_SETTINGS:
            raise ValueError(f"receipts: no such setting: {', '.join(sorted(map(repr, unknown)))}.")
        return evolve(self._receipts, **changes), is_on


def _seconds(wanted: Mapping[str, Any], name: str, default: float) -> float:
    value = wanted.get(name, default)
    WAIT.require(name, value)
    return float(value)


def _rates(wanted: object) -> dict[str, float | None]:
    if not isinstance(wanted, dict):
        raise TypeError("rates: pass an object of names and requests per second.")
    if unknown := set(wanted) - RATES:
        raise ValueError(f"rates: no such rate: {', '.join(sorted(map(repr, unknown)))}.")
    for name, rate in wanted.items():
        if rate is not None and not (is_number(rate) and 0 < rate <= 1e6):
            raise ValueError(f"rates.{name}={rate!r}: pass more than 0 requests per second, or null for no limit.")
    return wanted
