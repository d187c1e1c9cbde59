"""This server is Telegram's Bot API on loopback: it passes on what users write and keeps what the bot answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio.from_thread
from aiohttp import web

TOKEN = "123456:a-token-that-no-log-may-hold"
_BOT = {"id": 123456, "is_bot": True, "first_name": "Bot", "username": "the_bot"}


class TelegramServer:
    """
    A server for getMe, getUpdates (long poll) and sendMessage, as the two libraries call them.

    Attributes:
        answers: The bot's answers, in order, by chat.
        latency_s: Seconds that it takes to send a message; a bot that disconnects earlier has sent nothing.
    """

    def __init__(self) -> None:
        self.url = ""
        self.latency_s = 0.0
        self.answers: dict[int, list[str]] = {}
        self._updates: list[dict[str, object]] = []
        self._numbers = itertools.count(1)

    def say(self, user: int, text: str) -> None:
        """Send *text* to the bot as *user*."""
        number = next(self._numbers)
        length = len(text.split(maxsplit=1)[0])
        self._updates.append({"update_id": number, "message": _message(number, user, text, length)})

    def wait_for(self, user: int, words: str, within_s: float = 60.0) -> str:
        """Return the first answer to *user* that contains *words*, and delete this answer and those before it."""
        ends_at = time.monotonic() + within_s
        while time.monotonic() < ends_at:
            answers = self.answers.get(user, [])
            for index, answer in enumerate(answers):
                if words in answer:
                    del answers[: index + 1]
                    return answer
            time.sleep(0.01)
        raise AssertionError(f"the bot answered {user}: {self.answers.get(user)}, and not {words!r}")

    async def answer(self, request: web.Request) -> web.Response:
        """Serve one request of the bot."""
        assert request.match_info["token"] == TOKEN
        form = await request.post()
        method = request.match_info["method"].lower()
        result: object = True  # for deleteWebhook, and for other methods that need no other result
        if method == "getme":
            result = _BOT
        elif method == "getupdates":
            offset = int(str(form.get("offset") or 0))
            self._updates = [update for update in self._updates if int(str(update["update_id"])) >= offset]
            for _ in range(int(str(form.get("timeout") or 0)) * 100):
                if self._updates:
                    break
                await asyncio.sleep(0.01)
            result = list(self._updates)
        elif method == "sendmessage":
            user, text = int(str(form["chat_id"])), str(form["text"])
            await asyncio.sleep(self.latency_s)
            if request.transport is None or request.transport.is_closing():
                return web.Response()
            self.answers.setdefault(user, []).append(text)
            result = _message(0, user, text, 0)
        return web.json_response({"ok": True, "result": result})


def _message(number: int, user: int, text: str, command: int) -> dict[str, object]:
    entities = [{"type": "bot_command", "offset": 0, "length": command}] if command else []
    return {
        "message_id": number,
        "date": 1700000000,
        "chat": {"id": user, "type": "private"},
        "from": {"id": user, "is_bot": False, "first_name": "User"},
        "text": text,
        "entities": entities,
    }


@contextmanager
def telegram_server() -> Iterator[TelegramServer]:
    """Run the server on a free port, in a thread of its own."""
    server = TelegramServer()
    app = web.Application()
    app.router.add_post("/bot{token}/{method}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(start)
        try:
            yield server
        finally:
            portal.call(runner.cleanup)
