"""
The cost of a start: the import, and a process that sends one message and ends.

    python -m benchmarks.startup                        # 3 minutes
    python -m benchmarks.startup --rounds 61 --markdown

First, `from pico_async import PicoSession` in comparison with the import of the five packages of its core, and of
others, in processor time. Then a whole process from its start to its exit, in processor time and by the clock. It
imports, opens a session, sends one message to a server that answers at once, closes, and ends. pico_async also fetches
its token. A process that does nothing shows the share of Python itself.

All alternate, each time in a fresh interpreter, so that other work of the machine affects all alike. A ratio is that of
the medians. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median, quantiles
from typing import Any, TypeVar

from benchmarks.clients import API_KEY, BODY, HEADERS, SENDER, TEXT, TO, USERNAME
from benchmarks.lean_pico import lean_pico, messages_at

FIVE = "httpx, attrs, cattrs, aiolimiter, anyio"
# The module that `from pico_async import PicoSession` loads; `import pico_async` by itself loads nothing.
OURS = "pico_async.session"
IMPORTS = {
    "the five packages": FIVE,
    "pico_async": OURS,
    "httpx": "httpx",
    "aiohttp": "aiohttp",
    "twilio, with its async client": "twilio.rest, twilio.http.async_http_client",
    "telnyx": "telnyx",
}
MEASURE = "import time; began = time.process_time(); import {}; print(time.process_time() - began)"

# One argument: the server's address.
NOTHING = "pass"
HTTPX = f"""
import asyncio, sys, httpx
async def main():
    async with httpx.AsyncClient(headers={HEADERS}) as client:
        reply = await client.post(sys.argv[1] + "/sms", json={BODY})
        assert reply.json()["request_id"]
asyncio.run(main())
"""
AIOHTTP = f"""
import asyncio, sys, aiohttp
async def main():
    async with aiohttp.ClientSession(headers={HEADERS}) as client:
        async with client.post(sys.argv[1] + "/sms", json={BODY}) as reply:
            assert (await reply.json())["request_id"]
asyncio.run(main())
"""
TWILIO = f"""
import asyncio, sys
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client
async def main():
    async with AsyncTwilioHttpClient() as http_client:
        client = Client("AC0123456789", "token", http_client=http_client)
        client.api.base_url = sys.argv[1]
        assert (await client.messages.create_async(to={TO!r}, from_={SENDER!r}, body={TEXT!r})).sid
asyncio.run(main())
"""
TELNYX = f"""
import asyncio, sys
from telnyx import AsyncTelnyx
async def main():
    async with AsyncTelnyx(api_key={API_KEY!r}, base_url=sys.argv[1]) as client:
        assert (await client.messages.send(to={TO!r}, from_={SENDER!r}, text={TEXT!r})).data.id
asyncio.run(main())
"""


def pico(imported: str = "", options: str = "") -> str:
    """Return the program that sends one message with pico_async."""
    return f"""
import asyncio, sys
from pico_async import PicoSession{imported}
async def main():
    account = dict(username={USERNAME!r}, api_key={API_KEY!r}, sender={SENDER!r})
    async with PicoSession(**account, base_url=sys.argv[1]{options}) as session:
        assert (await session.sms.send(to={TO!r}, text={TEXT!r})).request_id
