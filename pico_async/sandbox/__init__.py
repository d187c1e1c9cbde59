"""
A stateful stand-in for Pico Cloud, to test and measure clients against.

    sandbox = Sandbox()
    async with sandbox.serve() as base_url: ...                 # on a socket
    httpx.AsyncClient(transport=sandbox.transport())            # without a socket
    python -m pico_async.sandbox --port 8321                    # in a process of its own

Its web page, at the root, shows each message as it arrives.

It is a second, independent reading of the API reference v0.4, and imports nothing of the client. Where the reference is
silent it invents; `BANNER` lists the inventions. Needs the extra: `pip install 'pico-async[sandbox]'`.
"""

try:
    import h11 as _h11  # noqa: F401
    import starlette as _starlette  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as _error:
    raise ImportError("pico_async.sandbox needs starlette and uvicorn: pip install 'pico-async[sandbox]'") from _error

from pico_async.sandbox.banner import BANNER
from pico_async.sandbox.faults import DRAWN_FAULTS, Fault, FaultRule
from pico_async.sandbox.ledger import Arrival, Ledger, Message, Verdict
from pico_async.sandbox.rates import RateRule, replay
from pico_async.sandbox.receipts.receipt import ReceiptForm, Receipts
from pico_async.sandbox.replies import Dialect
from pico_async.sandbox.sandbox import DEFAULT_API_KEY, DEFAULT_PORT, DEFAULT_RATES, Sandbox

__all__ = [
    "BANNER",
    "DEFAULT_API_KEY",
    "DEFAULT_PORT",
    "DEFAULT_RATES",
    "DRAWN_FAULTS",
    "Arrival",
    "Dialect",
    "Fault",
    "FaultRule",
    "Ledger",
    "Message",
    "RateRule",
    "ReceiptForm",
    "Receipts",
    "Sandbox",
    "Verdict",
    "replay",
]
