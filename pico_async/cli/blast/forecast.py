"""The output of `pico blast` before anything is sent, and the output of a dry run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import attrs
from attrs import frozen

from pico_async._characters import described
from pico_async._masking import mask
from pico_async.bulk.preflight_report import Repeat, listed_countries
from pico_async.cli.blast.plan import BlastPlan
from pico_async.cli.blast.scan import SHOWN, Scan
from pico_async.cli.console import printable
from pico_async.cli.format import format_count, format_duration, format_rest, plural


@frozen(kw_only=True)
class Forecast:
    """The counts of a file, and the time and cost of sending it."""

    plan: BlastPlan
    scan: Scan

    @property
    def duration_s(self) -> float:
        """The least number of seconds that the bulk send takes."""
        match = self.scan.match
        kept = 0 if match is None else match.skipped + match.in_doubt + match.refused
        return max(self.scan.preflight.valid - kept, 0) / self.plan.per_s

    @property
    def is_faulty(self) -> bool:
        """Whether rows make no message, or repeat a key while there is a journal, which would not send them."""
        found = self.scan.preflight
        return bool(found.invalid or (self.plan.options.journal is not None and found.repeated_keys))

    def short_lines(self) -> Iterator[str]:
        """Return what a user should see while there is time to press Ctrl-C."""
        found = self.scan.preflight
        items = [format_count(found.total, "row"), self._column]
        if found.invalid:
            items.append(f"{found.invalid:,} invalid")
        if found.suppressed:
            items.append(f"{found.suppressed:,} suppressed")
        if self.scan.match is not None:
            items.append(f"{self.scan.match.skipped:,} accepted before")
        if found.parts > found.valid - found.unmeasured:
            items.append(format_count(found.parts, "part"))
        qualifier = "at least" if self.plan.is_shared else "about"
        items.append(f"{qualifier} {format_duration(self.duration_s)} at {self._speed}")
        yield f"{self.plan.options.file}: {', '.join(items)}."
        if len(found.countries) > 1 or any(country.short for country in found.countries):
            yield f"Country codes: {listed_countries(found.countries)}."
        yield from self._no_sms()
        yield from self._cost()
        yield from self._repeats()

    @property
    def _speed(self) -> str:
        return f"{self.plan.per_s:.1f} per second" + (", shared by the fleet" if self.plan.is_shared else "")

    @property
    def _column(self) -> str:
        return f"numbers from `{self.plan.mapping.to_column}`"

    def _repeats(self) -> Iterator[str]:
        found = self.scan.preflight
        if found.duplicates:
            yield "Duplicates (number and text of an earlier row; they are sent):"
            yield from _listed("repeats", found.repeats, found.duplicates)
        if found.same_number > found.duplicates:
            yield "Repeated numbers (with any text; --once-per-number keeps the first):"
            yield from _listed("has the number of", found.same_numbers, found.same_number)
        if found.repeated_keys:
            reason = "a journal identifies a message by its key"
            is_sent = self.plan.options.journal is None
            yield f"Keys of an earlier row ({'they are sent' if is_sent else f'not sent: {reason}'}):"
            yield from _listed("has the key of", found.key_repeats, found.repeated_keys)

    def _no_sms(self) -> Iterator[str]:
        found = self.scan.preflight
        if found.no_sms:
            yield f"Numbers that take no SMS: {', '.join(map(str, found.no_sms))}."

    def _cost(self) -> Iterator[str]:
        found = self.scan.preflight
        if found.cost is None:
            return
        cost = f"Estimated cost: {found.cost:f} at {found.price:f} per part"
        if found.remaining is None:
            yield f"{cost}."
        elif found.remaining < 0:
            yield f"{cost}; the balance is {found.balance:f}, {-found.remaining:f} too little."
        else:
            yield f"{cost}; the balance is {found.balance:f}, which leaves {found.remaining:f}."

    def lines(self) -> Iterator[str]:
        """Return all lines of a dry run, for a person."""
        found = self.scan.preflight
        yield f"Nothing was sent. {self.plan.options.file}: {format_count(found.total, 'row')}, {self._column}."
        yield f"{found.valid:>9,} to send, which takes {format_duration(self.duration_s)} at {self._speed}"
        if (match := self.scan.match) is not None:
            yield f"{match.skipped:>9,} to skip: accepted according to the journal"
            if match.in_doubt:
                yield f"{match.in_doubt:>9,} in doubt: not sent before `pico journal mark-sent` or `resend`"
            if match.refused:
                yield f"{match.refused:>9,} not sent: key of an earlier row, or of another text in the journal"
        if found.parts:
            encodings = f"{found.gsm7_parts:,} in GSM-7, {found.ucs2_parts:,} in UCS-2"
            yield f"{found.parts:>9,} {plural(found.parts, 'part')}: {encodings}"
        if found.unmeasured:
            yield f"{found.unmeasured:>9,} by template: the number of parts is unknown"
        yield f"{found.invalid:>9,} invalid"
        if opted_out := found.suppressed - self.scan.left_out:
            yield f"{opted_out:>9,} suppressed: the number has opted out"
        if self.scan.left_out:
            yield f"{self.scan.left_out:>9,} left out by --once-per-number"
        yield f"{found.duplicates:>9,} {plural(found.duplicates, 'duplicate')}"
        if found.same_number:
            yield f"{found.same_number:>9,} with the number of an earlier row and any text"
        if found.countries:
            yield f"Country codes: {listed_countries(found.countries)}."
        yield from self._no_sms()
        yield from self._cost()
        if found.forced:
            yield "Characters that most often force UCS-2 (70 characters per part instead of 160):"
            for forced in found.forced[:SHOWN]:
                shown = f"{forced.character} " if forced.character.isprintable() else ""
                yield f"  {shown}{forced} {plural(forced.messages, 'message')}"
        if found.faults:
            yield "Invalid rows:"
            yield from (f"  line {fault.index}: {printable(fault.reason)}" for fault in found.faults[:SHOWN])
            yield from format_rest(found.invalid, min(SHOWN, len(found.faults)))
        yield from self._repeats()
        if self.scan.samples:
            yield "The first messages:"
            for sample in self.scan.samples:
                content = sample.message.text or f"template {sample.message.template_id}"
                yield f"  line {sample.line}, to {mask(sample.message.to)}: {printable(content)}"

    def as_json(self) -> dict[str, Any]:
        """Return the same for a program."""
        found = self.scan.preflight
        return {
            "dry_run": True,
            "total": found.total,
            "valid": found.valid,
            "invalid": found.invalid,
            "suppressed": found.suppressed,
            "left_out": self.scan.left_out,
            "duplicates": found.duplicates,
            "same_number": found.same_number,
            "countries": {country.code: country.messages for country in found.countries},
            "no_sms": {kind.name: kind.messages for kind in found.no_sms},
            "parts": found.parts,
            "gsm7_parts": found.gsm7_parts,
            "ucs2_parts": found.ucs2_parts,
            "unmeasured": found.unmeasured,
            "forced_ucs2": [
                {"character": forced.character, "is": described(forced.character), "messages": forced.messages}
                for forced in found.forced
            ],
            # As strings, because a float would change the decimal.
            "price": _as_string(found.price),
            "estimated_cost": _as_string(found.cost),
            "balance": _as_string(found.balance),
            "per_s": round(self.plan.per_s, 2),
            "duration_s": round(self.duration_s, 1),
            "invalid_rows": [{"line": fault.index, "reason": fault.reason} for fault in found.faults[:SHOWN]],
            "duplicate_rows": repeated_lines(found.repeats),
            "same_number_rows": repeated_lines(found.same_numbers),
            "repeated_keys": found.repeated_keys,
            "repeated_key_rows": repeated_lines(found.key_repeats),
            "journal": None if self.scan.match is None else attrs.asdict(self.scan.match),
            "samples": [
                {"line": sample.line, "to": mask(sample.message.to), "text": sample.message.text}
                for sample in self.scan.samples
            ],
        }


def _listed(relation: str, repeats: Sequence[Repeat], total: int) -> Iterator[str]:
    yield from (f"  line {repeat.index} {relation} line {repeat.first}" for repeat in repeats[:SHOWN])
    yield from format_rest(total, min(SHOWN, len(repeats)))


def repeated_lines(repeats: Sequence[Repeat]) -> list[dict[str, int]]:
    """Return the lines of the first repeats, for a program."""
    return [{"line": repeat.index, "first_line": repeat.first} for repeat in repeats[:SHOWN]]


def _as_string(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"
