"""
This module measures late timers, which distinguish a starved machine from a client that sent too fast.

    python late_timers.py FOLDER PROGRAM ARGUMENT ...

This command runs a program (a file, or a module as with `python -m`), and records in the folder how late its timers
were. Processor time that the program itself used does not count: a client that is slow by its own fault does not look
starved.
"""

from __future__ import annotations

import functools
import itertools
import os
import runpy
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

EVERY_S = 0.005
# The limiter begins with this allowance: a process that is later may send requests closer together.
BOUND_S = 0.010
# All runs of a test together end before the time-out of pytest.
REPEAT_FOR_S = 90.0

P = ParamSpec("P")

_folder: str | None = None


def watched(program: str | Path, *arguments: object, flags: Sequence[str] = ()) -> list[str]:
    """
    Return the command that runs a module or a file with Python; inside `repeat_if_starved`, its timers are measured.

    Args:
        flags: Python's own options, as "-X", "dev".
    """
    watch = [__file__, _folder] if _folder is not None else [] if Path(program).exists() else ["-m"]
    return [sys.executable, *flags, *watch, str(program), *map(str, arguments)]


def folder() -> Path | None:
    """Return the folder for `watch_into` inside `repeat_if_starved`; else None."""
    return None if _folder is None else Path(_folder)


def watch_into(folder: Path | None) -> None:
    """Measure the timers of this process; None: measure nothing."""
    if folder is not None:
        threading.Thread(target=_watch, args=(folder / str(os.getpid()),), daemon=True).start()


class RateNotHeldError(AssertionError):
    """A claim about the rate did not hold."""


@contextmanager
def rate_claims() -> Iterator[None]:
    """Mark the assertions of the context as claims about the rate, which do not hold on a starved machine."""
    try:
        yield
    except AssertionError as error:
        raise RateNotHeldError(str(error)) from error


def repeat_if_starved(test: Callable[P, None]) -> Callable[P, None]:
    """
    Repeat a test whose claims about the rate did not hold while the machine starved one of its processes.

    The test fails at once if another assertion failed, or if no timer was late by more than `BOUND_S`. It also fails
    after `REPEAT_FOR_S` of repeats. It starts its processes with `watched` or `watch_into`, and can be run
    twice.
    """

    @functools.wraps(test)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> None:
        global _folder
        began_at = time.monotonic()
        for runs in itertools.count(1):
            run_began_at = time.monotonic()
            # A process that outlives the test may still write into it.
            with tempfile.TemporaryDirectory(prefix="late", ignore_cleanup_errors=True) as _folder:
                try:
                    return test(*args, **kwargs)
                except RateNotHeldError as error:
                    late_s = max((float(file.read_text()) for file in Path(_folder).glob("*[0-9]")), default=0.0)
                    now = time.monotonic()
                    ends_too_late = now + (now - run_began_at) > began_at + REPEAT_FOR_S
                    if late_s <= BOUND_S or ends_too_late:
                        error.add_note(f"Run {runs}. Its timers were up to {late_s * 1000:.0f} ms late.")
                        raise
                finally:
                    _folder = None
        return None

    return repeated


def _watch(file: Path) -> None:
    worst_s = 0.0
    while True:
        began_at, worked_s = time.monotonic(), time.process_time()
        time.sleep(EVERY_S)
        late_s = time.monotonic() - began_at - EVERY_S - (time.process_time() - worked_s)
        if late_s > worst_s:
            worst_s = late_s
            file.with_suffix(".new").write_text(str(late_s))
            file.with_suffix(".new").replace(file)


if __name__ == "__main__":
    _, folder, program, *_ = sys.argv
    watch_into(Path(folder))
    sys.argv = sys.argv[2:]
    # The program must find the same modules as with `python -m`, which searches the working directory.
    sys.path[0] = os.getcwd()
    if Path(program).exists():
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
