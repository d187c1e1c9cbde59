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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

EVERY_S = 0.005
# The limiter's initial jitter allowance: a process that waits longer for a processor may bunch its requests more.
BOUND_S = 0.010
# After this time a test is not repeated again, so that it ends before pytest's timeout.
PATIENCE_S = 60.0

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


def repeat_if_starved(test: Callable[P, None]) -> Callable[P, None]:
    """
    Repeat a test of the rate that failed while the machine starved one of its processes.

    A test that failed while no timer was late by more than `BOUND_S` fails at once. A test that failed in each of its
    runs for `PATIENCE_S` fails, too: a machine that is merely busy lets one of them pass. The test starts its processes
    with `watched`, and can be run twice.
    """

    @functools.wraps(test)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> None:
        global _folder
        give_up_at = time.monotonic() + PATIENCE_S
        for runs in itertools.count(1):
            with tempfile.TemporaryDirectory(prefix="late") as _folder:
                try:
                    return test(*args, **kwargs)
                except Exception as error:
                    late_s = max((float(file.read_text()) for file in Path(_folder).glob("*[0-9]")), default=0.0)
                    if late_s <= BOUND_S or time.monotonic() > give_up_at:
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
    threading.Thread(target=_watch, args=(Path(folder, str(os.getpid())),), daemon=True).start()
    sys.argv = sys.argv[2:]
    # The program must find the same modules as with `python -m`, which searches the working directory.
    sys.path[0] = os.getcwd()
    if Path(program).exists():
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
