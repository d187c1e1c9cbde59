"""`python -m pico_async.sandbox` runs the sandbox in a process of its own."""

import argparse
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from pico_async.sandbox.faults import DRAWN_FAULTS, Fault
from pico_async.sandbox.rates import RateRule
from pico_async.sandbox.receipts.receipt import ReceiptForm, Receipts
from pico_async.sandbox.replies import Dialect
from pico_async.sandbox.sandbox import DEFAULT_API_KEY, DEFAULT_PORT, DEFAULT_RATES, Sandbox


def _parse_rate(text: str) -> tuple[str, float | None]:
    name, _, value = text.partition("=")
    return name, None if value == "none" else float(value)


def _parse_amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None


def _parse_faults(text: str) -> tuple[Fault, ...]:
    try:
        return tuple(Fault(kind.strip()) for kind in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. Its defaults are those of `Sandbox`."""
    parser = argparse.ArgumentParser(
        prog="python -m pico_async.sandbox",
        description="Run a stand-in for Pico Cloud until SIGTERM or SIGINT.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free port (default: %(default)s)")
    parser.add_argument("--allow-remote", action="store_true", help="allow an address that other machines can reach")
    parser.add_argument("--username", default="user333")
    parser.add_argument("--api-key", default=DEFAULT_API_KEY)
    parser.add_argument("--rate-rule", choices=[*RateRule, "none"], default=RateRule.SLIDING_LOG.value)
    parser.add_argument(
        "--rate",
        type=_parse_rate,
        action="append",
        default=[],
        metavar="NAME=N",
        help="requests per second, as sms=100 or balance=none; repeatable",
    )
    parser.add_argument("--dialect", choices=list(Dialect), default=Dialect.DOCUMENTED.value)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of the sends that fail, from 0 to 1")
    parser.add_argument("--fault-kinds", type=_parse_faults, default=DRAWN_FAULTS, metavar="A,B")
    parser.add_argument("--duplicate-window-s", type=float)
    parser.add_argument("--balance", type=_parse_amount, default=Decimal("1000.00"))
    parser.add_argument("--price", type=_parse_amount, default=Decimal("0.001"))
    parser.add_argument("--receipts", action="store_true", help="send delivery receipts to the callbacks")
    parser.add_argument("--receipt-form", choices=list(ReceiptForm), default=ReceiptForm.JSON.value)
    parser.add_argument(
        "--receipt-host", action="append", default=[], metavar="HOST", help="may get receipts, too; repeatable"
    )
    parser.add_argument("--template-status", choices=["approved", "pending"], default="approved")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run a sandbox with the options of the command line."""
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        sandbox = Sandbox(
            username=options.username,
            api_key=options.api_key,
            rate_rule=None if options.rate_rule == "none" else options.rate_rule,
            rates={**DEFAULT_RATES, **dict(options.rate)},
            dialect=options.dialect,
            latency_s=options.latency_ms / 1000,
            jitter_s=options.jitter_ms / 1000,
            seed=options.seed,
            fault_rate=options.fault_rate,
            fault_kinds=options.fault_kinds,
            duplicate_window_s=options.duplicate_window_s,
            balance=options.balance,
            price=options.price,
            template_status=options.template_status,
            receipts=Receipts(form=options.receipt_form, allow_hosts=options.receipt_host, seed=options.seed)
            if options.receipts
            else None,
        )
        sandbox.run(options.host, options.port, allow_remote=options.allow_remote)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