asyncio.run(main())
"""


FIRST_SENDS = {
    "nothing": NOTHING,
    "pico": pico(),
    "pico fast": pico(", AiohttpTransport", ", transport=AiohttpTransport()"),
    "httpx": HTTPX,
    "aiohttp": AIOHTTP,
    "twilio": TWILIO,
    "telnyx": TELNYX,
}
PEERS = ("aiohttp", "twilio", "telnyx")
NEEDED = {"pico fast": "aiohttp"} | {name: name for name in PEERS}

Figure = TypeVar("Figure")


# --- measuring


def _environment(cache: str) -> dict[str, str]:
    # All byte code comes from there, so that no measured process compiles.
    return os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}


def import_s(modules: str, cache: str) -> float:
    """Import in a fresh interpreter, and return the seconds of processor time. All byte code comes from *cache*."""
    command = [sys.executable, "-P", "-c", MEASURE.format(modules)]
    ran = subprocess.run(command, env=_environment(cache), capture_output=True, text=True, check=True)
    return float(ran.stdout)


def process_s(program: str, base_url: str, cache: str) -> tuple[float, float]:
    """Run a program in a fresh interpreter, and return its seconds of processor time and by the clock."""
    before, began = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", program, base_url], env=_environment(cache), check=True)
    took_s, after = time.perf_counter() - began, getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took_s


def installed(modules: str) -> bool:
    """Return whether all of these can be imported."""
    return all(find_spec(module.strip().partition(".")[0]) for module in modules.split(","))


def in_turn(rounds: int, measures: dict[str, Callable[[], Figure]]) -> dict[str, list[Figure]]:
    """Measure each so many times, alternately. The first round, which compiles, does not count."""
    figures: dict[str, list[Figure]] = {name: [] for name in measures}
    for number in range(-1, rounds):
        for name, measure in measures.items():
            figure = measure()
            if number >= 0:
                figures[name].append(figure)
    return figures


def measure_all(rounds: int) -> dict[str, Any]:
    """Measure the imports, then the first sends."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    imports = {name: modules for name, modules in IMPORTS.items() if installed(modules)}
    sends = {name: program for name, program in FIRST_SENDS.items() if installed(NEEDED.get(name, "httpx"))}
    with tempfile.TemporaryDirectory() as cache, lean_pico() as base_url:
        imported = in_turn(rounds, {name: partial(import_s, modules, cache) for name, modules in imports.items()})
        sent = in_turn(rounds, {name: partial(process_s, program, base_url, cache) for name, program in sends.items()})
        arrived, expected = messages_at(base_url), (rounds + 1) * (len(sends) - 1)
    if arrived != expected:
        raise RuntimeError(f"{arrived} messages arrived, not {expected}, so there is nothing to compare.")
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("pico-async", "httpx", *PEERS) if installed(_module(name))
    )
    return {
        "date": date,
        "machine": f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}; {packages}",
        "imports": imported,
        "sends": sent,
    }


def _module(package: str) -> str:
    return package.replace("-", "_")


# --- tables

Table = list[tuple[str, ...]]


def import_table(imports: dict[str, list[float]]) -> Table:
    """Return the table of the imports, with the ratio of each to the five packages."""
    rows: Table = [("import", "processor time, ms", "by the five's")]
    five = median(imports["the five packages"])
    rows += [(name, spread(figures), f"{median(figures) / five:.2f}") for name, figures in imports.items()]
    return rows


def send_table(sends: dict[str, list[tuple[float, float]]]) -> Table:
    """Return the table of the first sends."""
    rows: Table = [("first send", "processor time, ms", "by the clock, ms")]
    rows += [(name, *map(spread, zip(*figures, strict=True))) for name, figures in sends.items()]
    return rows


def spread(seconds: Sequence[float]) -> str:
    """Return the median in milliseconds, with the lowest and the highest decile."""
    middle = f"{median(seconds) * 1e3:.0f}"
    if len(seconds) < 3:
        return middle
    lower, *_, upper = quantiles(seconds, n=10)
    return f"{middle} ({lower * 1e3:.0f} to {upper * 1e3:.0f})"


def as_text(rows: Table) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_markdown(rows: Table) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ("---", "---:", "---:"), *rows[1:]))


def main() -> None:
    """Measure, or read a recording, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the recording")
    parser.add_argument("--read", type=Path, metavar="FILE", help="read a recording of --json, and measure nothing")
    chosen = parser.parse_args()
    record = json.loads(chosen.read.read_text()) if chosen.read else measure_all(chosen.rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps(record))
    layout = as_markdown if chosen.markdown else as_text
    rounds = len(record["imports"]["pico_async"])
    print(layout(import_table(record["imports"])), layout(send_table(record["sends"])), sep="\n\n")
    print(f"\nMedian (deciles) of {rounds} rounds. {record['date']}. {record['machine']}.")


if __name__ == "__main__":
    main()
