"""
`python -m tests.examples.bots.on_loopback bot.py URL` runs the bot unchanged, with Telegram's API at URL.

For each line on stdin, it forks a process that runs the bot, prints the process's ID, and prints its exit code when it
has ended. A fork, because it takes seconds of processor time to import a library.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any


def _aiogram_asks(url: str) -> None:
    import aiogram
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer

    class Bot(aiogram.Bot):
        def __init__(self, token: str, **more: Any) -> None:
            super().__init__(token, session=AiohttpSession(api=TelegramAPIServer.from_base(url)), **more)

    aiogram.Bot = Bot


def _ptb_asks(url: str) -> None:
    from telegram.ext import Application

    builder = Application.builder
    Application.builder = staticmethod(lambda: builder().base_url(f"{url}/bot"))


if __name__ == "__main__":
    program, url = sys.argv[1:]
    # Patch only the library that the program uses, because each library takes a second to import.
    (_aiogram_asks if "aiogram" in program else _ptb_asks)(url)
    for _ in sys.stdin:
        if (process := os.fork()) == 0:
            runpy.run_path(program, run_name="__main__")
            sys.exit()
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
