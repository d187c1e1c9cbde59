"""
What `import pico_async` costs beside the five packages that its core stands on.

    python benchmarks/startup.py

Both are imported in turn, each time in a fresh interpreter, so that the machine's moods fall on both alike; the ratio
is that of the medians. Processor time of the process, not wall time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

FIVE = "httpx, attrs, cattrs, aiolimiter, anyio"
MEASURE = "import time; began = time.process_time(); import {}; print(time.process_time() - began)"


def import_s(modules: str, cache: str) -> float:
    """Import in a fresh interpreter and give the seconds of processor time. All byte code comes from *cache*."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-P", "-c", MEASURE.format(modules)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(ran.stdout)


def main() -> None:
    """Measure in turn and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as cache:
        import_s("pico_async", cache)  # compiles
        pairs = [(import_s(FIVE, cache), import_s("pico_async", cache)) for _ in range(rounds)]
    five, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    spread = statistics.quantiles([five for five, _ in pairs], n=10)
    print(f"the five packages  {five * 1e3:6.1f} ms  (deciles {spread[0] * 1e3:.1f} to {spread[-1] * 1e3:.1f})")
    print(f"pico_async         {ours * 1e3:6.1f} ms")
    print(f"ratio              {ours / five:6.2f}")


if __name__ == "__main__":
    main()
