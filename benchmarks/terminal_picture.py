"""
Draw the picture of a bulk send in progress for the README: a terminal while `pico blast` runs.

    pip install -e '.[bench]'
    python -m benchmarks.terminal_picture benchmarks/blast.png    # half a minute

The command runs in a real terminal (a pty), against a sandbox of its own. Chromium draws the screen as it is after a
while. Nothing is typed in.
"""

from __future__ import annotations

import asyncio
import fcntl
import html
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pyte

from tests.support.browser import browser

COLUMNS, LINES = 100, 8
ROWS = 600
SEEN_AFTER_S = 12.0
COMMAND = ["pico", "blast", "people.csv", "--text", "Your code is {{code}}", "--journal", "blast.db", "--sandbox"]
COLOURS = {"default": "#d6deeb", "green": "#7fdb8f", "magenta": "#d7a6ff", "red": "#ff8b8b", "brown": "#ffd479"}


def screen_of(folder: Path) -> pyte.Screen:
    """Run the command for a while, and return the terminal's screen."""
    rows = [f"+8869{n:08},{1000 + n}" for n in range(ROWS)] + ["not a number,1"]
    (folder / "people.csv").write_text("phone,code\n" + "\n".join(rows) + "\n")
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    command = [str(Path(sys.executable).with_name("pico")), *COMMAND[1:]]
    variables = os.environ | {"TERM": "xterm-256color"}
    with subprocess.Popen(command, cwd=folder, stdin=follower, stdout=follower, stderr=follower, env=variables) as ran:
        until = time.monotonic() + SEEN_AFTER_S
        while (left := until - time.monotonic()) > 0:
            if select.select([leader], [], [], left)[0]:
                stream.feed(os.read(leader, 65_536))
        ran.kill()
    os.close(leader)
    os.close(follower)
    return screen


def spans(screen: pyte.Screen) -> Iterator[str]:
    """Yield the screen's lines as HTML."""
    for number, line in enumerate(screen.display):
        if line.strip():
            cells = screen.buffer[number]
            yield "".join(
                f'<span style="color:{_colour(cells[column])}">{html.escape(cells[column].data)}</span>'
                for column in range(len(line.rstrip()))
            )


def _colour(cell: pyte.screens.Char) -> str:
    return COLOURS.get(cell.fg) or f"#{cell.fg}"


async def draw(file: Path) -> None:
    """Draw the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        screen = await asyncio.to_thread(screen_of, Path(folder))
    typed = " ".join(f'"{word}"' if " " in word else word for word in COMMAND)
    body = "\n".join([f'<span style="color:#7fdbca">$</span> {html.escape(typed)}', *spans(screen)])
    page_html = f"""<body style="margin:0;background:#0b1622;display:inline-block">
      <pre style="margin:0;padding:20px 24px;color:{COLOURS["default"]};font:15px/1.5 'DejaVu Sans Mono',monospace"
      >{body}</pre></body>"""
    async with browser(device_scale_factor=1.5) as context:
        page = await context.new_page()
        await page.set_content(page_html)
        await page.locator("pre").screenshot(path=file)


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))
