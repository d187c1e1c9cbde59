"""`python -m tests.examples.bots.on_loopback bot.py URL` runs the bot unchanged, with Telegram's API at URL."""

from __future__ import annotations

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
    runpy.run_path(program, run_name="__main__")
