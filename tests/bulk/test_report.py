"""The numbers of a bulk send read like a report when they are printed."""

from __future__ import annotations

from pico_async import BadRequestError, BulkReport, NotSentError, Outcome, SendResult, SmsMessage


def test_a_printed_report_reads_like_a_report() -> None:
    """`print(report)` shows the numbers, why the bulk send ended, and the failures, without a number or a text."""
    message = SmsMessage("8612345678901", "Your code is 1234", key="row-1")
    failures = (
        SendResult(index=3, message=message, outcome=Outcome.REJECTED, error=BadRequestError("POST /sms: HTTP 400.")),
        SendResult(index=8, message=message, outcome=Outcome.NOT_SENT, error=NotSentError("No connection.")),
    )

    report = BulkReport(
        total=12_345,
        accepted=12_300,
        rejected=1,
        not_sent=14,
        in_doubt=10,
        skipped=20,
        suppressed=2,
        elapsed=410.0,
        failures=failures,
        stopped="the session was closed",
    )

    assert str(report).splitlines() == [
        "12,345 messages in 410.0 s: 12,300 accepted, 1 rejected, 12 not sent, 10 in doubt, 20 skipped, 2 suppressed",
        "30.0 accepted a second",
        "ended early: the session was closed",
        "message 3 is rejected: POST /sms: HTTP 400.",
        "message 8 is not sent: No connection.",
        "and 21 more that were not accepted",
    ]
    assert repr(report).startswith("BulkReport(total=12345, ")


def test_a_report_of_nothing_is_one_line() -> None:
    """A report without failures is one line."""
    assert str(BulkReport()) == (
        "0 messages in 0.0 s: 0 accepted, 0 rejected, 0 not sent, 0 in doubt, 0 skipped, 0 suppressed"
    )
