"""`pico` on a real terminal, as somebody who sits there sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

from tests.cli.processes import PICO, Ran, environment


def on_terminal(*args: object, env: dict[str, str], columns: int = 80, typed: str = "", colours: bool = False) -> Ran:
    """
    Run `pico` on a terminal of that width; what it says on stderr is on the screen, too.

    Args:
        typed: What is typed once it asks something.
        colours: Leave NO_COLOR out.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    settings = environment(env | {"TERM": "xterm-256color"})
    settings.pop("COLUMNS")
    if colours:
        settings.pop("NO_COLOR")

    def sit_there() -> None:
        # Without a controlling terminal, Ctrl-C would be a character like any other.
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        [PICO, *map(str, args)],
        env=settings,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=sit_there,
    ) as process:
        os.close(theirs)
        screen, deadline = b"", time.monotonic() + 30
        try:
            while time.monotonic() < deadline:
                if not select.select([ours], [], [], 0.2)[0]:
                    continue
                try:
                    part = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                screen += part
                if typed and b"[y/N]" in screen:
                    os.write(ours, typed.encode())
                    typed = ""
            code = process.wait(10)
        finally:
            process.kill()
            os.close(ours)
    said = screen.decode().replace("\r\n", "\n")
    # What makes the headers bold is `pico`'s own; all other sequences stay.
    return Ran(code, said if colours else said.replace("\x1b[1m", "").replace("\x1b[0m", ""), "")
