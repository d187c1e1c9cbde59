"""
These tests check that hostile replies cause only documented errors, leak no secret, and need bounded time and memory.
"""

from __future__ import annotations

import asyncio
import pickle
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import pytest

from pico_async import Accepted, LocalCoordinator, Outcome, PicoError, PicoSession, Rates, errors
from pico_async._engine import decision
from tests.stories.hostile import SECRETS, HostileReply, hostile_reply

pytestmark = pytest.mark.no_cover

API_KEY, TOKEN, TEXT, TO = SECRETS
DOCUMENTED = tuple(kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PicoError))

CALLS: tuple[Callable[[PicoSession], Awaitable[object]], ...] = (
    *[lambda pico: pico.sms.send(TO, TEXT)] * 6,
    lambda pico: pico.mms.send(TO, "https://example.com/a.png", text=TEXT),
    lambda pico: pico.voice.send(TO, TEXT),
    lambda pico: pico.templates.create_sms("c-1", "name", TEXT),
    lambda pico: pico.templates.create_mms("c-1", "name", TEXT),
    lambda pico: pico.campaigns.create("spring"),
    lambda pico: pico.campaigns.list(),
    lambda pico: pico.campaigns.update("c-1", name="summer"),
    lambda pico: pico.campaigns.delete("c-1"),
    lambda pico: pico.templates.list(),
    lambda pico: pico.templates.delete("t-1"),
    lambda pico: pico.balance.get(),
    lambda pico: pico.token.get(),
)
SENDS, WITH_TEXT = range(8), range(10)
TOKEN_REQUEST = len(CALLS) - 1


class HostilePico:
    """A server that answers each request with the reply of `number`, and the token requests before it as usual."""

    def __init__(self) -> None:
        self.number = 0
        self.honest_tokens = True
        self.given: HostileReply | None = None
        self.base_url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, and close it after a reply without a payload, except after a reply of `_leftovers`."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                if head.startswith(b"get /token/") and self.honest_tokens:
                    body = b'{"token": "%s"}' % TOKEN.encode()
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                    await writer.drain()
                    continue
                self.given = hostile_reply(self.number)
                writer.write(self.given.raw)
                await writer.drain()
                if self.given.payload is None and not self.given.raw.startswith(b"HTTP/1.1 500 X"):
                    break
        writer.close()

    async def aclose(self) -> None:
        """Close the server's connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def no_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """End each call instead of a retry, because the server would send the same reply."""
    monkeypatch.setattr(decision, "MAX_WAIT_S", 0.0)


@asynccontextmanager
async def hostile_pico() -> AsyncIterator[tuple[HostilePico, PicoSession, LocalCoordinator]]:
    """Run a server with a session to it; each call gets one hostile reply."""
    server = HostilePico()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    unpaced = LocalCoordinator(Rates(sms=None, token=None, balance=None))
    async with PicoSession(
        username="user333",
        api_key=API_KEY,
        sender="s",
        base_url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}",
        timeout=0.6,
        retries=0,
        coordinator=unpaced,
    ) as pico:
        yield server, pico, unpaced
    listening.close()
    await server.aclose()
    await listening.wait_closed()


def assert_documented(error: PicoError, number: int, call: int) -> None:
    """Check that the error is documented, contains no secret, is short, and can be pickled."""
    assert type(error) in DOCUMENTED, number
    told = f"{error} {error!r} {vars(error)}"
    # Only what the request carried is a secret here: the client cannot distinguish the rest from Pico's own words.
    carried = {API_KEY: True, TOKEN: call != TOKEN_REQUEST, TEXT: call in WITH_TEXT, TO: call in SENDS}
    secrets = [secret for secret, there in carried.items() if there]
    assert [secret for secret in secrets if secret in told] == [], number
    assert len(told) < 10_000, number
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error)), number


async def answer_of(call: Awaitable[object]) -> object:
    try:
        return await call
    except PicoError as error:
        return error


async def ask(replies: Iterable[int]) -> Counter[str]:
    """Make one call for each reply's number, check its answer, and count the answers by their kind."""
    outcomes: Counter[str] = Counter()
    numbers = iter(replies)

    async def work() -> None:
        async with hostile_pico() as (server, pico, coordinator):
            for server.number in numbers:
                call = server.number % len(CALLS)
                server.honest_tokens = call != TOKEN_REQUEST
                server.given = None
                await coordinator.token.keep(TOKEN)

                answer = await answer_of(CALLS[call](pico))

                if isinstance(answer, PicoError):
                    assert_documented(answer, server.number, call)
                outcomes[answer.outcome if isinstance(answer, PicoError) else "value"] += 1
                if call in SENDS:
                    assert_a_send_is_judged(answer, server.given, server.number)

    # Each task has a server of its own, so that each result can be compared with its reply.
    await asyncio.gather(*(work() for _ in range(24)))
    return outcomes


@pytest.mark.parametrize("count", [700, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
async def test_any_reply_ends_as_a_value_or_a_documented_error(count: int) -> None:
    """
    Any reply ends as a value or as a documented error.

    A send is accepted only by a 2xx reply with a `request_id`. Otherwise, a send that was written is rejected or in
    doubt.
    """
    outcomes = await ask(range(count))

    assert outcomes.total() == count
    # How many results there are of each kind depends on how many replies arrive within the timeout.
    assert {"value", Outcome.REJECTED, Outcome.IN_DOUBT} <= set(outcomes)


@pytest.mark.parametrize("count", [72, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
async def test_no_reply_takes_much_memory(count: int) -> None:
    """24 clients and their servers together stay below 256 MiB, although some replies decompress to 100 MB each."""
    replies = {number: hostile_reply(number).raw for number in range(1000)}
    large = [number for number, raw in replies.items() if len(raw) > 90_000 and b"content-encoding" in raw[:80]]
    assert large

    tracemalloc.start()
    try:
        await ask([*large, *range(count)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 256 * 2**20


def assert_a_send_is_judged(answer: object, reply: HostileReply | None, number: int) -> None:
    """Compare the result of a send with the reply that the server sent."""
    if isinstance(answer, Accepted):
        assert reply is not None
        assert reply.status is not None
        assert 200 <= reply.status < 300, number
        assert answer.request_id
        assert answer.request_id != "poison", number
        return
    assert isinstance(answer, PicoError)
    if reply is None:
        return
    if answer.outcome is Outcome.NOT_SENT and "there is no token" in str(answer):
        # The token was refused, and on a busy machine no new token arrived in time.
        assert reply.status == 401 or "401" in str(reply.payload), (number, answer)
        return
    # The request was written: only a refusal proves that the message was not sent.
    assert answer.outcome in (Outcome.REJECTED, Outcome.IN_DOUBT), (number, answer)
    if 300 <= (reply.status or 0) < 400 and "401" not in str(reply.payload):
        assert answer.outcome is Outcome.IN_DOUBT, (number, answer)
    if reply.payload is None and reply.status == 200:
        assert answer.outcome is Outcome.IN_DOUBT or _refused(answer), (number, answer)


def _refused(error: PicoError) -> bool:
    # A JSON body under an odd head may be a real refusal.
    return error.status_code is not None


@pytest.mark.parametrize("number", range(3))
def test_a_reply_comes_again_by_its_number(number: int) -> None:
    """The same number always makes the same reply, so the number in a failure is enough to repeat it."""
    assert hostile_reply(number) == hostile_reply(number)
