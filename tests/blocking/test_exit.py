"""A program that uses the blocking client ends cleanly, however it ends, and an interrupt says what it has ended."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path

import pytest

from tests.blocking.programs import run_program, start_program
from tests.support.sandbox_process import SandboxProcess
from tests.support.waiting import PATIENCE_S, wait_until

NUMBER = "8612345678901"
# The sandbox takes such a message, and does not answer.
HANGS = "99900000003"

ENDS = {
    "without close": "",
    "by an error": "raise SystemExit(3)",
    "in a stream": "results = pico.stream_bulk(rows()); results.__enter__(); next(results)",
    "in a dropped stream": "pico.stream_bulk(rows()).__enter__()",
    "with a daemon thread that sends": """
import threading, itertools
began = threading.Event()
def send():
    for number in itertools.count():
        began.set()
        pico.sms.send("8612345678901", f"hi {number}")
threading.excepthook = lambda _: None
threading.Thread(target=send, daemon=True).start()
began.wait()
""",
    "with a call in an exit handler": """
import atexit
@atexit.register
def late():
    try:
        pico.sms.send("8612345678901", "late")
        other.sms.send("8612345678901", "late")
    finally:
        print("after all")
""",
    "with a call after the last handler": """
class Late:
    def __del__(self):
        try:
            pico.sms.send("8612345678901", "late")
        except ConfigurationError as error:
            print(error)
late = Late()
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_by_itself_and_prints_no_warning(tmp_path: Path, quick: SandboxProcess, end: str) -> None:
    """A program that never closes its client ends by itself, with its own exit code, and nothing complains."""
    code = f"""
from pico_async import ConfigurationError, SmsMessage
from pico_async.blocking import Pico

pico, other = Pico(), Pico()
def rows():
    number = 0
    while True:
        number += 1
        yield SmsMessage({NUMBER!r}, f"row {{number}}")
pico.sms.send({NUMBER!r}, "hi")
{ENDS[end]}
"""
    ran = run_program(code, tmp_path, quick)

    assert (ran.returncode, ran.stderr) == (3 if "SystemExit" in ENDS[end] else 0, "")
    assert quick.ledger().sent_to(NUMBER)


PROGRAM = """
import os, signal, sys
from pico_async import CallStarted, Rates, SmsMessage
from pico_async.blocking import Pico

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def on_event(event):
    if wait and isinstance(event, CallStarted):
        interrupt()

wait = False
with Pico(on_event=on_event, rates=Rates(sms=2)) as pico:
    pico.sms.send("8612345678901", "before")
    try:
{call}
    except BaseException as interrupt:
        print("interrupted:", type(interrupt).__name__, *interrupt.__notes__)
    wait = False
    pico.sms.send("8612345678901", "after")
"""

needs_sigint = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")


def interrupted(call: str) -> str:
    """Return a program that makes this call, is interrupted meanwhile, and sends another message afterwards."""
    return PROGRAM.replace("{call}", textwrap.indent(textwrap.dedent(call), " " * 8))


@needs_sigint
@pytest.mark.parametrize("handler", ["default", "another error"])
def test_ctrl_c_cancels_a_call_on_the_wire_and_says_that_it_is_in_doubt(
    tmp_path: Path, quick: SandboxProcess, handler: str
) -> None:
    """A signal while a reply is awaited ends the call at once; the error has a note that it may have been sent."""
    raising = "def stop(*_): raise TimeoutError\nsignal.signal(signal.SIGINT, stop)\n" if handler != "default" else ""
    code = interrupted(f"{raising}pico.sms.send('{HANGS}', 'hi')")
    with start_program(code, tmp_path, quick) as process:
        try:
            wait_until(lambda: quick.ledger().sent_to(HANGS), "Pico has the message")
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()

    assert (process.returncode, errors) == (0, "")
    name = "KeyboardInterrupt" if handler == "default" else "TimeoutError"
    assert output.startswith(f"interrupted: {name} POST /sms: The message may have been sent")
    assert [message.text for message in quick.ledger().sent_to(NUMBER)] == ["before", "after"]


@needs_sigint
def test_ctrl_c_cancels_a_call_that_waits_and_says_that_nothing_was_sent(tmp_path: Path, quick: SandboxProcess) -> None:
    """Ctrl-C while a call waits for its slot ends it, with a note that nothing was sent; and nothing is."""
    ran = run_program(interrupted("wait = True\npico.sms.send('8612345678902', 'hi')"), tmp_path, quick)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "interrupted: KeyboardInterrupt POST /sms: nothing was sent.\n"
    assert [message.text for message in quick.accepted()] == ["before", "after"]


@needs_sigint
def test_ctrl_c_in_the_input_of_a_bulk_send_ends_it_and_reports_each_message(
    tmp_path: Path, quick: SandboxProcess
) -> None:
    """Ctrl-C while the input is read ends the bulk send; `on_result` is called for the messages in flight before."""
    call = """
    def rows():
        for number in range(4):
            yield SmsMessage("8612345678903", f"row {number}")
        interrupt()
        yield None
    results = []
    try:
        pico.send_bulk(rows(), on_result=results.append)
    finally:
        print(sorted(result.index for result in results))
    """
    ran = run_program(interrupted(call), tmp_path, quick)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[0] == "[0, 1, 2, 3]"
    assert "interrupted: KeyboardInterrupt" in ran.stdout
